package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/pack"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

const (
	// tablesEvery is how often tables are looked for that are new at the source. The pause is at least tablesShare times as
	// long as looking took: it lists all that there are.
	tablesEvery = 30 * time.Second
	tablesShare = 100
	// mostOthers is how many of them the status names.
	mostOthers = 100
)

// lookForTables finds tables that were made after the pipeline began and that it would have: nothing copies them, and that is
// said once by the log, and by the status for as long as it is so.
func (p *Pipeline) lookForTables(ctx context.Context) error {
	found, err := p.readCatalog(ctx, &connectorv1.DiscoverRequest{Include: p.spec.Include, Exclude: p.spec.Exclude, NamesOnly: true})
	if err != nil {
		return p.bear("new tables", err)
	}
	known := map[string]bool{}
	for _, t := range p.tables {
		known[t.name()] = true
	}
	var others []string
	take := func(d *connectorv1.DiscoverResponse) error {
		for _, row := range d.Tables {
			if t := (&table{row: row}); !known[t.name()] {
				others = append(others, t.name())
			}
		}
		return nil
	}
	if err := take(found); err != nil {
		return err
	}
	if err := pack.Each(found.Packed, take); err != nil {
		return err
	}
	told := p.others
	p.others = others
	for _, name := range others {
		if !slices.Contains(told, name) {
			p.note("warn", diag.NewTable.New("source › table "+name, nil, "nothing copies it. %s", p.copyOthers()).Error())
		}
	}
	return nil
}

// copyOthers is the command that copies the tables that nothing copies.
func (p *Pipeline) copyOthers() string {
	names := p.others[:min(len(p.others), mostOthers)]
	return fmt.Sprintf("drover copy SRC DST --follow --name %s_more --tables '%s'", p.name, strings.Join(names, ","))
}

// unfollowed reports whether a table is loaded once, although changes are followed: the source does not log them.
func (p *Pipeline) unfollowed(t *table) bool { return p.follow() && t.row.NotLogged }

// notFollowed tells of tables whose rows are those of the load.
func (p *Pipeline) notFollowed() (out []*connectorv1.NotCarried) {
	quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
	for _, t := range p.tables {
		if !p.unfollowed(t) || t.failure != nil {
			continue
		}
		if len(out) == mostOthers {
			return append(out, &connectorv1.NotCarried{Kind: "changes", Object: "…", Reason: diag.Unlogged.ID + ": more tables are not logged"})
		}
		out = append(out, &connectorv1.NotCarried{Kind: "changes", Object: t.name(), Reason: diag.Unlogged.ID + ": the source does not log them, the target has the rows of the load",
			Todo: "ALTER TABLE " + quote(t.row.Source.Schema) + "." + quote(t.row.Source.Name) + " SET LOGGED;  -- at the source, then: drover reload " + p.name + " " + t.name()})
	}
	return out
}

// notCopied tells of tables that nothing copies.
func (p *Pipeline) notCopied() (out []*connectorv1.NotCarried) {
	for i, name := range p.others {
		if i == mostOthers {
			return append(out, &connectorv1.NotCarried{Kind: "table", Object: "…", Reason: fmt.Sprintf("%d more tables were made after the pipeline began", len(p.others)-i)})
		}
		out = append(out, &connectorv1.NotCarried{Kind: "table", Object: name,
			Reason: diag.NewTable.ID + ": it was made after the pipeline began", Todo: p.copyOthers()})
	}
	return out
}
