package copy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// A source that is not UTF-8 arrives in UTF-8, by load and by stream, keys included.
func TestFollow_FromAnotherEncoding(t *testing.T) {
	source, target := encoded(t, "WIN1251"), dev.TargetDatabase(t)
	dev.MustExec(t, source, `CREATE TABLE k (v text PRIMARY KEY, n int, j text); INSERT INTO k SELECT 'ключ € Ђ ' || i, i, repeat('ж', i % 90) FROM generate_series(1, 3000) i`)
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--follow", "--data", t.TempDir()}})
	dev.MustExec(t, source, `UPDATE k SET v = 'новый ' || v WHERE n % 5 = 0; DELETE FROM k WHERE n % 7 = 0`)
	p.WaitForOutput(t, "phase=streaming", 60*time.Second)
	dev.MustExec(t, source, `INSERT INTO k SELECT 'ёж ' || i, i, 'Щ' FROM generate_series(1, 500) i; UPDATE k SET j = 'ю' WHERE n % 3 = 0`)
	// The two servers sort text differently, so sums are compared that do not depend on it.
	sum := "SELECT count(*) || ' ' || md5(string_agg(h, ',' ORDER BY h COLLATE \"C\")) FROM (SELECT md5(convert_to(k::text, 'UTF8')) AS h FROM k) x"
	want := dev.MustQuery(t, source, sum)
	harness.Eventually(t, 40*time.Second, func() error {
		if got := dev.MustQuery(t, target, sum); got != want {
			return fmt.Errorf("the target has %s, the source %s", got, want)
		}
		return nil
	})
	p.Stop(15 * time.Second)
	dev.MustExec(t, source, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active")
}

// Text of a target that has the source's own encoding arrives byte by byte, by load and by stream, in both lanes.
func TestFollow_IntoTheSameEncoding(t *testing.T) {
	for encoding, letters := range map[string]string{
		"LATIN1":    `(SELECT convert_from(decode(string_agg(lpad(to_hex(b), 2, '0'), ''), 'hex'), 'LATIN1') FROM generate_series(161, 255) b)`,
		"SQL_ASCII": `E'\xc3\xa9\xd0\xb6\xe2\x82\xac\x7f'::text`,
	} {
		for _, lane := range laneWords {
			t.Run(encoding+" "+lane, func(t *testing.T) { sameEncoding(t, encoding, letters, lane) })
		}
	}
}

var laneWords = []string{"native", "arrow"}

func sameEncoding(t *testing.T, encoding, letters, lane string) {
	home := dev.Database(t)
	var sides [2]string
	for i, side := range []string{"from_", "to_"} {
		name := side + dev.MustQuery(t, home, "SELECT current_database()")
		dev.MustExec(t, home, "CREATE DATABASE "+name+" ENCODING '"+encoding+"' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
		sides[i] = dev.Shared(t).URL(name)
		t.Cleanup(func() {
			if err := dev.Exec(context.Background(), home, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
				t.Error(err)
			}
		})
	}
	source, target := sides[0], sides[1]
	dev.MustExec(t, source, "CREATE TABLE k (v text PRIMARY KEY, n int, a text[]); INSERT INTO k SELECT "+letters+" || i, i, ARRAY["+letters+"] FROM generate_series(1, 2000) i")
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--follow", "--lane", lane, "--data", t.TempDir()}})
	dev.MustExec(t, source, "UPDATE k SET v = "+letters+" || v WHERE n % 5 = 0; DELETE FROM k WHERE n % 7 = 0")
	p.WaitForOutput(t, "phase=streaming", 60*time.Second)
	dev.MustExec(t, source, "INSERT INTO k SELECT 'x' || "+letters+" || i, i, NULL FROM generate_series(1, 500) i; UPDATE k SET a = a || "+letters+" WHERE n % 3 = 0; DELETE FROM k WHERE n % 11 = 0")
	const sum = "SELECT count(*), md5(string_agg(convert_to(k::text, getdatabaseencoding()), ',' ORDER BY v)) FROM k"
	want := dev.MustQuery(t, source, sum)
	harness.Eventually(t, 60*time.Second, func() error {
		if got := dev.MustQuery(t, target, sum); got != want {
			return fmt.Errorf("the target has %s, the source %s", got, want)
		}
		return nil
	})
	if said := p.Stop(15 * time.Second).Stderr; strings.Contains(said, "error E") {
		t.Error(said)
	}
	dev.MustExec(t, source, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active")
}
