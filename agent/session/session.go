// Package session is an agent's one outbound link to its coordinator. It outlives every single connection: tasks go on
// while it reconnects, and what they report is kept until it has arrived.
package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/droverdb/drover/agent/link"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

const (
	firstPause       = 100 * time.Millisecond
	longestPause     = 5 * time.Second
	defaultHeartbeat = time.Second
	defaultTTL       = 10 * time.Second
	progressEvery    = time.Second
	welcomeTimeout   = 10 * time.Second
)

// Handler is what the coordinator's messages are for. Its methods return at once.
type Handler interface {
	Task(*fleetv1.Task)
	Cancel(*fleetv1.Cancel)
	Gate(*fleetv1.GateRequest)
	Drain()
	// Grants replaces what other agents may write here.
	Grants([]*fleetv1.Grant)
	// Hello introduces the agent, with the tasks it is running.
	Hello() *fleetv1.Hello
	// Progress is nil when nothing runs.
	Progress() *fleetv1.Progress
}

// Config names the coordinator.
type Config struct {
	//
	// Several coordinators are separated by commas; the one that leads takes the session.
	Address string
	// TLS is needed off this machine.
	TLS     *tls.Config
	Handler Handler
	Log     *slog.Logger
}

// Session is the link. Make it with New, then Run it.
type Session struct {
	cfg   Config
	peers []peer
	out   *outbox
	// linked: the coordinator has answered once.
	linked bool
}

// New checks the address; the connection is made by Run.
func New(cfg Config) (*Session, error) {
	s := &Session{cfg: cfg, out: newOutbox()}
	for address := range strings.SplitSeq(cfg.Address, ",") {
		p, err := newPeer(strings.TrimSpace(address), cfg.TLS)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.peers = append(s.peers, p)
	}
	return s, nil
}

// peer is one coordinator.
type peer struct {
	address string
	conn    *grpc.ClientConn
}

func newPeer(address string, c *tls.Config) (peer, error) {
	creds, err := link.Credentials(address, c)
	if err != nil {
		return peer{}, err
	}
	// Heartbeats find a dead peer: gRPC makes the kernel give up on a connection whose bytes are not acknowledged for
	// Timeout. Its pings are rarer than any server takes for abuse.
	conn, err := grpc.NewClient(address, append(sdk.DialOptions(), grpc.WithTransportCredentials(creds),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 6 * time.Minute, Timeout: 15 * time.Second}))...)
	if err != nil {
		return peer{}, diag.NoCoord.New(address, err, "the coordinator's address cannot be used")
	}
	return peer{address: address, conn: conn}, nil
}

// Report sends a result; it is sent again after a reconnect unless it has surely arrived.
func (s *Session) Report(r *fleetv1.Result) {
	s.out.put(&fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Result{Result: r}})
}

// Event sends an event, kept like a result and in order with it.
func (s *Session) Event(e *fleetv1.Event) {
	s.out.put(&fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Event{Event: e}})
}

// Reply answers a gate request, kept like a result: nobody handles the request again.
func (s *Session) Reply(r *fleetv1.GateReply) {
	s.out.put(&fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_GateReply{GateReply: r}})
}

// Flush waits until everything is sent, or the context ends.
func (s *Session) Flush(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.out.unsent() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Close is for a session that is never run.
func (s *Session) Close() error {
	var errs []error
	for _, p := range s.peers {
		errs = append(errs, p.conn.Close())
	}
	return errors.Join(errs...)
}

// Run keeps the link up until ctx ends, with growing, uneven pauses between attempts. It goes from one coordinator to the
// next until one takes the session. A certificate that is refused before the link ever stood is a wrong setting: Run
// returns it. Later it may be one that is being renewed.
func (s *Session) Run(ctx context.Context) error {
	defer s.Close()
	pause := firstPause
	for turn := 0; ; turn++ {
		began, to := time.Now(), s.peers[turn%len(s.peers)]
		err := s.once(ctx, to)
		if ctx.Err() != nil {
			return nil
		}
		if e := diag.Find(err); e != nil && e.Code.ID == diag.TLSRefused.ID && !s.linked {
			return err
		}
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		s.cfg.Log.Warn("no link to the coordinator; tasks go on", "address", to.address, "err", err, "again_in", pause)
		timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, longestPause)
	}
}

