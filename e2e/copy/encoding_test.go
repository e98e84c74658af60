package copy_test

import (
	"fmt"
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
