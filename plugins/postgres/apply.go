package postgres

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/apply"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// applySettings: rows are found by key through its index, one by one, whatever the statistics of a table that was filled a
// moment ago say (matchKey); a cached plan must not turn into a scan of the table per row, and planning arrays anew for
// every round costs more than it brings. Commits do not wait for the disk: what acknowledges them does (durable).
const applySettings = `SET synchronous_commit = off; SET jit = off; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
	SET enable_bitmapscan = off; SET enable_indexonlyscan = off;
	SET plan_cache_mode = force_generic_plan; SET application_name = `

// appliers waits for readers that outlive their Apply by a moment: only the end of the stream interrupts next.
type appliers struct {
	wg   sync.WaitGroup
	once sync.Once
}

// applier is one Apply stream: a reader goroutine decodes and plans, the caller's goroutine executes.
type applier struct {
	sink    *Sink
	open    *rowv1.ApplyOpen
	planner *apply.Planner
	covers  *apply.Covers
	layouts layouts
	respond func(*connectorv1.ApplyResponse) error

	// items has no buffer: one round is executed while the next one is read and planned, and no third is held.
	items   chan item
	rereads chan *rereadAnswer
	pieces  chan *sdk.Frame // of an answer that follows its header
	waiting []item          // taken from items while a reread was awaited

	ses    *applySession
	rows   int64            // of the open round
	seq    uint64           // of the round at hand, or the last one
	added  []coverRows      // to be stored with the piece at hand
	passed []apply.CoverKey // to be removed with the next round
}

// item is one thing to do, in stream order.
type item struct {
	plan *apply.Plan
	idle *rowv1.Idle
	err  error
}

// coverRows are keys that were read again, by rows of the round that have them.
type coverRows struct {
	e        *apply.Effect
	keys     []apply.Ref
	coverage []byte
}

// Apply applies rounds in order, each with its position in one transaction, and answers after every commit.
// A fence of a newer epoch makes it FencedOut. After an error nothing of the unfinished round is left; a new
// Apply starts from the position Recover tells.
func (s *Sink) Apply(ctx context.Context, next func() (*sdk.Frame, error), respond func(*connectorv1.ApplyResponse) error) error {
	f, err := next()
	if err != nil {
		return err
	}
	open := f.Header.GetApplyOpen()
	f.Free()
	if open == nil {
		return diag.Internal.New("target", nil, "an apply stream must start with apply_open")
	}
	s.appliers.once.Do(func() { s.base.onClose(func() error { s.appliers.wg.Wait(); return nil }) })
	conn, err := connect(ctx, s.cfg, whatApply+strconv.FormatUint(open.Epoch, 10), connectorv1.Role_ROLE_SINK)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tables, err := sdk.NewTables(open.Tables, open.Packed, nil)
	if err != nil {
		return err
	}
	open.Tables, open.Packed = nil, nil
	sdk.GiveBack(tables.Len())
	a := &applier{
		sink: s, open: open, respond: respond, planner: apply.NewPlannerOf(tables), covers: apply.NewCovers(),
		layouts: layouts{all: map[layoutKey]*applyTable{}},
		items:   make(chan item), rereads: make(chan *rereadAnswer), pieces: make(chan *sdk.Frame),
	}
	if err := a.begin(ctx, conn); err != nil {
		return mapError(err, "target › stream of "+open.Pipeline)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.appliers.wg.Go(func() { a.read(ctx, next) })
	return a.execute(ctx)
}

// begin prepares the session and loads what earlier rereads cover.
func (a *applier) begin(ctx context.Context, conn *pgx.Conn) error {
	if err := a.sink.books(ctx, conn); err != nil {
		return err
	}
	name := appName(a.open.Pipeline, whatApply+strconv.FormatUint(a.open.Epoch, 10))
	if _, err := conn.PgConn().Exec(ctx, applySettings+literal(name)).ReadAll(); err != nil {
		return err
	}
	if err := findOperators(ctx, conn); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, "SELECT tbl, key, coverage FROM drover.key_coverage WHERE pipeline = $1", a.open.Pipeline)
	if err != nil {
		return err
	}
	type stored struct {
		Table         int64
		Key, Coverage []byte
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stored])
	if err != nil {
		return err
	}
	for _, r := range all {
		cov := &rowv1.Coverage{}
		if err := proto.Unmarshal(r.Coverage, cov); err != nil {
			return err
		}
		a.covers.Add(uint32(r.Table), r.Key, cov)
	}
	a.ses = newApplySession(conn, a.layouts.get)
	a.ses.renew = a.renew
	return nil
}

