package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arrowio"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// Letters are converted here only where the server might fail at one, and then as the server would. What cannot be converted
// names table and column, and the SQL that is told finds the row.
func TestLetters_AreThoseOfTheServer(t *testing.T) {
	for encoding, c := range map[string]struct{ stored, want, bad string }{
		"UTF8": {}, "LATIN1": {}, "KOI8R": {}, "EUC_JP": {},
		"SQL_ASCII": {`a\303\251b`, "aéb", `a\377b`},
		"WIN1252":   {`a\200\351b`, "a€éb", `a\201b`},
		"WIN1251":   {`\346z`, "жz", `\230`},
	} {
		t.Run(encoding, func(t *testing.T) {
			url := encoded(t, encoding)
			conn, err := connect(t.Context(), Config{URL: url}, "test", connectorv1.Role_ROLE_SOURCE)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			l, err := lettersOf(t.Context(), conn)
			if err != nil || (l == nil) != (c.bad == "") {
				t.Fatal(l, err)
			}
			if l == nil {
				return
			}
			bytes := func(escaped string) (v wireValue) {
				v.kind = valueText
				if err := conn.QueryRow(t.Context(), "SELECT '"+escaped+"'::bytea").Scan(&v.data); err != nil {
					t.Fatal(err)
				}
				return v
			}
			table := itemTable(3, "item")
			good, bad := bytes(c.stored), bytes(c.bad)
			if err := l.value(table, 1, &good); err != nil || string(good.data) != c.want {
				t.Errorf("%q, %v", good.data, err)
			}
			err = l.value(table, 1, &bad)
			wantCode(t, err, diag.RowUnreadable)
			d := diag.Find(err)
			if d.Table != 4 || !strings.Contains(d.Why, "column note") {
				t.Errorf("table %d: %s", d.Table, d.Why)
			}
			dev.MustExec(t, url, itemDDL, "INSERT INTO item VALUES (1, 'ascii'), (2, convert_from('"+c.bad+"', '"+encoding+"'))")
			if found := strings.TrimSpace(dev.MustQuery(t, url, d.Fixes[0])); found != "2" {
				t.Errorf("%s finds %s", d.Fixes[0], found)
			}
		})
	}
}

// A target that has no letter for a value names the table, by statement and by COPY.
func TestApply_ALetterThatTheTargetDoesNotHave(t *testing.T) {
	for _, native := range []string{arrowio.NativePGBinary, arrowio.NativePGText, sdk.LaneArrow} {
		for _, rows := range []int{1, copyRows} {
			t.Run(fmt.Sprintf("%s %d", native, rows), func(t *testing.T) {
				tb := testTable(6, "t", 1, "id int4", "a text")
				url := encoded(t, "LATIN1")
				dev.MustExec(t, url, "CREATE TABLE t (id int PRIMARY KEY, a text)")
				s := openSink(t, url)
				recovered(t, s, 1, position(1, 1))
				st := applyStream(t, s, 1, native, tb)
				var changes []change
				for i := range rows {
					changes = append(changes, ch('I', fmt.Sprint(i), fmt.Sprintf("%d|ж", i)))
				}
				st.begin(10)
				st.batch(tb, nil, changes...)
				st.end(10, false)
				err := st.fails()
				wantCode(t, err, diag.RowRefused)
				if e := diag.Find(err); e.Table != 7 || !strings.Contains(err.Error(), "22P05") {
					t.Errorf("table %d: %v", e.Table, err)
				}
			})
		}
	}
}
