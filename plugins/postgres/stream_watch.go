package postgres

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// The server sends changes of what the publication holds, and says nothing of what it leaves out. Whoever may alter tables and
// publications does so at any moment, so a stream looks every few seconds whether all that it has to bring is still published,
// whole and without a gap (Invariant 24).

const (
	watchEvery = 3 * time.Second
	// watchShare bounds what looking costs: the pause is at least as many times as long as the look was.
	watchShare = 100
	// mostNamed is how many tables one error names: the next look, of another attempt, finds the others.
	mostNamed = 1000
)

// watch looks after what one stream has to bring.
type watch struct {
	name, where string
	wanted      map[string]uint32 // tables by relationName
	aside       map[uint32]bool   // those of which nothing is expected
	loose       map[string]uint32 // those that the log had nothing of when they were loaded
	shelf       *sdk.Tables
	seen        []published // by the table's number: as they were first seen
	forms       []form      // by the table's number; the zero value: nothing is known
	pub         publication // at the latest look; the zero value before the first

	mu        sync.Mutex
	announced map[uint32]bool // tables that the log has described since the latest look
}

// published is how a table is published. Whoever takes it out and puts it back makes another entry, and whoever drops it and
// makes it again another table.
type published struct {
	table, entry uint32
	whole        bool
	storage      storage
}

// publication is what is asked each time: one row, however many tables there are.
type publication struct {
	Oid, Owner uint32
	Made       int64
	Whole      bool
	// Sum changes with the entries, and with the names and the storage of their tables.
	Sum string
}

func newWatch(name string, aside []uint32) *watch {
	w := &watch{name: name, where: "source › publication " + name, wanted: map[string]uint32{}, aside: map[uint32]bool{},
		loose: map[string]uint32{}, announced: map[uint32]bool{}}
	for _, index := range aside {
		w.aside[index] = true
	}
	return w
}

// expect adds a table as it was discovered.
func (w *watch) expect(t *rowv1.Table) {
	name, index := relationName(t.GetSource().GetSchema(), t.GetSource().GetName()), t.GetIndex()
	w.wanted[name] = index
	if t.GetNotLogged() {
		w.loose[name] = index
	}
	for int(index) >= len(w.seen) {
		w.seen, w.forms = append(w.seen, published{}), append(w.forms, form{})
	}
	w.seen[index].table = t.GetNativeId()
	w.forms[index], _ = readForm(t.GetNativeForm())
}

const publicationSQL = `SELECT p.oid, p.pubowner, p.xmin::text::bigint, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND NOT p.pubviaroot,
	concat_ws(' ', (SELECT concat_ws(' ', sum(hashtextextended(c.relname::text, hashoidextended(r.oid, c.relnamespace::bigint))),
				sum(hashoidextended(c.relfilenode, hashoidextended(c.reltoastrelid, c.oid::bigint * 2048 + c.relnatts))))
			FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid WHERE r.prpubid = p.oid),
		(SELECT sum(hashtextextended(n.nspname::text, n.oid::bigint)) FROM pg_namespace n WHERE n.nspname !~ '^pg_'))
	FROM pg_publication p WHERE p.pubname = $1`

// look returns what it found: a coded error about the tables whose changes do not come any more, about no table if that is
// so of all. err means that it could not look. Repeating it finds the same.
func (w *watch) look(ctx context.Context, conn *pgx.Conn) (found, err error) {
	if len(w.wanted) <= len(w.aside) {
		return nil, nil
	}
	rows, err := conn.Query(ctx, publicationSQL, w.name)
	if err != nil {
		return nil, mapError(err, w.where)
	}
	now, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[publication])
	if errors.Is(err, pgx.ErrNoRows) {
		return diag.PublicationGone.New(w.where, nil, "there is no such publication"), nil
	}
	if err != nil {
		return nil, mapError(err, w.where)
	}
	if found := w.judge(now); found != nil {
		return found, nil
	}
	asked := w.takeAnnounced()
	if now.Sum != w.pub.Sum {
		found, err = w.compare(ctx, conn, asked)
	}
	if found == nil && err == nil {
		found, err = w.lookAtLoose(ctx, conn)
	}
	if found == nil && err == nil {
		found, err = w.lookAtForms(ctx, conn, asked)
	}
	if found == nil && err == nil {
		w.pub = now // older than what was compared: what came in between is looked at again
	} else {
		w.announce(slices.Collect(maps.Keys(asked))...)
	}
	return found, err
}

