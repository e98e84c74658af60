package postgres

import (
	"context"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

func TestSorting_OneLocaleHasManyNames(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"LC_COLLATE 'en_US.UTF-8' LC_CTYPE 'en_US.UTF-8'", "LC_COLLATE 'en_US.utf8' LC_CTYPE 'en_US.utf8'", true},
		{"LC_COLLATE 'C' LC_CTYPE 'POSIX'", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C'", true},
		{"LC_COLLATE 'C' LC_CTYPE 'C'", "LC_COLLATE 'C' LC_CTYPE 'en_US.UTF-8'", false},
		{"LC_COLLATE 'C' LC_CTYPE 'C'", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'", false},
		{"LOCALE_PROVIDER icu ICU_LOCALE 'de'", "LOCALE_PROVIDER icu ICU_LOCALE 'de' ICU_RULES '&a < b'", false},
	} {
		if sameSorting(c.a, c.b) != c.same {
			t.Errorf("%s, %s: same is not %t", c.a, c.b, c.same)
		}
	}
}

// Two databases that sort differently are named with what the source's would be made with, which works.
func TestSorting_OfTheTargetIsNamedWhereItDiffers(t *testing.T) {
	home := dev.TargetDatabase(t)
	others := []string{"LC_COLLATE 'C' LC_CTYPE 'C'"}
	if dev.Major(t, home) >= 15 {
		others = append(others, "LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk'")
	}
	name := dev.MustQuery(t, home, "SELECT current_database()") + "_other"
	sorts := func(url string) string {
		opened, err := look(t.Context(), Config{URL: url}, connectorv1.Role_ROLE_SINK)
		if err != nil {
			t.Fatal(err)
		}
		return opened.Sorting
	}
	for _, with := range others {
		dev.MustExec(t, home, "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8' "+with)
		url := dev.SharedTarget(t).URL(name)
		if sorts(url) != with {
			t.Errorf("made with %s it has %s", with, sorts(url))
		}
		for source, differs := range map[string]bool{with: false, "": false, sorts(home): !sameSorting(with, sorts(home)), "LOCALE_PROVIDER icu ICU_LOCALE 'x'": true} {
			got := checked(t, NewSink(), url, &connectorv1.CheckRequest{SourceSorting: source})
			fix, told := got[diag.OtherSorting.ID+" database "+name]
			if told != differs || told && fix != "CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' "+source+";  -- and copy into that, if the order matters" {
				t.Errorf("a source with %s: %v", source, got)
			}
		}
		if err := dev.Exec(context.WithoutCancel(t.Context()), home, "DROP DATABASE "+name); err != nil {
			t.Error(err)
		}
	}
}
