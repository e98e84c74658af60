package plural

import "testing"

func TestOf_OneIsNotMany(t *testing.T) {
	for want, got := range map[string]string{"1 table": Of(1, "table"), "0 tables": Of(int64(0), "table"), "2 foreign keys": Of(2, "foreign key"),
		"1 index": Of(1, "index"), "3 indexes": Of(int32(3), "index"), "-1 rows": Of(-1, "row")} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
