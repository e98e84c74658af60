package coordinator

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// crew is a coordinator whose first agent does everything but loads, so that helpers have to do them.
type crew struct {
	*world
	t       *testing.T
	conn    *grpc.ClientConn
	control controlv1.ControlServiceClient
}

func newCrew(t *testing.T, m controlv1.Mode) *crew {
	t.Helper()
	w := newWorld()
	conn, _ := serveWith(t, t.TempDir(), w, player{hello: hello("a", 0), answer: w.answer})
	c := &crew{world: w, t: t, conn: conn, control: controlv1.NewControlServiceClient(conn)}
	apply(t, c.control, m)
	await(t, c.control, controlv1.Phase_PHASE_LOAD)
	return c
}

// helper is an agent that is asked for loads.
type helper struct {
	loads atomic.Int64
	leave func() // for good
}

// join starts a helper; load answers its loads, nil as the world does, and open its invitations likewise.
func (c *crew) join(name string, open, load func(*fleetv1.Result) *fleetv1.Result) *helper {
	c.t.Helper()
	h := &helper{}
	answer := func(t *fleetv1.Task, event func(*fleetv1.Event)) *fleetv1.Result {
		blank := &fleetv1.Result{Task: t.Id, Epoch: t.Epoch, Pipeline: t.Pipeline}
		switch {
		case t.GetOpen() != nil && open != nil:
			return open(blank)
		case t.GetLoad() != nil:
			h.loads.Add(1)
			if load != nil {
				return load(blank)
			}
		}
		return c.answer(t, event)
	}
	h.leave = c.play(player{hello: hello(name, 2), answer: answer})
	return h
}

// play lets an agent come; the returned function lets it leave for good.
func (c *crew) play(p player) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.agent(ctx, c.conn, p) })
	leave = func() { cancel(); wg.Wait() }
	c.t.Cleanup(leave)
	return leave
}

func failing(err error) func(*fleetv1.Result) *fleetv1.Result {
	return func(r *fleetv1.Result) *fleetv1.Result { r.Failure = wire.Failure(err); return r }
}

// hanging goes on for ever.
func hanging(*fleetv1.Result) *fleetv1.Result { return nil }

// logged waits until the pipeline has noted all of the words.
func (c *crew) logged(words ...string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	s, err := c.control.Logs(ctx, &controlv1.LogsRequest{Pipeline: "p", Follow: true})
	if err != nil {
		c.t.Fatal(err)
	}
	for len(words) > 0 {
		l, err := s.Recv()
		if err != nil {
			c.t.Fatalf("not noted: %q: %v", words, err)
		}
		var left []string
		for _, w := range words {
			if !strings.Contains(l.Text, w) {
				left = append(left, w)
			}
		}
		words = left
	}
}

func (h *helper) await(t *testing.T, loads int64) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); h.loads.Load() < loads; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d loads came", h.loads.Load(), loads)
		}
	}
}

// Only who has shown that it reaches the pipeline's own databases is given chunks.
func TestHelpers_ThatReachOtherDatabasesGetNothing(t *testing.T) {
	c := newCrew(t, controlv1.Mode_MODE_FULL_LOAD_AND_CDC)
	far := c.join("far", failing(diag.SecretAbsent.New("env:PW", nil, "the variable is not set where the agent runs")), nil)
	other := c.join("other", func(r *fleetv1.Result) *fleetv1.Result {
		r.Outcome = &fleetv1.Result_Open{Open: &fleetv1.OpenResult{Open: &connectorv1.OpenResponse{Identity: "another"}}}
		return r
	}, nil)
	c.logged("agent far does not help to read the source: E2005", "agent far does not help to write the target: E2005",
		"agent other does not help to read the source: under that address it reaches another database",
		"agent other does not help to write the target: under that address it reaches another database")
	near := c.join("near", nil, nil)
	await(t, c.control, controlv1.Phase_PHASE_STREAMING)
	if far.loads.Load() != 0 || other.loads.Load() != 0 || near.loads.Load() == 0 || c.fences != 1 {
		t.Errorf("loads: far %d, other %d, near %d; attempts: %d", far.loads.Load(), other.loads.Load(), near.loads.Load(), c.fences)
	}
}

// A physical copy that runs by itself has the identity of the database. Who reaches one gets nothing; when the servers
// are started again amid an attempt, who reaches them is taken all the same.
func TestHelpers_ThatReachPhysicalCopiesGetNothing(t *testing.T) {
	c := newCrew(t, controlv1.Mode_MODE_FULL_LOAD_AND_CDC)
	copied := c.join("copied", func(r *fleetv1.Result) *fleetv1.Result {
		r.Outcome = &fleetv1.Result_Open{Open: &fleetv1.OpenResult{Open: &connectorv1.OpenResponse{Instance: "of the copy"}}}
		return r
	}, nil)
	const reaches = ": under that address it reaches another server with a physical copy of the database"
	c.logged("agent copied does not help to read the source"+reaches, "agent copied does not help to write the target"+reaches)
	c.restart()
	near := c.join("near", nil, nil)
	c.logged("agent near helps to read the source", "agent near helps to write the target")
	await(t, c.control, controlv1.Phase_PHASE_STREAMING)
	if copied.loads.Load() != 0 || near.loads.Load() == 0 || c.fences != 1 {
		t.Errorf("loads: copied %d, near %d; attempts: %d", copied.loads.Load(), near.loads.Load(), c.fences)
	}
}

// A helper that is lost in mid-load, and one that is ending and gives everything back, cost no attempt: their chunks are
// done by whoever comes (Invariant 21).
func TestHelpers_MayLeave(t *testing.T) {
	for _, mode := range []controlv1.Mode{controlv1.Mode_MODE_FULL_LOAD, controlv1.Mode_MODE_FULL_LOAD_AND_CDC} {
		t.Run(mode.String(), func(t *testing.T) {
			c := newCrew(t, mode)
			lost := c.join("lost", nil, hanging)
			lost.await(t, 1)
			ending := c.join("ending", nil, failing(diag.CallCancelled.New("agent ending", nil, "it is ending")))
			ending.await(t, 1)
			lost.leave()
			c.logged("chunks of agent lost go to others", "chunks of agent ending go to others")
			last := c.join("last", nil, nil)
			phase := controlv1.Phase_PHASE_DONE
			if mode == controlv1.Mode_MODE_FULL_LOAD_AND_CDC {
				phase = controlv1.Phase_PHASE_STREAMING
			}
			s := await(t, c.control, phase)
			if s.TablesEqual != 3 || c.fences != 1 || c.writes != 6 || last.loads.Load() == 0 {
				t.Errorf("%d attempts, %d writes, %d loads of the last: %v", c.fences, c.writes, last.loads.Load(), s)
			}
			if n := ending.loads.Load(); n > 8 {
				t.Errorf("the agent that is ending had %d loads: it does not rest", n)
			}
		})
	}
}
