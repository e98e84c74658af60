package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func TestSlotName(t *testing.T) {
	if got := slotName("shop_2"); got != "drover_shop_2" {
		t.Error(got)
	}
	long := slotName(strings.Repeat("x", 200))
	if len(long) != 63 || long == slotName(strings.Repeat("x", 201)) || slotName("Shop") == slotName("shop") || slotName("a-b") == slotName("a.b") {
		t.Errorf("%s, %s, %s", long, slotName("Shop"), slotName("a-b"))
	}
}

func TestPrepareIsIdempotentAndFollowsTheTables(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL, `CREATE TABLE "Odd ""name" (id int PRIMARY KEY)`)
	odd := itemTable(1, `Odd "name`)
	prepare := func(tables ...*rowv1.Table) (*connectorv1.PrepareResponse, error) {
		return r.src.Prepare(t.Context(), &connectorv1.PrepareRequest{Pipeline: r.pipeline(), Tables: tables})
	}
	published := func() string {
		return dev.MustQuery(t, r.url, `SELECT string_agg(tablename, ',' ORDER BY tablename COLLATE "C") FROM pg_publication_tables WHERE pubname = `+literal(slotName(r.pipeline())))
	}
	got, err := prepare(itemTable(0, "item"), odd)
	if err != nil || !got.GetExisted() || string(got.GetPosition()) != string(r.start) {
		t.Fatalf("again: %v, %v", got, err)
	}
	if p := published(); p != `Odd "name,item` {
		t.Errorf("published %s", p)
	}
	if _, err := prepare(odd); err != nil || published() != `Odd "name` {
		t.Errorf("after leaving a table out: %s, %v", published(), err)
	}
	dev.MustExec(t, r.url, `CREATE TABLE bare (id int)`)
	_, err = prepare(itemTable(2, "bare"))
	if e := diag.Find(err); e == nil || e.Code.ID != diag.NoIdentity.ID || !strings.Contains(e.Fix()[0], "REPLICA IDENTITY FULL") {
		t.Errorf("a table without identity: %v", err)
	}
	for i, want := range []int{2, 0} {
		got, err := r.src.Release(t.Context(), &connectorv1.ReleaseRequest{Pipeline: r.pipeline()})
		if err != nil || len(got.GetRemoved()) != want {
			t.Errorf("release %d: %v, %v", i, got, err)
		}
	}
}

func TestReleaseEndsARunningStream(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
	r.run(r.start)
	dev.MustExec(t, r.url, `INSERT INTO item VALUES (1, 'a', NULL)`)
	r.expect("I0 1 a -")
	got, err := r.src.Release(context.Background(), &connectorv1.ReleaseRequest{Pipeline: r.pipeline()})
	if err != nil || len(got.GetRemoved()) != 2 {
		t.Fatalf("release: %v, %v", got, err)
	}
	if e := diag.Find(<-r.done); e == nil || e.Code.Class != diag.Retry {
		t.Errorf("the stream ended with %v", e)
	}
}

func TestPrepareNamesTheMissingRight(t *testing.T) {
	r := newRig(t, sdk.LanePGValues, []*rowv1.Table{itemTable(0, "item")}, itemDDL)
	role := "plain_" + r.pipeline()[:20]
	dev.MustExec(t, r.url, `CREATE ROLE `+ident(role)+` LOGIN`)
	t.Cleanup(func() {
		for _, sql := range []string{`REASSIGN OWNED BY ` + ident(role) + ` TO CURRENT_USER`, `DROP OWNED BY ` + ident(role), `DROP ROLE ` + ident(role)} {
			if err := dev.Exec(context.Background(), r.url, sql); err != nil {
				t.Error(err)
			}
		}
	})
	src := &Source{cfg: Config{URL: strings.Replace(r.url, "postgres@", role+"@", 1), Pipeline: "rights"}}
	_, err := src.Prepare(t.Context(), &connectorv1.PrepareRequest{Pipeline: "rights", Tables: r.tables})
	if e := diag.Find(err); e == nil || e.Code.ID != diag.NoCreate.ID {
		t.Errorf("without CREATE: %v", err)
	}
	dev.MustExec(t, r.url, `ALTER TABLE item OWNER TO `+ident(role), `DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO `+ident(role)+`', current_database()); END $$`)
	_, err = src.Prepare(t.Context(), &connectorv1.PrepareRequest{Pipeline: "rights", Tables: r.tables})
	if e := diag.Find(err); e == nil || e.Code.ID != diag.NoReplication.ID {
		t.Errorf("without REPLICATION: %v", err)
	}
}
