package engine

import (
	"cmp"
	"context"
	"time"

	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/plan"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	"github.com/droverdb/drover/internal/position"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	// compareFor is how long tables are compared anew when writes got in between: another snapshot a moment later mostly
	// falls between two commits. What is not compared by then is tried again every compareEvery while the stream goes on.
	compareFor   = 10 * time.Second
	compareEvery = 30 * time.Second
	compareFirst = 10 * time.Millisecond
	compareMax   = 500 * time.Millisecond
	// snapshotFor bounds the wait for a snapshot: a commit of the floor may stay invisible for as long as a standby does
	// not answer.
	snapshotFor = 5 * time.Second
	// differTries is how often a difference is looked at again before it is believed: a commit that is durable at the
	// target but, behind a standby that does not answer, not yet visible at the source would look like one.
	differTries = 3
)

// compareStream proves, while writes go on, that source and target are equal at a position: the target is held at the
// very state that a snapshot of the source shows, until a snapshot of it is taken too. Then the stream goes on, and both
// snapshots are summed. A table is compared once; those that could not be are left for another time.
func (p *Pipeline) compareStream(ctx context.Context) error {
	todo := p.uncompared()
	if len(todo) == 0 {
		return nil
	}
	var differ error
	end, missed := time.Now().Add(compareFor), ""
	for _, group := range plan.Groups(todo, groupTables, groupBytes) {
		p.waiting = "the comparison of source and target"
		why, err := p.compareGroup(ctx, group, end)
		p.waiting = ""
		if d := diag.Find(err); d != nil && d.Code.ID == diag.Differs.ID {
			differ = err
		} else if err != nil {
			return err
		}
		if missed = cmp.Or(why, missed); missed != "" && time.Now().After(end) {
			break
		}
	}
	if missed != "" {
		p.note("warn", "some tables are not compared yet: "+missed)
	}
	return differ
}

// uncompared are the tables that nobody has compared yet, unless nobody wants it. One that is not followed would soon differ.
func (p *Pipeline) uncompared() []*rowv1.Table {
	var todo []*rowv1.Table
	for _, t := range p.tables {
		if t.Compared == "" && t.failure == nil && !p.unfollowed(t) && p.spec.Verify != "none" {
			todo = append(todo, t.row)
		}
	}
	return todo
}

// compareGroup compares some tables at one position, as often as it takes until end; missed tells why it gave up.
func (p *Pipeline) compareGroup(ctx context.Context, group []uint32, end time.Time) (missed string, err error) {
	tables, rows := make([]*table, len(group)), make([]*rowv1.Table, len(group))
	for i, index := range group {
		tables[i], rows[i] = p.tables[index], p.tables[index].whole()
	}
	for differed, wait := 0, compareFirst; ; wait = min(2*wait, compareMax) {
		c := comparison{p: p, tables: rows}
		missed, err = c.run(ctx)
		c.close()
		if err == nil && missed == "" {
			differed++
			if err = p.judge(ctx, tables, c.read, c.there, position.Print(p.state.PositionFormat, c.at), differed == differTries); err != errDiffers {
				return "", err
			}
			err = nil
		}
		if err != nil || missed != "" && time.Now().After(end) {
			return missed, err
		}
		if err := p.pump(ctx, wait, func() bool { return true }); err != nil {
			return "", err
		}
	}
}

// comparison is one try: snapshots of both sides that show the same transactions, and the sums of their tables.
type comparison struct {
	p              *Pipeline
	tables         []*rowv1.Table
	tasks          []uint64
	held           bool
	at             []byte
	source, target *heldSnapshot
	read, there    map[uint32]*connectorv1.SumResponse_One
}

// run answers why the two could not be compared; empty: they were.
func (c *comparison) run(ctx context.Context) (missed string, err error) {
	hold, err := c.ask(ctx, &fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Hold{Hold: &fleetv1.Hold{}}})
	if err != nil {
		return "", err
	}
	c.held = true
	if c.source, missed, err = c.snapshot(ctx, c.p.run.reader, c.p.onSource(&fleetv1.Task{}), &connectorv1.OpenSnapshotRequest{Tables: c.tables, Floor: hold.Floor, GiveWay: true}); missed != "" || err != nil {
		return missed, err
	}
	barrier, err := c.ask(ctx, &fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Barrier{Barrier: &fleetv1.Barrier{Coverage: c.source.open.Coverage}}})
	if err != nil || barrier.Missed != "" {
		return barrier.GetMissed(), err
	}
	c.at = barrier.GetFloor().GetPosition()
	if c.target, missed, err = c.snapshot(ctx, c.p.run.writer, c.p.onSink(&fleetv1.Task{}), &connectorv1.OpenSnapshotRequest{Tables: c.tables}); missed != "" || err != nil {
		return missed, err
	}
	resume, err := c.ask(ctx, &fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Resume{Resume: &fleetv1.Resume{}}})
	c.held = false
	if err != nil || resume.Missed != "" {
		return resume.GetMissed(), err
	}
	return c.sum(ctx)
}

