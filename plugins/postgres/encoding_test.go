package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// encoded makes a database of an encoding on the shared server, dropped when the test ends.
func encoded(t *testing.T, encoding string) string {
	t.Helper()
	home := dev.Database(t)
	name := strings.ToLower(encoding) + "_" + dev.MustQuery(t, home, "SELECT current_database()")
	dev.MustExec(t, home, "CREATE DATABASE "+name+" ENCODING '"+encoding+"' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	t.Cleanup(func() {
		if err := dev.Exec(context.Background(), home, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return dev.Shared(t).URL(name)
}

// Text keys are gated by their bytes only where the server sorts them as we see them.
func TestDiscover_TextKeysOfOtherEncodingsAreUnits(t *testing.T) {
	for encoding, want := range map[string]rowv1.GateMode{
		"UTF8": rowv1.GateMode_GATE_MODE_KEYED, "LATIN1": rowv1.GateMode_GATE_MODE_KEYED, "SQL_ASCII": rowv1.GateMode_GATE_MODE_KEYED,
		"WIN1251": rowv1.GateMode_GATE_MODE_UNIT, "EUC_JP": rowv1.GateMode_GATE_MODE_UNIT,
	} {
		url := encoded(t, encoding)
		dev.MustExec(t, url, `CREATE TABLE k (v text PRIMARY KEY); CREATE TABLE n (id int PRIMARY KEY, v text)`)
		for _, table := range found(t, url, nil).Tables {
			if table.Source.Name == "n" && table.Gate != rowv1.GateMode_GATE_MODE_KEYED {
				t.Errorf("%s: %s", encoding, table)
			}
			if table.Source.Name == "k" && table.Gate != want {
				t.Errorf("%s: gate %s (%s), want %s", encoding, table.Gate, table.GateReason, want)
			}
		}
	}
}

func TestCheckSource_WarnsOfAnUnknownEncoding(t *testing.T) {
	for encoding, want := range map[string]bool{"SQL_ASCII": true, "WIN1251": false} {
		got := checked(t, NewSource(), encoded(t, encoding), &connectorv1.CheckRequest{})
		warned := false
		for key := range got {
			warned = warned || strings.HasPrefix(key, "W3014 ")
		}
		if warned != want || !want && len(got) > 0 {
			t.Errorf("%s: %v", encoding, got)
		}
	}
}