// execute takes items until the stream ends.
func (a *applier) execute(ctx context.Context) error {
	for {
		it, ok, err := a.take(ctx)
		if err != nil || !ok {
			return err
		}
		switch {
		case it.err != nil:
			return it.err
		case it.idle != nil:
			err = a.idle(ctx, it.idle)
		default:
			err = a.round(ctx, it.plan)
			it.plan.Release()
		}
		if err != nil {
			return mapError(err, "target › stream of "+a.open.Pipeline)
		}
	}
}

func (a *applier) take(ctx context.Context) (item, bool, error) {
	if len(a.waiting) > 0 {
		it := a.waiting[0]
		a.waiting = a.waiting[1:]
		return it, true, nil
	}
	select {
	case it, ok := <-a.items:
		return it, ok, nil
	case <-ctx.Done():
		return item{}, false, context.Cause(ctx)
	}
}

// errUnsafe asks for the safe form: rows exchange unique values, or are (not) there against expectation.
var errUnsafe = errors.New("round needs the safe form")

// round applies one round or one piece of it.
func (a *applier) round(ctx context.Context, p *apply.Plan) error {
	a.seq = p.Round.Seq
	safe := a.ses.needSafe(p)
	err := a.try(ctx, p, safe)
	if errors.Is(err, errUnsafe) && !safe {
		if err = a.ses.rollback(ctx); err == nil {
			err = a.try(ctx, p, true)
		}
	}
	if err != nil {
		return err
	}
	a.rows += p.Round.Rows()
	if p.Round.Open {
		return nil
	}
	rows := a.rows
	a.rows = 0
	a.passed = append(a.passed, a.covers.Passed(p.Round.Position)...)
	return a.committed(p.Round.Seq, p.Round.Position, rows)
}

func (a *applier) committed(seq uint64, position []byte, rows int64) error {
	return a.respond(&connectorv1.ApplyResponse{Kind: &connectorv1.ApplyResponse_Committed{
		Committed: &connectorv1.RoundAck{Seq: seq, Position: position, Rows: rows},
	}})
}

// try sends the whole round, normally in one round trip.
func (a *applier) try(ctx context.Context, p *apply.Plan, safe bool) error {
	r, s := p.Round, a.ses
	s.start(ctx)
	defer s.stop()
	whole := !s.inTx && !r.Open
	if !s.inTx {
		var position []byte
		if whole {
			position = r.Position
		}
		s.simple(sentOther, "BEGIN")
		s.token(a.open, position)
	}
	if !whole {
		s.simple(sentOther, "SAVEPOINT piece")
	}
	if err := a.truncate(ctx, r); err != nil {
		return a.explain(ctx, err)
	}
	if err := apply.Run(ctx, p, s, a.ask, safe); err != nil {
		return a.explain(ctx, err)
	}
	a.forgetCovers()
	if err := a.storeCovers(); err != nil {
		return err
	}
	if err := a.finish(ctx, r, whole); err != nil {
		return err
	}
	s.inTx, a.added, a.passed = r.Open, nil, a.passed[:0]
	if r.Open {
		return nil
	}
	return fault.Point("apply.after-commit")
}

// finish ends a piece, or commits the round with its position.
func (a *applier) finish(ctx context.Context, r *apply.Round, whole bool) error {
	s := a.ses
	if r.Open {
		s.simple(sentOther, "RELEASE piece")
		return a.explain(ctx, s.sync())
	}
	if !whole {
		s.token(a.open, r.Position)
	}
	if err := fault.Point("apply.before-commit"); err != nil {
		return err
	}
	s.simple(sentCommit, "COMMIT")
	s.durable(a.open)
	return a.explain(ctx, s.sync())
}

// idle stores that the log holds nothing for us up to a position.
func (a *applier) idle(ctx context.Context, i *rowv1.Idle) error {
	if a.ses.inTx {
		return diag.Internal.New("target", nil, "idle inside an open round")
	}
	a.ses.start(ctx)
	defer a.ses.stop()
	a.ses.simple(sentOther, "BEGIN")
	a.ses.tokenIdle(a.open, i.Position)
	a.passed = append(a.passed, a.covers.Passed(i.Position)...)
	a.forgetCovers()
	a.ses.simple(sentCommit, "COMMIT")
	a.ses.durable(a.open)
	if err := a.ses.sync(); err != nil {
		return a.explain(ctx, err)
	}
	a.passed = a.passed[:0]
	return a.committed(a.seq, i.Position, 0)
}
