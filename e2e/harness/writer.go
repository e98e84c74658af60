package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// WriterOptions shape a live writer. The zero value does every kind of change, about 200 transactions a second.
type WriterOptions struct {
	Rate       int    // transactions a second; 200 when 0, as many as possible when negative
	MaxChanges int    // changes in one transaction, at most; 5 when 0
	Seed       uint64 // the same seed makes the same choices (not the same values)
	NoDelete   bool
	NoKeys     bool // no changes of key
	// Values makes columns new, by name: SQL that gives a value. Other columns get one by their type, if it is known.
	Values map[string]string
}

// WriterStats counts what a writer committed.
type WriterStats struct {
	Commits, Rollbacks                    int
	Inserts, Updates, Deletes, KeyChanges int // rows, committed
	Refused                               int // transactions that a constraint, a conflict or a deadlock ended
	Lost                                  int // transactions whose connection broke; their outcome is unknown
}

// String is one line.
func (s WriterStats) String() string {
	return fmt.Sprintf("%d commits (%d inserts, %d updates, %d deletes, %d key changes), %d rolled back, %d refused, %d lost",
		s.Commits, s.Inserts, s.Updates, s.Deletes, s.KeyChanges, s.Rollbacks, s.Refused, s.Lost)
}

// add counts the changes of a committed transaction.
func (s *WriterStats) add(o WriterStats) {
	s.Inserts += o.Inserts
	s.Updates += o.Updates
	s.Deletes += o.Deletes
	s.KeyChanges += o.KeyChanges
}

// Writer changes one table until stopped: random inserts, updates, deletes and changes of key, some rolled back,
// some in a savepoint that is. It works on any table: values it cannot invent are copied from other rows.
type Writer struct {
	t      testing.TB
	url    string
	table  *writerTable
	o      WriterOptions
	rnd    *rand.Rand
	cancel context.CancelFunc
	quit   chan struct{}
	done   chan struct{}
	keys   [][]string // known keys, each column as text; some may be gone
	stats  WriterStats
	err    error
}

// StartWriter starts a writer on schema.table. The test's end stops it.
func StartWriter(t testing.TB, url, table string, o WriterOptions) *Writer {
	t.Helper()
	if o.Rate == 0 {
		o.Rate = 200
	}
	if o.MaxChanges == 0 {
		o.MaxChanges = 5
	}
	w := &Writer{t: t, url: url, o: o, rnd: rand.New(rand.NewPCG(o.Seed, 1)), quit: make(chan struct{}), done: make(chan struct{})}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if w.table, err = describe(t.Context(), conn, table, o.Values); err != nil {
		t.Fatal(err)
	}
	if w.keys, err = w.table.sampleKeys(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w.cancel = cancel
	go func() {
		defer close(w.done)
		w.run(ctx)
	}()
	t.Cleanup(func() { w.stop() })
	return w
}

const stopWithin = 30 * time.Second

// Stop lets the transaction at hand finish and reports what was done. An error that no source database should
// cause fails the test. Idempotent.
func (w *Writer) Stop() WriterStats {
	w.t.Helper()
	w.stop()
	if w.err != nil {
		w.t.Errorf("writer on %s: %v", w.table.name, w.err)
	}
	return w.stats
}

func (w *Writer) stop() {
	select {
	case <-w.quit:
	default:
		close(w.quit)
	}
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C: // a paused server answers nothing
	}
	w.cancel()
	<-w.done
}

// run writes until told to quit; it survives a database that goes away and comes back.
func (w *Writer) run(ctx context.Context) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for n, began := 0, time.Now(); !w.stopped(); n++ {
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(ctx, w.url); err != nil {
				conn = nil
				w.sleep(50 * time.Millisecond)
				continue
			}
		}
		if err := w.transact(ctx, conn); err != nil {
			w.err = err
			return
		}
		if w.o.Rate > 0 {
			w.sleep(time.Until(began.Add(time.Duration(n+1) * time.Second / time.Duration(w.o.Rate))))
		}
	}
}

func (w *Writer) stopped() bool {
	select {
	case <-w.quit:
		return true
	default:
		return false
	}
}

func (w *Writer) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.quit:
	case <-timer.C:
	}
}

var errGivenUp = errors.New("rolled back on purpose")

