package coordinator

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a source and a target as a fake agent sees them.
type world struct {
	mu      sync.Mutex
	tables  []*rowv1.Table
	written map[uint64]*rowv1.ChunkResult
	writes  int
	crash   int // end the session instead of answering this many load tasks
	epoch   uint64
	fence   uint64
	fences  int // how often an attempt raised the target's fence
	// unequal is how many more sums of the target are wrong; missed how many more barriers are.
	unequal, missed int
	started         string // which server source and target are on
}

// restart starts the servers again.
func (w *world) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.started = "again"
}

func newWorld() *world {
	w := &world{written: map[uint64]*rowv1.ChunkResult{}}
	for i, size := range []int64{10, 200 << 20, 10} {
		gate := rowv1.GateMode_GATE_MODE_KEYED
		if i == 2 {
			gate = rowv1.GateMode_GATE_MODE_UNIT
		}
		n := string(rune('a' + i))
		w.tables = append(w.tables, &rowv1.Table{Source: &rowv1.TableRef{Schema: "s", Name: n}, Target: &rowv1.TableRef{Schema: "s", Name: n}, EstimatedBytes: size, Gate: gate})
	}
	return w
}

func (w *world) miss() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missed--
	return w.missed >= 0
}

// twice is how a page comes when the link broke before it was known to have arrived.
func twice(event func(*fleetv1.Event), e *fleetv1.Event) {
	event(e)
	event(e)
}

// answer does a task; nil means it goes on until cancelled. stale results are sent too and must be ignored.
func (w *world) answer(t *fleetv1.Task, event func(*fleetv1.Event)) *fleetv1.Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &fleetv1.Result{Task: t.Id, Epoch: t.Epoch, Pipeline: t.Pipeline}
	switch k := t.Work.(type) {
	case *fleetv1.Task_Open:
		r.Outcome = &fleetv1.Result_Open{Open: &fleetv1.OpenResult{Open: &connectorv1.OpenResponse{Display: "db", Instance: w.started}}}
	case *fleetv1.Task_Discover:
		half := len(w.tables) / 2
		twice(event, &fleetv1.Event{Task: t.Id, Epoch: t.Epoch, Page: 1, Kind: &fleetv1.Event_Catalog{Catalog: &connectorv1.DiscoverResponse{Tables: w.tables[:half]}}})
		r.Outcome = &fleetv1.Result_Discover{Discover: &connectorv1.DiscoverResponse{Tables: w.tables[half:]}}
	case *fleetv1.Task_Prepare:
		r.Outcome = &fleetv1.Result_Prepare{Prepare: &connectorv1.PrepareResponse{Position: []byte("0001")}}
	case *fleetv1.Task_Recover:
		w.epoch = max(w.epoch, k.Recover.Epoch)
		if k.Recover.Epoch > w.fence { // an attempt may raise it to its own epoch twice
			w.fence = k.Recover.Epoch
			w.fences++
		}
		out := &connectorv1.RecoverResponse{Found: len(w.written) > 0, MaxEpoch: w.epoch}
		for _, c := range w.written {
			out.Written = append(out.Written, c)
		}
		r.Outcome = &fleetv1.Result_Recover{Recover: out}
	case *fleetv1.Task_Reset_:
		for _, tab := range k.Reset_.Tables {
			for id := range w.written {
				if uint32(id>>32) == tab.Index {
					delete(w.written, id)
				}
			}
		}
	case *fleetv1.Task_Split:
		var c []*rowv1.Chunk
		for n := range uint64(4) {
			c = append(c, &rowv1.Chunk{Id: uint64(k.Split.Table.Index)<<32 | n, Table: k.Split.Table.Index, EstimatedBytes: 50 << 20})
		}
		twice(event, &fleetv1.Event{Task: t.Id, Epoch: t.Epoch, Page: 1, Kind: &fleetv1.Event_Chunks{Chunks: &connectorv1.SplitResponse{Chunks: c}}})
	case *fleetv1.Task_Snapshot:
		event(&fleetv1.Event{Task: t.Id, Epoch: t.Epoch, Kind: &fleetv1.Event_Snapshot{Snapshot: &connectorv1.OpenSnapshotResponse{Snapshot: "snap", Coverage: &rowv1.Coverage{Through: []byte("0009")}}}})
		return nil
	case *fleetv1.Task_Stream:
		event(&fleetv1.Event{Task: t.Id, Epoch: t.Epoch, Kind: &fleetv1.Event_StreamStarted{StreamStarted: &fleetv1.StreamStarted{}}})
		return nil
	case *fleetv1.Task_Load:
		out := &fleetv1.LoadResult{}
		for _, c := range k.Load.Chunks {
			if w.written[c.Id] == nil {
				w.writes++
				w.written[c.Id] = &rowv1.ChunkResult{Chunk: c.Id, Rows: 5, RowSum: append(make([]byte, 15), 200), Coverage: &rowv1.Coverage{Through: []byte("0009")}}
			}
			out.Results = append(out.Results, w.written[c.Id])
		}
		r.Outcome = &fleetv1.Result_Load{Load: out}
	case *fleetv1.Task_Sum:
		out := &connectorv1.SumResponse{}
		wrong := 0
		if t.Sink != nil && w.unequal > 0 {
			w.unequal--
			wrong = 1
		}
		for _, tab := range k.Sum.Tables {
			n := wrong
			for id := range w.written {
				if uint32(id>>32) == tab.Index {
					n++
				}
			}
			sum := make([]byte, 16)
			sum[15], sum[14] = byte(200*n), byte(200*n>>8)
			out.Sums = append(out.Sums, &connectorv1.SumResponse_One{Table: tab.Index, Rows: int64(5 * n), RowSum: sum})
		}
		r.Outcome = &fleetv1.Result_Sum{Sum: out}
	}
	return r
}

