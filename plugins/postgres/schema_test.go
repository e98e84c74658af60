package postgres

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

//go:embed testdata/hostile.sql
var hostileSQL string

func dumped(t testing.TB, url string) []string {
	t.Helper()
	dump, err := dev.DumpSchema(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	// The order of equal objects follows their numbers: compare statements as a sorted list.
	lines := strings.Split(dump, ";\n")
	slices.Sort(lines)
	return lines
}

// differences lists statements that only one side has.
func differences(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, "- "+s)
		}
	}
	for _, s := range b {
		if !slices.Contains(a, s) {
			out = append(out, "+ "+s)
		}
	}
	return out
}

func TestSchema_HostileOneArrivesEqual(t *testing.T) {
	src, dst := dev.Database(t), dev.Database(t)
	dev.MustExec(t, src, hostileSQL)
	all := found(t, src, nil)
	skipped, problems := applied(t, dst, all.Steps, 2)
	for _, p := range problems {
		t.Errorf("%s %s: %s", p.Code, p.Object, p.Reason)
	}
	if skipped > 1 { // the owner is who connects
		t.Errorf("%d steps skipped in an empty database", skipped)
	}
	for _, d := range differences(dumped(t, src), dumped(t, dst)) {
		t.Error(d)
	}
	values := `SELECT sequencename, last_value FROM pg_sequences WHERE schemaname NOT LIKE 'pg_%' ORDER BY 1`
	if a, b := dev.MustQuery(t, src, values), dev.MustQuery(t, dst, values); a != b {
		t.Errorf("sequence values differ:\n%s\n---\n%s", a, b)
	}
	again, problems := applied(t, dst, all.Steps, 2)
	values = ""
	resets := 0
	for _, st := range all.Steps {
		if st.Kind == "sequence value" {
			resets++
		}
	}
	if again != len(all.Steps)-resets || len(problems) > 0 {
		t.Errorf("second apply: %d of %d steps skipped, problems %v", again, len(all.Steps), problems)
	}
}

func TestSchema_ManyTablesAreCheap(t *testing.T) {
	src, dst := dev.Database(t), dev.Database(t)
	dev.MustExec(t, src, `DO $$ BEGIN FOR i IN 1..2000 LOOP
		EXECUTE format('CREATE TABLE t%s (id bigserial PRIMARY KEY, a text NOT NULL, b int DEFAULT 3)', i);
		EXECUTE format('CREATE INDEX t%s_a ON t%s (a)', i, i); IF i % 200 = 0 THEN COMMIT; END IF; END LOOP; END $$`)
	start := time.Now()
	all := found(t, src, nil)
	discovered := time.Since(start)
	start = time.Now()
	_, problems := applied(t, dst, all.Steps, 2)
	t.Logf("2000 tables: discovered in %v, %d steps applied in %v", discovered, len(all.Steps), time.Since(start))
	if len(problems) > 0 || len(all.Tables) != 2000 || discovered > 3*time.Second {
		t.Errorf("%d tables, discovered in %v, problems %v", len(all.Tables), discovered, problems)
	}
	for _, d := range differences(dumped(t, src), dumped(t, dst)) {
		t.Error(d)
		break
	}
	for _, p := range []connectorv1.Phase{inTables, inKeys, inIndexes, inFinish} {
		n := 0
		for _, st := range all.Steps {
			if st.Phase == p {
				n++
			}
		}
		if n < 2000 {
			t.Errorf("phase %s has %d steps", p, n)
		}
	}
	_ = fmt.Sprint
}