// ensure is a look whose findings are errors like any other.
func (w *watch) ensure(ctx context.Context, conn *pgx.Conn) error {
	found, err := w.look(ctx, conn)
	if err == nil {
		err = found
	}
	return err
}

// judge tells what is wrong with the publication itself.
func (w *watch) judge(now publication) error {
	was := w.pub
	switch {
	case was.Oid != 0 && was.Oid != now.Oid:
		return diag.PublicationGone.New(w.where, nil, "it was dropped, and another one made under its name")
	case !now.Whole:
		return diag.NotSent.New(w.where, nil, "it does not publish every kind of change any more")
	case was.Oid != 0 && was.Made != now.Made && was.Owner == now.Owner: // another owner alone keeps nothing back
		return diag.NotSent.New(w.where, nil, "it was altered, and altered back")
	}
	return nil
}

// lack is why changes of a table do not come.
type lack struct {
	code diag.Code
	why  string
	fix  []string
}

// lacks of tables, in the order in which they are told; %s is the publication.
var (
	tableGone = lack{diag.SchemaChanged, "the table is not there any more: it was dropped, or has another name",
		[]string{"Create it again at the source, or give it its name back. If it is gone for good there is nothing to do: the target keeps its rows as they were."}}
	tableRemade = lack{code: diag.NotSent, why: "the table was dropped, and another one made under its name"}
	takenOut    = lack{code: diag.NotSent, why: "the publication does not hold it any more"}
	nowLogged   = lack{code: diag.NotSent, why: "it was not logged when it was loaded, and is now: what changed in between is not in the log"}
	rewritten   = lack{diag.NotSent, "an ALTER TABLE gave its rows other values, which are not in the log", []string{"The target needs no ALTER TABLE: names and types of the columns are as they were."}}
	otherTypes  = lack{code: diag.SchemaChanged, why: "columns have another type, and its rows were written anew"}
	partly      = lack{code: diag.NotSent, why: "the publication leaves out rows or columns of it"}
	putBack     = lack{code: diag.NotSent, why: "it was taken out of the publication, and put back"}
	allLacks    = []*lack{&tableGone, &tableRemade, &takenOut, &nowLogged, &partly, &putBack, &otherTypes, &rewritten}
)

// compare finds the tables that lack something, and names all that lack the same. Tables that are stored otherwise than they were
// go to asked: that alone says nothing.
func (w *watch) compare(ctx context.Context, conn *pgx.Conn, asked map[uint32]bool) (found, err error) {
	now, err := w.entries(ctx, conn)
	if err != nil {
		return nil, err
	}
	lacking, missing := map[*lack][]string{}, []string(nil)
	for name, index := range w.wanted {
		if _, loose := w.loose[name]; loose || w.aside[index] {
			continue
		}
		if f := w.forms[index]; f.known() && f.storage != now[index].storage {
			asked[index] = true
		}
		if now[index].entry == 0 {
			missing = append(missing, name)
		} else if l := w.seen[index].lacks(now[index]); l != nil {
			lacking[l] = append(lacking[l], name)
		}
	}
	if err := w.missing(ctx, conn, missing, lacking); err != nil {
		return nil, err
	}
	if found = w.tell(lacking); found == nil {
		w.seen = now
	}
	return found, nil
}

