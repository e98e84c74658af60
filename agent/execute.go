package agent

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/agent/host"
	"github.com/droverdb/drover/agent/snapshot"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/stop"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arena"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// pageBytes is how much of an answer that comes in pages is gathered before it is sent as an event.
const pageBytes = 16 << 20

// stepsEvery is how often the coordinator hears of finished schema steps.
const stepsEvery = 200 * time.Millisecond

// execute does a task's work.
func (a *Agent) execute(ctx context.Context, r *running) (*fleetv1.Result, error) {
	switch k := r.task.Work.(type) {
	case *fleetv1.Task_Load:
		return a.load(ctx, r, k.Load)
	case *fleetv1.Task_Stream:
		return a.stream(ctx, r, k.Stream)
	}
	c, err := a.host.Open(ctx, endpoint(r.task))
	if err != nil {
		return nil, err
	}
	res, err := a.askWatched(ctx, r, c)
	c.Close()
	if err == nil && r.task.GetRelease() != nil {
		a.host.Released(endpoint(r.task))
	}
	return res, err
}

func (a *Agent) askWatched(ctx context.Context, r *running, c *host.Handle) (*fleetv1.Result, error) {
	defer a.watchWaits(ctx, r, r.stands, c)()
	return a.ask(ctx, r, c)
}

// endpoint is the one a task is about: the only one given, else the side its work belongs to.
func endpoint(t *fleetv1.Task) *fleetv1.Endpoint {
	sink := t.Source == nil
	switch k := t.Work.(type) {
	case *fleetv1.Task_Schema, *fleetv1.Task_Recover, *fleetv1.Task_Reset_:
		sink = true
	case *fleetv1.Task_Check:
		sink = sink || k.Check.Role == connectorv1.Role_ROLE_SINK
	case *fleetv1.Task_Release:
		sink = sink || k.Release.Role == connectorv1.Role_ROLE_SINK
	case *fleetv1.Task_Sum:
		sink = sink || k.Sum.Role == connectorv1.Role_ROLE_SINK
	}
	if sink && t.Sink != nil {
		return withRole(t.Sink, connectorv1.Role_ROLE_SINK)
	}
	return withRole(t.Source, connectorv1.Role_ROLE_SOURCE)
}

func withRole(ep *fleetv1.Endpoint, role connectorv1.Role) *fleetv1.Endpoint {
	if ep.GetRole() != connectorv1.Role_ROLE_UNSPECIFIED {
		return ep
	}
	ep = proto.CloneOf(ep)
	if ep == nil {
		ep = &fleetv1.Endpoint{}
	}
	ep.Role = role
	return ep
}

// ask makes the one connector call a task stands for.
func (a *Agent) ask(ctx context.Context, r *running, c *host.Handle) (*fleetv1.Result, error) {
	switch k := r.task.Work.(type) {
	case *fleetv1.Task_Open:
		opened, err := c.Look(ctx)
		return &fleetv1.Result{Outcome: &fleetv1.Result_Open{Open: &fleetv1.OpenResult{Describe: c.Description, Open: opened}}}, err
	case *fleetv1.Task_Check:
		return call(ctx, c.Check, k.Check, func(r *fleetv1.Result, v *connectorv1.CheckResponse) { r.Outcome = &fleetv1.Result_Check{Check: v} })
	case *fleetv1.Task_Prepare:
		return call(ctx, c.Prepare, k.Prepare, func(r *fleetv1.Result, v *connectorv1.PrepareResponse) {
			r.Outcome = &fleetv1.Result_Prepare{Prepare: v}
		})
	case *fleetv1.Task_Release:
		return call(ctx, c.Release, k.Release, func(r *fleetv1.Result, v *connectorv1.ReleaseResponse) {
			r.Outcome = &fleetv1.Result_Release{Release: v}
		})
	case *fleetv1.Task_Sum:
		return call(ctx, c.Sum, k.Sum, func(r *fleetv1.Result, v *connectorv1.SumResponse) { r.Outcome = &fleetv1.Result_Sum{Sum: v} })
	case *fleetv1.Task_Recover:
		return call(ctx, c.Recover, k.Recover, func(r *fleetv1.Result, v *connectorv1.RecoverResponse) {
			r.Outcome = &fleetv1.Result_Recover{Recover: v}
		})
	case *fleetv1.Task_Reset_:
		return call(ctx, c.Reset, k.Reset_, func(r *fleetv1.Result, v *connectorv1.ResetResponse) { r.Outcome = &fleetv1.Result_Reset_{Reset_: v} })
	case *fleetv1.Task_Position:
		return call(ctx, c.Position, k.Position, func(r *fleetv1.Result, v *connectorv1.PositionResponse) {
			r.Outcome = &fleetv1.Result_Position{Position: v}
		})
	}
	return a.askPages(ctx, r, c)
}