type both = grpc.BidiStreamingClient[fleetv1.SessionRequest, fleetv1.SessionResponse]

// once runs one connection: hello, welcome, then both directions until either breaks.
func (s *Session) once(ctx context.Context, to peer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	st, err := fleetv1.NewFleetServiceClient(to.conn).Session(ctx, grpc.WaitForReady(false))
	if err != nil {
		return link.Call(ctx, err, to.address, diag.NoCoord)
	}
	welcome, err := s.greet(st, cancel)
	if err != nil {
		return link.Call(ctx, err, to.address, diag.NoCoord)
	}
	s.linked = true
	s.cfg.Log.Info("linked to the coordinator", "address", to.address, "session", welcome.Session)
	s.out.rewind()
	done := make(chan struct{})
	go func() {
		defer close(done)
		cancel(s.send(ctx, st, welcome))
	}()
	err = s.receive(st)
	cancel(err)
	<-done
	return link.Call(context.Background(), err, to.address, diag.NoCoord)
}

// greet says hello and waits for the welcome, not for ever.
func (s *Session) greet(st both, cancel context.CancelCauseFunc) (*fleetv1.Welcome, error) {
	timer := time.AfterFunc(welcomeTimeout, func() { cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	hello := s.cfg.Handler.Hello()
	hello.Running = append(hello.Running, s.out.results()...) // they end with what is still to be sent, not with a loss
	if err := st.Send(&fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Hello{Hello: hello}}); err != nil {
		_, err = st.Recv() // the reason comes with the receive
		return nil, err
	}
	m, err := st.Recv()
	if err != nil {
		return nil, err
	}
	if m.GetWelcome() == nil {
		return nil, fmt.Errorf("the coordinator began with %T instead of a welcome", m.Kind)
	}
	return m.GetWelcome(), nil
}

// send writes reports, heartbeats and progress until the link ends.
func (s *Session) send(ctx context.Context, st both, w *fleetv1.Welcome) error {
	ttl := orDefault(w.TtlMillis, defaultTTL)
	beat := time.NewTicker(orDefault(w.HeartbeatMillis, defaultHeartbeat))
	defer beat.Stop()
	progress := time.NewTicker(progressEvery)
	defer progress.Stop()
	for {
		for m := s.out.take(); m != nil; m = s.out.take() {
			if err := st.Send(m); err != nil {
				return err
			}
		}
		var m *fleetv1.SessionRequest
		select {
		case <-ctx.Done():
			return st.CloseSend()
		case <-s.out.wake:
			continue
		case now := <-beat.C:
			s.out.settle(now.Add(-2 * ttl))
			m = &fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Heartbeat{Heartbeat: &fleetv1.Heartbeat{SentMicros: now.UnixMicro()}}}
		case <-progress.C:
			p := s.cfg.Handler.Progress()
			if p == nil {
				continue
			}
			m = &fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Progress{Progress: p}}
		}
		if err := st.Send(m); err != nil {
			return err
		}
	}
}

func orDefault(millis int64, d time.Duration) time.Duration {
	if millis <= 0 {
		return d
	}
	return time.Duration(millis) * time.Millisecond
}

// receive hands the coordinator's messages on until the link breaks.
func (s *Session) receive(st both) error {
	for {
		m, err := st.Recv()
		if err != nil {
			return err
		}
		switch k := m.Kind.(type) {
		case *fleetv1.SessionResponse_Task:
			s.cfg.Handler.Task(k.Task)
		case *fleetv1.SessionResponse_Cancel:
			s.cfg.Handler.Cancel(k.Cancel)
		case *fleetv1.SessionResponse_GateRequest:
			s.cfg.Handler.Gate(k.GateRequest)
		case *fleetv1.SessionResponse_Drain:
			s.cfg.Handler.Drain()
		case *fleetv1.SessionResponse_Grants:
			s.cfg.Handler.Grants(k.Grants.All)
		}
	}
}