// ask sends the gate a request and waits for its answer.
func (c *comparison) ask(ctx context.Context, r *fleetv1.GateRequest) (*fleetv1.GateReply, error) {
	var reply *fleetv1.GateReply
	if err := c.p.gate(r, func(a *fleetv1.GateReply) { reply = a }); err != nil {
		return nil, err
	}
	return reply, c.p.pump(ctx, 0, func() bool { return reply != nil })
}

// heldSnapshot is a snapshot that an agent holds until its task is abandoned.
type heldSnapshot struct {
	open *connectorv1.OpenSnapshotResponse
	// ended tells why it is gone.
	ended string
}

func (c *comparison) snapshot(ctx context.Context, agent string, task *fleetv1.Task, req *connectorv1.OpenSnapshotRequest) (s *heldSnapshot, missed string, err error) {
	s = &heldSnapshot{}
	task.Epoch, task.Work = c.p.state.Epoch, &fleetv1.Task_Snapshot{Snapshot: req}
	err = c.assign(agent, task, func(m fleet.Message) {
		if o := m.Event.GetSnapshot(); o != nil {
			s.open = o
		}
		if m.Result != nil {
			s.ended = "the snapshot was lost"
			if err := wire.Error(m.Result.Failure); err != nil {
				s.ended = err.Error()
			}
		}
	})
	if err != nil {
		return nil, "", err
	}
	late := time.Now().Add(snapshotFor)
	err = c.p.pump(ctx, 0, func() bool { return s.open != nil || s.ended != "" || time.Now().After(late) })
	if s.open == nil && s.ended == "" {
		s.ended = "a commit before the snapshot is not visible yet"
	}
	return s, s.ended, err
}

// sum reads both sides at the same time.
func (c *comparison) sum(ctx context.Context) (missed string, err error) {
	side := func(agent string, task *fleetv1.Task, role connectorv1.Role, s *heldSnapshot, into *map[uint32]*connectorv1.SumResponse_One) error {
		task.Epoch = c.p.state.Epoch
		task.Work = &fleetv1.Task_Sum{Sum: &connectorv1.SumRequest{Role: role, Tables: c.tables, Snapshot: s.open.Snapshot}}
		return c.assign(agent, task, func(m fleet.Message) {
			switch {
			case m.Result == nil:
			case m.Result.Failure != nil:
				missed = wire.Error(m.Result.Failure).Error()
			default:
				*into = sumsOf(m.Result.GetSum())
			}
		})
	}
	if err := side(c.p.run.reader, c.p.onSource(&fleetv1.Task{}), connectorv1.Role_ROLE_SOURCE, c.source, &c.read); err != nil {
		return "", err
	}
	if err := side(c.p.run.writer, c.p.onSink(&fleetv1.Task{}), connectorv1.Role_ROLE_SINK, c.target, &c.there); err != nil {
		return "", err
	}
	err = c.p.pump(ctx, 0, func() bool {
		return missed != "" || c.source.ended != "" || c.target.ended != "" || c.read != nil && c.there != nil
	})
	if missed == "" && (c.read == nil || c.there == nil) {
		missed = c.source.ended + c.target.ended
	}
	return missed, err
}

func (c *comparison) assign(agent string, t *fleetv1.Task, on func(fleet.Message)) error {
	id, err := c.p.assign(agent, t, on)
	if err == nil {
		c.tasks = append(c.tasks, id)
		c.p.run.tasks[id] = true
	}
	return err
}

// close lets go of the stream and of both snapshots.
func (c *comparison) close() {
	if c.held && c.p.stop == nil {
		c.p.tell(&fleetv1.GateRequest{Kind: &fleetv1.GateRequest_Resume{Resume: &fleetv1.Resume{}}})
	}
	for _, id := range c.tasks {
		delete(c.p.run.tasks, id)
		delete(c.p.handlers, id)
		c.p.fleet.Abandon(id, "the comparison ended")
	}
}

func sumsOf(r *connectorv1.SumResponse) map[uint32]*connectorv1.SumResponse_One {
	sums := map[uint32]*connectorv1.SumResponse_One{}
	for _, s := range r.GetSums() {
		sums[s.Table] = s
	}
	return sums
}