// player is an agent: who it says it is, and how it does its tasks.
type player struct {
	hello  *fleetv1.Hello
	answer func(t *fleetv1.Task, event func(*fleetv1.Event)) *fleetv1.Result
	// granted hears what others may write through it; nil: it does not listen.
	granted func([]*fleetv1.Grant)
}

// hello is of an agent with as many credits that does both sides.
func hello(name string, credits int32) *fleetv1.Hello {
	return &fleetv1.Hello{Agent: name, Source: true, Sink: true, Connectors: []string{"x"}, ReadCredits: credits, WriteCredits: credits}
}

// agent speaks FleetService until ctx ends; it comes back after a crash.
func (w *world) agent(ctx context.Context, conn *grpc.ClientConn, p player) {
	for ctx.Err() == nil {
		w.session(ctx, conn, p)
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (w *world) session(ctx context.Context, conn *grpc.ClientConn, p player) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := fleetv1.NewFleetServiceClient(conn).Session(ctx)
	if err != nil {
		return
	}
	var mu sync.Mutex
	send := func(m *fleetv1.SessionRequest) {
		mu.Lock()
		defer mu.Unlock()
		_ = s.Send(m) // Recv tells of a broken session
	}
	send(&fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Hello{Hello: p.hello}})
	event := func(e *fleetv1.Event) { send(&fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Event{Event: e}}) }
	beats := beat(ctx, send)
	defer func() { cancel(); <-beats }()
	var stream *fleetv1.Task
	for {
		m, err := s.Recv()
		if err != nil {
			return
		}
		if g := m.GetGrants(); g != nil && p.granted != nil {
			p.granted(g.All)
		}
		if g := m.GetGateRequest(); g != nil {
			reply := &fleetv1.GateReply{Id: g.Id, Floor: &rowv1.Floor{Position: []byte("0005")}}
			if g.GetBarrier() != nil && w.miss() {
				reply.Missed, reply.Floor = "in between", nil
			}
			send(&fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_GateReply{GateReply: reply}})
			if l := g.GetLoaded(); l != nil {
				send(&fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Progress{Progress: &fleetv1.Progress{Tasks: []*fleetv1.TaskProgress{{Task: stream.Id, Stream: &fleetv1.StreamProgress{PassedTables: l.Tables}}}}}})
			}
		}
		t := m.GetTask()
		if t == nil {
			continue
		}
		if t.GetStream() != nil {
			stream = t
		}
		r := p.answer(t, event)
		if t.GetLoad() != nil {
			send(&fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Result{Result: &fleetv1.Result{Task: t.Id, Epoch: t.Epoch - 1}}})
			if w.crash > 0 {
				w.crash--
				return
			}
		}
		if r != nil {
			send(&fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Result{Result: r}})
		}
	}
}

// beat keeps a session alive until ctx ends: who is silent for a TTL is lost.
func beat(ctx context.Context, send func(*fleetv1.SessionRequest)) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			send(&fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Heartbeat{Heartbeat: &fleetv1.Heartbeat{}}})
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	return done
}

