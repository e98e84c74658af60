package postgres

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/droverdb/drover/internal/plural"
)

// leftSQL finds what has no steps. Each branch: kind, object, reason, what to do.
const leftSQL = `
	SELECT 'subscription', quote_ident(s.subname), 'it belongs to replication into the source', 'create it at the target after the cutover'
	FROM pg_subscription s WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
	UNION ALL SELECT 'large objects', count(*)::text || CASE count(*) WHEN 1 THEN ' object' ELSE ' objects' END, 'they are not in the log and in no table', 'export them with pg_dump --blobs and restore them'
	FROM pg_largeobject_metadata HAVING count(*) > 0
	ORDER BY 1, 2`

// readLeft lists what is not carried, so that nothing is left out in silence.
func (c *catalog) readLeft(ctx context.Context) error {
	found, err := list[struct{ Kind, Object, Reason, Todo string }](ctx, c.tx, leftSQL)
	for _, l := range found {
		c.leave(l.Kind, l.Object, l.Reason, l.Todo)
	}
	c.leaveSpaces()
	for _, r := range c.order {
		if c.skipped[r.Oid] != nil {
			c.leave("table", r.display(), "the table patterns leave it out", "widen the patterns if it is wanted")
		}
	}
	if err == nil {
		err = c.leaveSecretOptions(ctx)
	}
	if err == nil {
		err = c.strangersHere(ctx)
	}
	return err
}

// inSpace remembers what lies in a tablespace of its own; alter is the beginning of the statement that would move it there.
func (c *catalog) inSpace(space, alter string) {
	if space != "" {
		c.spaces[space] = append(c.spaces[space], alter+" SET TABLESPACE "+ident(space)+";")
	}
}

// leaveSpaces names each tablespace once: which disks a server has is its own affair, so at the target everything lies
// in the database's default.
func (c *catalog) leaveSpaces() {
	for _, space := range slices.Sorted(maps.Keys(c.spaces)) {
		moves := c.spaces[space]
		c.leave("tablespace", space, plural.Of(len(moves), "object")+" in it; at the target all lies in the database's default",
			"If there is one at the target:\n"+strings.Join(moves, "\n"))
	}
}