// call makes one connector call; wrap puts its answer into the result.
func call[Q, A any](ctx context.Context, do func(context.Context, Q) (A, error), q Q, wrap func(*fleetv1.Result, A)) (*fleetv1.Result, error) {
	a, err := do(ctx, q)
	if err != nil {
		return nil, err
	}
	res := &fleetv1.Result{}
	wrap(res, a)
	return res, nil
}

// askPages makes the calls that answer in pages.
func (a *Agent) askPages(ctx context.Context, r *running, c *host.Handle) (*fleetv1.Result, error) {
	switch k := r.task.Work.(type) {
	case *fleetv1.Task_Discover:
		return a.discover(ctx, r, c, k.Discover)
	case *fleetv1.Task_Split:
		return a.split(ctx, r, c, k.Split)
	case *fleetv1.Task_Schema:
		return a.schema(ctx, r, c, k.Schema)
	case *fleetv1.Task_Snapshot:
		return a.holdSnapshot(ctx, r, c, k.Snapshot)
	}
	return nil, diag.Internal.New("agent "+a.cfg.Name, nil, "it does not know this kind of task; its version is older than the coordinator's")
}

// schema tells of steps now and then: thousands of them may take a second. The result holds those that were not told yet.
func (a *Agent) schema(ctx context.Context, r *running, c *host.Handle, req *connectorv1.ApplySchemaRequest) (*fleetv1.Result, error) {
	var fresh []*connectorv1.ApplySchemaResponse
	at := time.Now()
	err := c.ApplySchema(ctx, req, func(step *connectorv1.ApplySchemaResponse) error {
		fresh = append(fresh, step)
		if time.Since(at) >= stepsEvery {
			a.event(r, &fleetv1.Event{Kind: &fleetv1.Event_SchemaSteps{SchemaSteps: &fleetv1.SchemaResult{Steps: fresh}}})
			fresh, at = nil, time.Now()
		}
		return nil
	})
	return &fleetv1.Result{Outcome: &fleetv1.Result_Schema{Schema: &fleetv1.SchemaResult{Steps: fresh}}}, err
}

// pageOf is what an answer holds so far that was not sent ahead of the result.
type pageOf struct{ size, sent int }

// full reports whether the page has to go now, before one message becomes too large.
func (p *pageOf) full(more proto.Message) bool {
	if p.size += proto.Size(more); p.size <= pageBytes {
		return false
	}
	p.size, p.sent = 0, p.sent+1
	return true
}

// discover gathers the catalog; what exceeds a page is sent ahead of the result as an event.
func (a *Agent) discover(ctx context.Context, r *running, c *host.Handle, req *connectorv1.DiscoverRequest) (*fleetv1.Result, error) {
	all, page := &connectorv1.DiscoverResponse{}, pageOf{}
	err := c.Catalog(ctx, req, func(more *connectorv1.DiscoverResponse) error {
		all.Tables, all.Steps = append(all.Tables, more.Tables...), append(all.Steps, more.Steps...)
		all.Packed = append(all.Packed, more.Packed...)
		all.NotCarried, all.Problems = append(all.NotCarried, more.NotCarried...), append(all.Problems, more.Problems...)
		if page.full(more) {
			a.event(r, &fleetv1.Event{Page: uint32(page.sent), Kind: &fleetv1.Event_Catalog{Catalog: all}})
			all = &connectorv1.DiscoverResponse{}
		}
		return nil
	})
	return &fleetv1.Result{Outcome: &fleetv1.Result_Discover{Discover: all}}, err
}

