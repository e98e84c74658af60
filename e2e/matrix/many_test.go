package matrix_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// tablesVar asks for another number of tables: 2000 is what the product promises, too many for every run.
const tablesVar = "DROVER_MATRIX_TABLES"

// Many small tables, written to while they are loaded, and one that stays empty.
func TestMatrix_ManySmallTables(t *testing.T) {
	n := 300
	if v, err := strconv.Atoi(os.Getenv(tablesVar)); err == nil {
		n = v
	}
	source, target, data := dev.Database(t), dev.TargetDatabase(t), t.TempDir()
	dev.MustExec(t, source, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
		EXECUTE format('CREATE TABLE small_%%s (id serial PRIMARY KEY, n int, v text)', i); EXECUTE format('CREATE INDEX ON small_%%s (n)', i);
		IF i > 1 THEN EXECUTE format('INSERT INTO small_%%s (n, v) SELECT g, %%L FROM generate_series(1, 50) g', i, 'v'); END IF;
		IF i %% 200 = 0 THEN COMMIT; END IF; END LOOP; END $$`, n),
		"CREATE TABLE customer (id int PRIMARY KEY, name text, n int)")
	s := startScript(t, source, many(n)...)
	p := start(t, data, "small", source, target, "")
	time.Sleep(time.Second)
	s.stop(t)
	caughtUp(t, source, target)
	end(t, p)
	t.Log(harness.RequireEqual(t, source, target, harness.CompareOptions{Sequences: harness.SequencesSkip}))
}

// many are transactions over tables that chance picks.
func many(n int) []string {
	each := func(sql string) string {
		return fmt.Sprintf("DO $$ DECLARE t text; BEGIN FOR i IN 1..5 LOOP t := 'small_' || 1 + (random() * %d)::int; %s END LOOP; END $$", n-1, sql)
	}
	return []string{
		each("EXECUTE format('INSERT INTO %I (n, v) VALUES (1, %L)', t, 'new');"),
		each("EXECUTE format('UPDATE %I SET n = n + 1 WHERE id %% 7 = 3', t);"),
		each("EXECUTE format('DELETE FROM %I WHERE id = (SELECT min(id) FROM %1$I)', t);"),
		each("EXECUTE format('UPDATE %I SET id = id + 100000 WHERE id = (SELECT max(id) FROM %1$I WHERE id < 100000)', t);"),
	}
}
