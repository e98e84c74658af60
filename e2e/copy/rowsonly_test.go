package copy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// Rows into tables that somebody made: sequences go on where the source's are, identity columns' too under whatever name, and
// materialised views are filled. What the target lacks of them is named, and only what was done is counted.
func TestNoSchema_SequencesAndMaterialisedViewsGoWithTheRows(t *testing.T) {
	const tables = `CREATE TABLE s (id serial PRIMARY KEY, n int); CREATE TABLE i (id int GENERATED ALWAYS AS IDENTITY %s PRIMARY KEY, n int);
		CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM s;`
	source, target, data := dev.Database(t), dev.TargetDatabase(t), t.TempDir()
	dev.MustExec(t, source, fmt.Sprintf(tables, ""), `CREATE SEQUENCE apart; SELECT nextval('apart'); CREATE MATERIALIZED VIEW lone AS SELECT 1 AS one;
		INSERT INTO s (n) SELECT 1 FROM generate_series(1, 5); INSERT INTO i (n) SELECT 1 FROM generate_series(1, 5); REFRESH MATERIALIZED VIEW m`)
	dev.MustExec(t, target, fmt.Sprintf(tables, "(SEQUENCE NAME mine)"))
	const next = `SELECT nextval('s_id_seq'), nextval(pg_get_serial_sequence('i', 'id')), (SELECT n FROM m)`
	said := harness.MustRun(t, "copy", source, target, "--no-schema", "--data", data).Stdout
	for _, want := range []string{"0 indexes, 0 foreign keys, 2 sequences", "not carried over (2)", `sequence value public.apart: relation "public.apart" does not exist (SQLSTATE 42P01). SELECT pg_catalog.setval(`,
		`materialised view rows public.lone: relation "public.lone" does not exist (SQLSTATE 42P01). REFRESH MATERIALIZED VIEW "public"."lone";`} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in the summary: %s", want, said)
		}
	}
	if got := strings.TrimSpace(dev.MustQuery(t, target, next)); got != "6\t6\t5" {
		t.Errorf("sequences and the view after a copy: %s", got)
	}
	args := []string{"copy", source, target, "--no-schema", "--truncate", "--follow", "--name", "rows", "--data", data}
	dev.MustExec(t, source, "INSERT INTO s (n) VALUES (1); REFRESH MATERIALIZED VIEW m")
	p := harness.Start(t, harness.Command{Args: args})
	awaitPhase(t, "rows", data, "streaming")
	if got := strings.TrimSpace(dev.MustQuery(t, target, `SELECT last_value, (SELECT last_value FROM mine), (SELECT n FROM m) FROM s_id_seq`)); got != "6\t5\t6" {
		t.Errorf("sequences and the view when it follows: %s", got)
	}
	dev.MustExec(t, source, "INSERT INTO i (n) VALUES (1); INSERT INTO s (n) VALUES (1)")
	harness.Eventually(t, 60*time.Second, func() error {
		if got := strings.TrimSpace(dev.MustQuery(t, target, `SELECT last_value, (SELECT last_value FROM mine) FROM s_id_seq`)); got != "7\t6" {
			return fmt.Errorf("the target's sequences are at %s", got)
		}
		return nil
	})
	if said := harness.MustRun(t, "status", "rows", "--data", data, "-o", "json").Stdout; !strings.Contains(said, "public.apart") || !strings.Contains(said, "public.lone") {
		t.Errorf("what the target lacks is left out in silence: %s", said)
	}
	p.Stop(15 * time.Second)
}
