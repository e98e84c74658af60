package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/apply"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	oidBytea = 17
	oidInt8  = 20
	// flushAt is how many bytes are gathered before the server gets them: it works while we encode.
	flushAt = 1 << 20
)

// sentKind tells what a statement's failure means.
type sentKind uint8

const (
	sentOther sentKind = iota
	sentToken
	sentChange // update or insert in the fast form
	sentSafe   // delete, or insert in the safe form
	sentRow    // delete of whole rows
	sentCommit
)

// sentError is a failed statement of a pipeline.
type sentError struct {
	kind sentKind
	at   subject
	err  error
}

// subject is what a statement is about, for errors: table as in diag.Error.
type subject struct {
	where string
	table uint32
}

func atTable(t *rowv1.Table) subject { return subject{tableWhere(t), t.GetIndex() + 1} }

func (e *sentError) Error() string { return e.err.Error() }
func (e *sentError) Unwrap() error { return e.err }

type sent struct {
	kind sentKind
	at   subject
}

// applySession is the writing session: statements of one round gathered in a pipeline. It implements apply.Target.
type applySession struct {
	pg       *pgconn.PgConn
	pipe     *pgconn.Pipeline
	sent     []sent
	bytes    int
	prepared map[string]string
	names    int
	inTx     bool // pieces of an open round are in the transaction
	lookup   func(table, version uint32) *applyTable
	renew    func(context.Context, *apply.Effect) (*rowv1.Coverage, error)
	params   [][]byte
	bufs     [][]byte
	formats  []int16
}

func newApplySession(conn *pgx.Conn, lookup func(table, version uint32) *applyTable) *applySession {
	return &applySession{pg: conn.PgConn(), prepared: map[string]string{}, lookup: lookup}
}

func (s *applySession) start(ctx context.Context) {
	s.pipe, s.sent, s.bytes = s.pg.StartPipeline(ctx), s.sent[:0], 0
}

// stop leaves pipeline mode; what was not synced is discarded by the server.
func (s *applySession) stop() {
	if s.pipe != nil {
		_ = s.pipe.Close()
		s.pipe = nil
	}
}

func (s *applySession) simple(kind sentKind, sql string) {
	s.exec(kind, subject{where: "target"}, sql, nil, nil)
}

// exec queues a statement; it is prepared the first time it is seen.
func (s *applySession) exec(kind sentKind, at subject, sql string, oids []uint32, params [][]byte) {
	name, ok := s.prepared[sql]
	if !ok {
		s.names++
		name = fmt.Sprintf("a%d", s.names)
		s.prepared[sql] = name
		s.pipe.SendPrepare(name, sql, oids)
		s.sent = append(s.sent, sent{kind, at})
	}
	for len(s.formats) < len(params) {
		s.formats = append(s.formats, 1)
	}
	s.pipe.SendQueryPrepared(name, params, s.formats[:len(params)], []int16{1})
	s.sent = append(s.sent, sent{kind, at})
	for _, p := range params {
		s.bytes += len(p)
	}
	if s.bytes > flushAt {
		s.bytes = 0
		_ = s.pipe.Flush() // a failure comes back from sync
	}
}

// sync waits for everything queued and returns the first failure.
func (s *applySession) sync() error {
	err := s.pipe.Sync()
	if err != nil {
		return err
	}
	n := 0
	var first error
	for {
		res, err := s.pipe.GetResults()
		if rr, ok := res.(*pgconn.ResultReader); ok && err == nil {
			_, err = rr.Close()
		}
		if _, ok := res.(*pgconn.PipelineSync); ok || (res == nil && err == nil) {
			break
		}
		if err != nil {
			if first == nil {
				first = s.failed(n, err)
			}
			var pe *pgconn.PgError
			if !errors.As(err, &pe) {
				break
			}
		}
		n++
	}
	s.sent, s.bytes = s.sent[:0], 0
	if first != nil {
		clear(s.prepared) // what came after the failure was not prepared
	}
	return first
}

func (s *applySession) failed(n int, err error) error {
	if n < len(s.sent) {
		return &sentError{kind: s.sent[n].kind, at: s.sent[n].at, err: err}
	}
	return err
}

// token checks the fence and stores the position (nil: keeps it) in the transaction of the round.
func (s *applySession) token(open *rowv1.ApplyOpen, position []byte) {
	s.exec(sentToken, subject{where: "target › stream of " + open.Pipeline}, `WITH n AS (UPDATE drover.stream SET position = coalesce($3, position), updated = now()
		WHERE pipeline = $1 AND epoch = $2 AND ($3 IS NULL OR position IS NULL OR position <= $3)`+fmt.Sprintf(guard, "1"),
		[]uint32{oidText, oidInt8, oidBytea}, [][]byte{[]byte(open.Pipeline), int8Param(int64(open.Epoch)), position})
}