// transact runs one transaction and files its outcome. It returns only what no writer should meet.
func (w *Writer) transact(ctx context.Context, conn *pgx.Conn) error {
	var did WriterStats
	var born [][]string // keys that exist once committed
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for range 1 + w.rnd.IntN(w.o.MaxChanges) {
			if err := w.changeMaybeUndone(ctx, tx, &did, &born); err != nil {
				return err
			}
		}
		if w.rnd.IntN(20) == 0 {
			return errGivenUp
		}
		return nil
	})
	var pg *pgconn.PgError
	switch {
	case err == nil:
		w.stats.Commits++
		w.stats.add(did)
		w.remember(born)
	case errors.Is(err, errGivenUp):
		w.stats.Rollbacks++
	case errors.As(err, &pg) && (expected(pg.Code) || strayed(pg)):
		w.stats.Refused++
	case !errors.As(err, &pg) || pg.Code[:2] == "57" || pg.Code[:2] == "08":
		w.stats.Lost++
		conn.Close(context.WithoutCancel(ctx))
	default:
		return err
	}
	return nil
}

// strayed is a defect of PostgreSQL 18: UPDATE … RETURNING that moves a row to another partition, one with a dropped column, may be refused.
func strayed(pg *pgconn.PgError) bool {
	return pg.Code == "42703" && strings.HasSuffix(pg.Message, "has been dropped")
}

// expected holds for constraints (23), conflicts and deadlocks (40), lock timeouts (55), values out of range (22),
// and tables that are read-only for a while (25006, 42501).
func expected(code string) bool {
	switch code[:2] {
	case "22", "23", "40", "55":
		return true
	}
	return code == "25006" || code == "42501"
}

// changeMaybeUndone does one change; now and then in a savepoint that is rolled back.
func (w *Writer) changeMaybeUndone(ctx context.Context, tx pgx.Tx, did *WriterStats, born *[][]string) error {
	if w.rnd.IntN(20) != 0 {
		return w.change(ctx, tx, did, born)
	}
	err := pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
		var undone WriterStats
		var never [][]string
		if err := w.change(ctx, inner, &undone, &never); err != nil {
			return err
		}
		return errGivenUp
	})
	if errors.Is(err, errGivenUp) {
		return nil
	}
	return err
}

func (w *Writer) change(ctx context.Context, tx pgx.Tx, did *WriterStats, born *[][]string) error {
	key := w.anyKey()
	roll := w.rnd.IntN(100)
	switch {
	case key == nil || roll < 35:
		return w.insert(ctx, tx, key, did, born)
	case roll < 75:
		n, err := w.exec(ctx, tx, w.table.update(w.rnd), key)
		did.Updates += n
		return err
	case roll < 90:
		if w.o.NoDelete {
			return nil
		}
		n, err := w.exec(ctx, tx, w.table.remove(), key)
		did.Deletes += n
		return err
	default:
		if w.o.NoKeys || !w.table.freshKeys {
			return nil
		}
		fresh, err := w.returning(ctx, tx, w.table.rekey(), key)
		did.KeyChanges += len(fresh)
		*born = append(*born, fresh...)
		return err
	}
}

// insert copies the row at key with a new key and some new values, or invents a row when it knows none.
func (w *Writer) insert(ctx context.Context, tx pgx.Tx, key []string, did *WriterStats, born *[][]string) error {
	sql := w.table.invent()
	if key != nil && w.table.freshKeys && w.rnd.IntN(4) != 0 {
		sql = w.table.clone(w.rnd)
	} else {
		key = nil
	}
	if len(w.table.key) == 0 {
		n, err := w.exec(ctx, tx, sql, nil)
		did.Inserts += n
		return err
	}
	fresh, err := w.returning(ctx, tx, sql, key)
	did.Inserts += len(fresh)
	*born = append(*born, fresh...)
	return err
}

func (w *Writer) exec(ctx context.Context, tx pgx.Tx, sql string, key []string) (int, error) {
	tag, err := tx.Exec(ctx, sql, arguments(key)...)
	if err != nil {
		return 0, fmt.Errorf("%w\nin: %s", err, sql)
	}
	return int(tag.RowsAffected()), nil
}

func (w *Writer) returning(ctx context.Context, tx pgx.Tx, sql string, key []string) ([][]string, error) {
	found, err := tx.Query(ctx, sql, arguments(key)...)
	if err == nil {
		var keys [][]string
		if keys, err = pgx.CollectRows(found, pgx.RowTo[[]string]); err == nil {
			return keys, nil
		}
	}
	return nil, fmt.Errorf("%w\nin: %s", err, sql)
}

func arguments(key []string) []any {
	args := make([]any, len(key))
	for i, k := range key {
		args[i] = k
	}
	return args
}

func (w *Writer) anyKey() []string {
	if len(w.keys) == 0 {
		return nil
	}
	return w.keys[w.rnd.IntN(len(w.keys))]
}

const mostKeys = 20000

func (w *Writer) remember(born [][]string) {
	for _, key := range born {
		if len(w.keys) < mostKeys {
			w.keys = append(w.keys, key)
		} else {
			w.keys[w.rnd.IntN(mostKeys)] = key
		}
	}
}
