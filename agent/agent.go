// Package agent does the work near a database: it takes tasks from its coordinator, runs connectors for them, and
// moves rows. It dials out; it listens only if source agents elsewhere are to reach its targets.
package agent

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/droverdb/drover/agent/apply"
	"github.com/droverdb/drover/agent/host"
	"github.com/droverdb/drover/agent/session"
	"github.com/droverdb/drover/agent/transfer"
	"github.com/droverdb/drover/internal/stop"
	"github.com/droverdb/drover/plugins/sdk"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// Config shapes an agent.
type Config struct {
	// Name is unique among the coordinator's agents.
	Name    string
	Version string
	Labels  map[string]string
	// Coordinator is host:port or unix:PATH; TLS is needed off this machine.
	Coordinator string
	TLS         *tls.Config
	// ReadCredits and WriteCredits are how many load tasks run at the same time; 0: one for each core, at least 2 and
	// at most 8: more of them fight for the target's log and for the end of its files, and one leaves it idle at commits.
	ReadCredits, WriteCredits int
	// NoSource and NoSink keep work of one side from this agent.
	NoSource, NoSink bool
	// TransferListen is where source agents elsewhere reach this one; empty: nowhere.
	TransferListen string
	// TransferAddress is what they dial; empty: where it listens.
	TransferAddress string
	// TransferTLS is that of row streams between agents, both ends; nil: TLS.
	TransferTLS *tls.Config
	// Self is the binary that serves the connectors in BuiltIn; empty: the running one, with "connector serve".
	Self         string
	SelfArgs     []string
	BuiltIn      []string
	ConnectorDir string
	// ConnectorEnv is added to the environment of connectors.
	ConnectorEnv []string
	// ConnectorBudget is the memory one connector may use for buffers, in bytes; 0: 128 MiB.
	ConnectorBudget int64
	// Grace is how long tasks may take to finish when the agent ends; 0: 15 s.
	Grace time.Duration
	Log   *slog.Logger
}

const (
	defaultGrace = 15 * time.Second
	flushTime    = 2 * time.Second
)

func defaultCredits() int { return max(2, min(runtime.NumCPU(), 8)) }

// Agent runs tasks. Make it with New, then Run it.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	host    *host.Host
	arenas  arenas
	session *session.Session
	server  *apply.Server // nil: no transfer listener
	tasks   *stop.Group
	meter   *meter
	drain   chan struct{}
	drained sync.Once
	process string // tells it from one of the same name before or after it

	mu      sync.Mutex
	running map[uint64]*running
	streams map[string]*gateQueue
	conns   map[string]*transfer.Conn
}

// New checks the configuration and opens the transfer listener. The caller runs the agent, which closes all.
func New(cfg Config) (*Agent, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.ReadCredits <= 0 {
		cfg.ReadCredits = defaultCredits()
	}
	if cfg.WriteCredits <= 0 {
		cfg.WriteCredits = defaultCredits()
	}
	if cfg.TransferTLS == nil {
		cfg.TransferTLS = cfg.TLS
	}
	if cfg.Grace <= 0 {
		cfg.Grace = defaultGrace
	}
	a := &Agent{cfg: cfg, process: rand.Text(), log: cfg.Log.With("agent", cfg.Name), drain: make(chan struct{}),
		running: map[uint64]*running{}, streams: map[string]*gateQueue{}, conns: map[string]*transfer.Conn{}}
	var err error
	if a.session, err = session.New(session.Config{Address: cfg.Coordinator, TLS: cfg.TLS, Handler: a, Log: a.log}); err != nil {
		return nil, err
	}
	if cfg.TransferListen != "" {
		if a.server, err = apply.Listen(cfg.TransferListen, cfg.TransferTLS, a.openSink); err != nil {
			return nil, errors.Join(err, a.session.Close())
		}
	}
	a.host = host.New(host.Config{Self: cfg.Self, SelfArgs: cfg.SelfArgs, BuiltIn: cfg.BuiltIn, Dir: cfg.ConnectorDir,
		Env: cfg.ConnectorEnv, Budget: cfg.ConnectorBudget, Log: a.log})
	if a.meter, err = newMeter(a); err != nil {
		if a.server != nil {
			a.server.Stop()
		}
		return nil, errors.Join(err, a.session.Close(), a.host.Close())
	}
	return a, nil
}

