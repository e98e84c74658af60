package apply

import (
	"context"
	"fmt"

	"github.com/droverdb/drover/internal/diag"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Target is where an effect goes to: one open transaction of a database, or a map in a test. Calls come in
// the order in which they must take effect; a target may gather them, but Fetch sees all that came before.
type Target interface {
	// Fetch reads whole rows by the key columns of keys. found[i] is the row of the answer that belongs to
	// keys[i], -1 (there is none) or TooLarge. The answer has the data columns of the effect's batches; its control columns are
	// not looked at. It may be nil when nothing was found.
	Fetch(ctx context.Context, e *Effect, keys []Ref) (rows *Batch, found []int32, err error)
	// Delete removes e.Deletes. A row that is not there is no error, except in a table without a key.
	Delete(ctx context.Context, e *Effect) error
	// Update sets g.Columns of every image's row. A full image whose row is not there is inserted (or the
	// round is run again in the safe form); a partial one is an error (or, again, the safe form).
	Update(ctx context.Context, e *Effect, g *Group) error
	// Insert adds e.Inserts. When Effect.Safe is not set, rows may be there already: the target replaces
	// them, or fails and runs the round again in the safe form.
	Insert(ctx context.Context, e *Effect) error
	// Renew has the source send the rows of e.Renews as they are now, piece by piece, and writes them; rows of these
	// keys were deleted before. The coverage it answers is kept as that of a Rereader.
	Renew(ctx context.Context, e *Effect) (*rowv1.Coverage, error)
}

// TooLarge is what Fetch finds of a row that must not be held in memory: it is read again at the source.
const TooLarge = -2

// Reread is the source's answer to a question for single keys.
type Reread struct {
	// Rows in the round layout; keys without a row are absent. May be nil.
	Rows     *Batch
	Coverage *rowv1.Coverage
	// Large are keys whose rows are there, but too large for Rows.
	Large [][]byte
}

// Rereader asks the source for the present rows of keys.
type Rereader func(ctx context.Context, e *Effect, keys []Ref) (*Reread, error)

// Run executes a plan. safe turns every update and insert into a delete of the key and an insert of the
// full image, which is right also when rows exchange unique values, or are there when they should not be.
// It may be called again for the same plan after the target rolled back.
func Run(ctx context.Context, p *Plan, t Target, ask Rereader, safe bool) error {
	for _, e := range p.Effects {
		if err := e.run(ctx, t, ask, safe); err != nil {
			return err
		}
	}
	return nil
}

func (e *Effect) run(ctx context.Context, t Target, ask Rereader, safe bool) error {
	if _, gen := e.covers.state(); e.stale || gen != e.gen {
		if err := e.compute(); err != nil {
			return err
		}
	}
	if err := e.resolve(ctx, t, ask); err != nil {
		return err
	}
	if safe {
		if err := e.makeSafe(ctx, t); err != nil {
			return err
		}
	}
	if len(e.Renews) > 0 { // what is there of them must not be in the way of other rows
		e.stale = true
		e.Deletes = append(e.Deletes, e.Renews...)
	}
	if len(e.Deletes) > 0 {
		if err := t.Delete(ctx, e); err != nil {
			return err
		}
	}
	for i := range e.Updates {
		if err := t.Update(ctx, e, &e.Updates[i]); err != nil {
			return err
		}
	}
	if len(e.Inserts) > 0 {
		if err := t.Insert(ctx, e); err != nil {
			return err
		}
	}
	return e.renew(ctx, t)
}

// renew comes last: a row as it is now may take over values that others had before this round. When the round is run
// again, the rows have to be written again, although what was read of them covers their changes.
func (e *Effect) renew(ctx context.Context, t Target) error {
	if len(e.Renews) == 0 {
		return nil
	}
	coverage, err := t.Renew(ctx, e)
	if err != nil {
		return err
	}
	for _, k := range e.Renews {
		e.covers.Add(e.Table.Index, e.Batches[k.Batch].Key(int(k.Row)), coverage)
	}
	e.large = append(e.large[:0], e.Renews...)
	return nil
}

// resolve completes the images that lack columns: target first, then the source.
func (e *Effect) resolve(ctx context.Context, t Target, ask Rereader) error {
	for len(e.needs) > 0 {
		e.stale = true
		if err := e.fetch(ctx, t, carryOld); err != nil {
			return err
		}
		if err := e.fetch(ctx, t, carryOwn); err != nil {
			return err
		}
		if len(e.needs) == 0 {
			return nil
		}
		if err := e.ask(ctx, ask); err != nil {
			return err
		}
		if err := e.compute(); err != nil {
			return err
		}
	}
	return nil
}

// fetch completes the entries whose missing columns are, or may be, at the target.
func (e *Effect) fetch(ctx context.Context, t Target, kind carry) error {
	var keys []Ref
	var who, rest []int32
	for _, i := range e.needs {
		n := &e.entries[i]
		if n.carry != kind {
			rest = append(rest, i)
			continue
		}
		from := n.key
		if kind == carryOld {
			from = n.from
		}
		keys, who = append(keys, from), append(who, i)
	}
	if len(keys) == 0 {
		return nil
	}
	at, found, err := e.load(ctx, t, keys)
	if err != nil {
		return err
	}
	e.needs = rest
	for k, i := range who {
		n := &e.entries[i]
		if found[k] >= 0 {
			e.extend(n.layer, Ref{at, found[k]})
			e.place(n)
			continue
		}
		if found[k] == TooLarge {
			n.state = stateLarge
			e.large, e.Renews = append(e.large, n.key), append(e.Renews, n.key)
			continue
		}
		n.carry--
		if n.state == stateReplaced { // the row at this key is another one, which goes in this round
			n.carry = carryReread
		}
		e.needs = append(e.needs, i)
	}
	return nil
}

// load fetches rows and adds them to the batches as images.
func (e *Effect) load(ctx context.Context, t Target, keys []Ref) (int32, []int32, error) {
	b, found, err := t.Fetch(ctx, e, keys)
	if err != nil {
		return 0, nil, err
	}
	if len(found) != len(keys) {
		return 0, nil, fmt.Errorf("target answered %d of %d keys", len(found), len(keys))
	}
	if b == nil {
		return -1, found, nil
	}
	return e.addExtra(b), found, nil
}

func (e *Effect) addExtra(b *Batch) int32 {
	b.extra = true
	e.Batches = append(e.Batches, b)
	return int32(len(e.Batches) - 1)
}

// ask reads the remaining keys at the source and keeps what the answer covers.
func (e *Effect) ask(ctx context.Context, ask Rereader) error {
	keys := make([]Ref, 0, len(e.needs))
	for _, i := range e.needs {
		n := &e.entries[i]
		if e.answered(n.key) {
			return fmt.Errorf("table %d: a key read again is still incomplete", e.Table.Index)
		}
		keys = append(keys, n.key)
	}
	r, err := ask(ctx, e, keys)
	if err != nil {
		return err
	}
	rows := map[string]Ref{}
	if r.Rows != nil {
		at := e.addExtra(r.Rows)
		for row := range r.Rows.Rows() {
			rows[string(r.Rows.Key(row))] = Ref{at, int32(row)}
		}
	}
	large := map[string]bool{}
	for _, key := range r.Large {
		large[string(key)] = true
	}
	for _, k := range keys {
		key := e.Batches[k.Batch].Key(int(k.Row))
		if large[string(key)] {
			e.large = append(e.large, k)
			continue
		}
		row, ok := rows[string(key)]
		if !ok {
			row = Ref{-1, -1}
		}
		e.rereads = append(e.rereads, reread{key: k, row: row})
		e.covers.Add(e.Table.Index, key, r.Coverage)
	}
	return nil
}

// answered reports whether the source was already asked for the key.
func (e *Effect) answered(key Ref) bool {
	for _, r := range e.rereads {
		if sameKey(e.Batches[r.key.Batch], int(r.key.Row), e.Batches[key.Batch], int(key.Row)) {
			return true
		}
	}
	return false
}

// makeSafe turns everything into deletes and inserts of full images.
func (e *Effect) makeSafe(ctx context.Context, t Target) error {
	if e.FullRow() {
		return nil
	}
	e.stale, e.Safe = true, true
	images := e.Inserts
	e.Inserts = nil
	for i := range e.Updates {
		g := &e.Updates[i]
		if !g.Full {
			if err := e.completeGroup(ctx, t, g); err != nil {
				return err
			}
		}
		images = append(images, g.Images...)
	}
	for _, img := range images {
		e.Deletes = append(e.Deletes, e.KeyRef(img))
	}
	e.Updates, e.Inserts = e.Updates[:0], images
	return nil
}

func (e *Effect) completeGroup(ctx context.Context, t Target, g *Group) error {
	keys := make([]Ref, len(g.Images))
	for i, img := range g.Images {
		keys[i] = e.KeyRef(img)
	}
	at, found, err := e.load(ctx, t, keys)
	if err != nil {
		return err
	}
	missing := 0
	kept := g.Images[:0]
	for i, img := range g.Images {
		switch {
		case found[i] == TooLarge:
			e.large, e.Renews = append(e.large, keys[i]), append(e.Renews, keys[i])
			continue
		case found[i] < 0:
			missing++
		default:
			e.extend(int32(img), Ref{at, found[i]})
		}
		kept = append(kept, img)
	}
	g.Images = kept
	if missing > 0 {
		return MissingRow(e, missing)
	}
	return nil
}

// MissingRow is the error for changes that meet no row.
func MissingRow(e *Effect, n int) error {
	where := "target"
	if t := e.Table.GetTarget(); t != nil {
		where = "target › table " + t.Schema + "." + t.Name
	}
	return diag.About(diag.MissingRow.New(where, nil, "%d changed rows are not there", n), e.Table.GetIndex())
}