// split gathers chunks; what exceeds a page is sent ahead of the result as an event.
func (a *Agent) split(ctx context.Context, r *running, c *host.Handle, req *connectorv1.SplitRequest) (*fleetv1.Result, error) {
	all, page := &connectorv1.SplitResponse{}, pageOf{}
	err := c.Split(ctx, req, func(p *connectorv1.SplitResponse) error {
		all.Chunks = append(all.Chunks, p.Chunks...)
		if page.full(p) {
			a.event(r, &fleetv1.Event{Page: uint32(page.sent), Kind: &fleetv1.Event_Chunks{Chunks: all}})
			all = &connectorv1.SplitResponse{}
		}
		return nil
	})
	return &fleetv1.Result{Outcome: &fleetv1.Result_Split{Split: all}}, err
}

// holdSnapshot keeps a shared snapshot open until the task is cancelled or the agent drains.
func (a *Agent) holdSnapshot(ctx context.Context, r *running, c *host.Handle, req *connectorv1.OpenSnapshotRequest) (*fleetv1.Result, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-stop.Draining(ctx):
			cancel()
		case <-inner.Done():
		}
	}()
	err := c.OpenSnapshot(inner, req, func(o *connectorv1.OpenSnapshotResponse) error {
		r.snapshot.Store(o)
		req.Tables = nil // a snapshot is held long
		a.event(r, &fleetv1.Event{Kind: &fleetv1.Event_Snapshot{Snapshot: o}})
		return nil
	})
	ended := inner.Err() != nil
	cancel()
	<-watched
	switch {
	case ended: // as wanted
		return &fleetv1.Result{}, nil
	case err == nil:
		err = diag.ConnLost.New("source", nil, "the shared snapshot ended by itself")
	}
	return nil, err
}

// ends opens both sides of a load or a stream.
func (a *Agent) ends(ctx context.Context, t *fleetv1.Task) (*host.Handle, sdk.Sink, error) {
	source, err := a.host.Open(ctx, withRole(t.Source, connectorv1.Role_ROLE_SOURCE))
	if err != nil {
		return nil, nil, err
	}
	var sink sdk.Sink
	if t.SinkAddress == "" || t.SinkAgent == a.cfg.Name {
		var h *host.Handle
		if h, err = a.host.Open(ctx, withRole(t.Sink, connectorv1.Role_ROLE_SINK)); err == nil {
			sink = h
		}
	} else {
		sink, err = a.remoteSink(t)
	}
	if err != nil {
		return nil, nil, errors.Join(err, source.Close())
	}
	return source, sink, nil
}

func (a *Agent) remoteSink(t *fleetv1.Task) (sdk.Sink, error) {
	conn, err := a.remote(t.SinkAddress)
	if err != nil {
		return nil, err
	}
	return conn.Sink(t.Grant), nil
}

func (a *Agent) load(ctx context.Context, r *running, work *fleetv1.LoadTask) (*fleetv1.Result, error) {
	source, sink, err := a.ends(ctx, r.task)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	defer sink.Close()
	defer a.watchWaits(ctx, r, r.stands, source, sink)()
	t := snapshot.Task{Pipeline: r.task.Pipeline, Epoch: r.task.Epoch, Work: work, Tally: &r.load}
	var shared *arena.Owner
	if _, local := sink.(*host.Handle); local {
		shared = a.arenas.take()
	}
	if shared != nil {
		t.Arena, t.Used = shared.Path(), shared.Used
	}
	done, err := snapshot.Run(ctx, t, source, sink)
	a.arenas.give(shared, err == nil && !done.AlreadyWritten, err)
	if err != nil {
		return nil, err
	}
	a.meter.loaded(ctx, r.task, done)
	return &fleetv1.Result{Outcome: &fleetv1.Result_Load{Load: done}}, nil
}