// Run works until ctx ends or the coordinator asks to drain: then no task is taken any more, running ones get their
// grace, and what they report is still sent.
func (a *Agent) Run(ctx context.Context) error {
	a.tasks = stop.New(context.WithoutCancel(ctx))
	links := stop.New(context.WithoutCancel(ctx))
	err := links.Go(a.session.Run)
	if a.server != nil {
		err = errors.Join(err, links.Go(a.serve))
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case <-a.drain:
		case <-links.Context().Done():
		}
	}
	err = errors.Join(err, quiet(a.tasks.Stop(a.cfg.Grace)))
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
	a.session.Flush(flush)
	cancel()
	if a.server != nil {
		a.server.Stop()
	}
	links.Abort()
	err = errors.Join(err, quiet(links.Wait()))
	return errors.Join(err, a.closeAll())
}

func (a *Agent) serve(context.Context) error {
	err := a.server.Run()
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// quiet drops what merely says that the work was stopped.
func quiet(err error) error {
	if errors.Is(err, stop.ErrAborted) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (a *Agent) closeAll() error {
	errs := []error{a.host.Close(), a.arenas.close(), a.meter.close()} // the host first: it ends calls that still wait
	a.mu.Lock()
	conns := a.conns
	a.conns = map[string]*transfer.Conn{}
	a.mu.Unlock()
	for _, c := range conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Drain makes Run end as if its context had ended.
func (a *Agent) Drain() { a.drained.Do(func() { close(a.drain) }) }

// Prewarm starts processes of a connector that tasks will soon need.
func (a *Agent) Prewarm(connector string, n int) { a.host.Prewarm(connector, n) }

// Grants replaces what other agents may write here.
func (a *Agent) Grants(all []*fleetv1.Grant) {
	if a.server != nil {
		a.server.Grant(all)
	}
}

// TransferAddress is what source agents dial, "" without a listener.
func (a *Agent) TransferAddress() string {
	switch {
	case a.server == nil:
		return ""
	case a.cfg.TransferAddress != "":
		return a.cfg.TransferAddress
	}
	return a.server.Address()
}

// Hello introduces the agent.
func (a *Agent) Hello() *fleetv1.Hello {
	h := &fleetv1.Hello{Agent: a.cfg.Name, Version: a.cfg.Version, Labels: a.cfg.Labels, Connectors: a.host.Connectors(),
		ReadCredits: int32(a.cfg.ReadCredits), WriteCredits: int32(a.cfg.WriteCredits),
		Source: !a.cfg.NoSource, Sink: !a.cfg.NoSink, TransferAddress: a.TransferAddress(), Process: a.process}
	if a.server != nil {
		h.Grants = a.server.Grants()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, r := range a.running {
		h.Running = append(h.Running, id)
		if t := r.lasting(); t != nil {
			h.Tasks = append(h.Tasks, t)
		}
	}
	return h
}

// Progress tells how far the running tasks are.
func (a *Agent) Progress() *fleetv1.Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &fleetv1.Progress{}
	for _, r := range a.running {
		if t := r.progress(); t != nil {
			p.Tasks = append(p.Tasks, t)
		}
	}
	if len(p.Tasks) == 0 {
		return nil
	}
	return p
}

func (a *Agent) openSink(ctx context.Context, ep *fleetv1.Endpoint) (sdk.Sink, func(), error) {
	h, err := a.host.Open(ctx, ep)
	if err != nil {
		return nil, nil, err
	}
	return h, func() { _ = h.Close() }, nil
}

// remote is the connection to another agent's targets, made once.
func (a *Agent) remote(address string) (*transfer.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.conns[address]; c != nil {
		return c, nil
	}
	c, err := transfer.Dial(address, a.cfg.TransferTLS)
	if err == nil {
		a.conns[address] = c
	}
	return c, err
}