// tokenIdle moves the position when the log holds nothing for us; it never goes back.
func (s *applySession) tokenIdle(open *rowv1.ApplyOpen, position []byte) {
	s.exec(sentToken, subject{where: "target › stream of " + open.Pipeline}, `WITH n AS (UPDATE drover.stream SET position = greatest(position, $3), updated = now()
		WHERE pipeline = $1 AND epoch = $2`+fmt.Sprintf(guard, "1"),
		[]uint32{oidText, oidInt8, oidBytea}, [][]byte{[]byte(open.Pipeline), int8Param(int64(open.Epoch)), position})
}

// durable waits, in a transaction of its own, until everything committed before it survives a crash: rows are visible while
// the disk (and a synchronous standby) still works, and the ack comes after it. Logs are flushed in order, so one commit that
// waits is enough; only one that has written something waits, and the lock of a row is the least that is written.
func (s *applySession) durable(open *rowv1.ApplyOpen) {
	s.exec(sentOther, subject{where: "target › stream of " + open.Pipeline},
		"SELECT set_config('synchronous_commit', 'on', true) FROM drover.stream WHERE pipeline = $1 FOR NO KEY UPDATE",
		[]uint32{oidText}, [][]byte{[]byte(open.Pipeline)})
}

// rollback undoes the failed attempt: the piece, or the whole transaction.
func (s *applySession) rollback(ctx context.Context) error {
	s.stop()
	sql := "ROLLBACK"
	if s.inTx {
		sql = "ROLLBACK TO SAVEPOINT piece"
	}
	_, err := s.pg.Exec(ctx, sql).ReadAll()
	return err
}

// explain gives a failed attempt its meaning.
func (a *applier) explain(ctx context.Context, err error) error {
	var se *sentError
	var pe *pgconn.PgError
	if !errors.As(err, &se) || !errors.As(err, &pe) {
		return err
	}
	miscount := pe.Code == "22012"
	conflict := pe.Code == "23505" || pe.Code == "23P01"
	switch {
	case se.kind == sentToken && miscount:
		return a.explainToken(ctx)
	case se.kind == sentChange && (miscount || conflict), se.kind == sentCommit && conflict && !a.ses.inTx:
		return fmt.Errorf("%w: %w", errUnsafe, blame(mapError(pe, se.at.where), pe, a.layouts.tables()))
	case se.kind == sentRow && miscount:
		err = diag.MissingRow.New(se.at.where, nil, "a row that was deleted at the source is not there")
	case se.at.table > 0:
		err = rowError(pe, se.at.where)
	default:
		err = mapError(pe, se.at.where)
	}
	if se.at.table > 0 {
		return diag.About(err, se.at.table-1)
	}
	return blame(err, pe, a.layouts.tables())
}

// blame names the table of a constraint that was checked late, at the commit.
func blame(err error, pe *pgconn.PgError, tables []*rowv1.Table) error {
	for _, t := range tables {
		if r := t.GetTarget(); pe.TableName != "" && r.GetName() == pe.TableName && r.GetSchema() == pe.SchemaName {
			diag.Find(err).Where = tableWhere(t)
			return diag.About(err, t.GetIndex())
		}
	}
	return err
}

// explainToken tells a fence from a position that would go back.
func (a *applier) explainToken(ctx context.Context) error {
	where := "target › stream of " + a.open.Pipeline
	if err := a.ses.rollbackAll(ctx); err != nil {
		return mapError(err, where)
	}
	res := a.ses.pg.ExecParams(ctx, "SELECT epoch FROM drover.stream WHERE pipeline = $1 AND epoch = $2",
		[][]byte{[]byte(a.open.Pipeline), int8Param(int64(a.open.Epoch))}, []uint32{oidText, oidInt8}, []int16{1, 1}, nil).Read()
	if res.Err != nil {
		return mapError(res.Err, where)
	}
	if len(res.Rows) == 0 {
		return fencedOut(where, a.open.Epoch)
	}
	return diag.Internal.New(where, nil, "the round is older than the position stored at the target")
}

func (s *applySession) rollbackAll(ctx context.Context) error {
	s.stop()
	s.inTx = false
	_, err := s.pg.Exec(ctx, "ROLLBACK").ReadAll()
	return err
}