// serve runs a coordinator and an agent until the returned function is called.
func serve(t *testing.T, dir string, w *world) (controlv1.ControlServiceClient, func()) {
	t.Helper()
	conn, stop := serveWith(t, dir, w, player{hello: hello("a", 2), answer: w.answer})
	return controlv1.NewControlServiceClient(conn), stop
}

func serveWith(t *testing.T, dir string, w *world, p player) (*grpc.ClientConn, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := New(Config{Embed: &EmbedConfig{DataDir: dir, Fast: true}, TTL: time.Second})
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	c.Register(srv)
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	wg.Go(func() { _ = srv.Serve(l) })
	wg.Go(func() { w.agent(ctx, conn, p) })
	var once sync.Once
	stop := func() { once.Do(func() { cancel(); srv.Stop(); conn.Close(); wg.Wait() }) }
	t.Cleanup(stop)
	return conn, stop
}

func spec(mode controlv1.Mode) *controlv1.Spec {
	return &controlv1.Spec{Version: 1, Name: "p", Mode: mode, Verify: "checksum", Source: &fleetv1.Endpoint{Connector: "x", Url: "x://a"}, Target: &fleetv1.Endpoint{Connector: "x", Url: "x://b"}}
}

func await(t *testing.T, c controlv1.ControlServiceClient, phase controlv1.Phase) *controlv1.Status {
	t.Helper()
	var last *controlv1.Status
	for range 200 {
		if r, err := c.Get(t.Context(), &controlv1.GetRequest{Pipeline: "p"}); err == nil {
			last = r.Status
			if last.Phase == phase {
				return last
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("phase %v is not reached: %v", phase, last)
	return nil
}

func apply(t *testing.T, c controlv1.ControlServiceClient, m controlv1.Mode) {
	t.Helper()
	if _, err := c.Apply(t.Context(), &controlv1.ApplyRequest{Spec: spec(m), Start: true}); err != nil {
		t.Fatal(err)
	}
}

func TestCoordinator_FullLoadSurvivesAgentCrashes(t *testing.T) {
	w := newWorld()
	w.crash = 2
	c, _ := serve(t, t.TempDir(), w)
	apply(t, c, controlv1.Mode_MODE_FULL_LOAD)
	s := await(t, c, controlv1.Phase_PHASE_DONE)
	if s.TablesEqual != 3 || s.RowsLoaded != 30 || s.ChunksDone != 6 {
		t.Fatal(s)
	}
	if _, err := c.Delete(t.Context(), &controlv1.DeleteRequest{Pipeline: "p"}); err != nil {
		t.Fatal(err)
	}
}

func TestCoordinator_FollowGoesOnAfterARestart(t *testing.T) {
	w, dir := newWorld(), t.TempDir()
	w.crash = 1
	c, stop := serve(t, dir, w)
	apply(t, c, controlv1.Mode_MODE_FULL_LOAD_AND_CDC)
	await(t, c, controlv1.Phase_PHASE_LOAD)
	stop()
	c, _ = serve(t, dir, w)
	s := await(t, c, controlv1.Phase_PHASE_STREAMING)
	if s.TablesDone != 3 || len(w.written) != 6 || s.TablesEqual != 3 {
		t.Fatal(s)
	}
}

// A barrier that was missed and a difference that goes away are tried again; one that stays stops the pipeline.
func TestCoordinator_FollowComparesUntilItIsSure(t *testing.T) {
	w := newWorld()
	w.missed, w.unequal = 2, 1
	c, _ := serve(t, t.TempDir(), w)
	apply(t, c, controlv1.Mode_MODE_FULL_LOAD_AND_CDC)
	if s := await(t, c, controlv1.Phase_PHASE_STREAMING); s.TablesEqual != 3 || s.TablesCompared != 3 {
		t.Fatal(s)
	}
	w = newWorld()
	w.unequal = 1000
	c, _ = serve(t, t.TempDir(), w)
	apply(t, c, controlv1.Mode_MODE_FULL_LOAD_AND_CDC)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		s, err := c.Get(t.Context(), &controlv1.GetRequest{Pipeline: "p"})
		if err == nil && len(s.GetStatus().GetFailures()) > 0 {
			if f := s.Status.Failures[0]; f.Code != diag.Differs.ID || s.Status.TablesCompared != 3 || s.Status.TablesEqual != 0 {
				t.Fatal(s)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatal("a difference was not reported", s, err)
		}
	}
}