// lacks compares how a table is published with how it was.
func (was published) lacks(now published) *lack {
	switch {
	case was.table != 0 && was.table != now.table:
		return &tableRemade
	case !now.whole:
		return &partly
	case was.entry != 0 && was.entry != now.entry:
		return &putBack
	}
	return nil
}

// entries reads how all tables are published.
func (w *watch) entries(ctx context.Context, conn *pgx.Conn) ([]published, error) {
	rows, err := conn.Query(ctx, `SELECT n.nspname, c.relname, c.oid, r.oid, c.relfilenode, c.reltoastrelid, c.relnatts,
		to_jsonb(r) ->> 'prqual' IS NULL AND to_jsonb(r) ->> 'prattrs' IS NULL
		FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
		JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1`, w.name)
	if err != nil {
		return nil, mapError(err, w.where)
	}
	now := slices.Clone(w.seen) // with the ids of what is not published
	for i := range now {
		now[i].entry = 0
	}
	var schema, name string
	var e published
	_, err = pgx.ForEachRow(rows, []any{&schema, &name, &e.table, &e.entry, &e.storage.file, &e.storage.toast, &e.storage.width, &e.whole}, func() error {
		if index, ok := w.wanted[relationName(schema, name)]; ok {
			now[index] = e
		}
		return nil
	})
	return now, mapError(err, w.where)
}

// missing asks what has become of tables that are not published. What is not in the log never was.
func (w *watch) missing(ctx context.Context, conn *pgx.Conn, names []string, lacking map[*lack][]string) error {
	if len(names) == 0 {
		return nil
	}
	schemas, tables := make([]string, len(names)), make([]string, len(names))
	for i, n := range names {
		schemas[i], tables[i], _ = strings.Cut(n, "\x00")
	}
	rows, err := conn.Query(ctx, `SELECT w.at - 1, coalesce(c.oid, 0), coalesce(c.relpersistence = 'u', false)
		FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(s, t, at)
		LEFT JOIN pg_namespace n ON n.nspname = w.s LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t`, schemas, tables)
	if err != nil {
		return mapError(err, w.where)
	}
	var at int
	var id uint32
	var unlogged bool
	_, err = pgx.ForEachRow(rows, []any{&at, &id, &unlogged}, func() error {
		was := w.seen[w.wanted[names[at]]].table
		l := &takenOut
		_, loose := w.loose[names[at]]
		switch {
		case id == 0:
			l = &tableGone
		case was != 0 && was != id:
			l = &tableRemade
		case loose && unlogged:
			return nil
		case loose:
			l = &nowLogged
		}
		lacking[l] = append(lacking[l], names[at])
		return nil
	})
	return mapError(err, w.where)
}

// lookAtLoose finds tables that are logged by now.
func (w *watch) lookAtLoose(ctx context.Context, conn *pgx.Conn) (found, err error) {
	var names []string
	for name, index := range w.loose {
		if !w.aside[index] {
			names = append(names, name)
		}
	}
	lacking := map[*lack][]string{}
	if err := w.missing(ctx, conn, names, lacking); err != nil {
		return nil, err
	}
	return w.tell(lacking), nil
}

// tell makes the error about all tables that lack the same, nil if none lacks anything.
func (w *watch) tell(lacking map[*lack][]string) error {
	for _, l := range allLacks {
		if names := lacking[l]; len(names) > 0 {
			return w.about(l, names)
		}
	}
	return nil
}

func (w *watch) about(l *lack, names []string) error {
	slices.SortFunc(names, func(a, b string) int { return int(w.wanted[a]) - int(w.wanted[b]) })
	schema, name, _ := strings.Cut(names[0], "\x00")
	e := l.code.New("source › table "+display(schema, name), nil, "%s", l.why).WithFix(l.fix...)
	e.Table = w.wanted[names[0]] + 1
	for _, n := range names[1:min(len(names), mostNamed)] {
		e.Also = append(e.Also, w.wanted[n]+1)
	}
	return e
}
