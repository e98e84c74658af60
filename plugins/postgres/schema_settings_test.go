package postgres

import (
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// What the target has set itself is named with both values and kept, for the database and for a role in it; what it has
// not is carried.
func TestSchema_SettingsOfTheTargetAreKeptAndNamed(t *testing.T) {
	src, dst := dev.Database(t), dev.Database(t)
	set := func(url string, settings ...string) {
		for _, s := range settings {
			dev.MustExec(t, url, "DO $x$ BEGIN EXECUTE format($f$"+s+"$f$, current_database()); END $x$")
		}
	}
	set(src, "ALTER DATABASE %1$I SET work_mem = '5MB'", "ALTER DATABASE %1$I SET DateStyle = 'German'", "ALTER DATABASE %1$I SET lock_timeout = '1h'",
		"ALTER ROLE CURRENT_USER IN DATABASE %1$I SET work_mem = '6MB'", "ALTER DATABASE %1$I SET our.thing = 'old'")
	set(dst, "ALTER DATABASE %1$I SET work_mem = '64MB'", "ALTER DATABASE %1$I SET datestyle = 'ISO, YMD'", "ALTER DATABASE %1$I SET our.thing = 'old'")
	all := found(t, src, nil)
	got := checked(t, NewSink(), dst, &connectorv1.CheckRequest{Tables: all.Tables, Steps: all.Steps})
	name := strings.TrimSpace(dev.MustQuery(t, dst, "SELECT current_database()"))
	wants(t, got, map[string]string{"W4012 setting database: work_mem": `ALTER DATABASE "` + name + `" SET "work_mem" TO '5MB'`, "W4012 setting database: DateStyle": "German"})
	if len(got) != 2 {
		t.Errorf("%d problems: %v", len(got), got)
	}
	if _, problems := applied(t, dst, all.Steps, 1); len(problems) != 0 {
		t.Fatal(problems)
	}
	now := strings.Fields(dev.MustQuery(t, dst, `SELECT string_agg(replace((setrole <> 0)::text || ':' || c, ', ', ','), ' ' ORDER BY setrole, c)
		FROM pg_db_role_setting, unnest(setconfig) c WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())`))
	if want := "false:DateStyle=ISO,YMD false:lock_timeout=1h false:our.thing=old false:work_mem=64MB true:work_mem=6MB"; strings.Join(now, " ") != want {
		t.Errorf("the target has %v, want %s", now, want)
	}
}
