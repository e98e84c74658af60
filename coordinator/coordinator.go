// Package coordinator plans and assigns. It never sees a row or a password. Several may run; one leads.
package coordinator

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/droverdb/drover/coordinator/control"
	"github.com/droverdb/drover/coordinator/engine"
	"github.com/droverdb/drover/coordinator/fleet"
	"github.com/droverdb/drover/coordinator/lease"
	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/diag"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// EmbedConfig shapes an embedded etcd.
type EmbedConfig = store.Embed

// Config shapes a coordinator: either Etcd or Embed is set.
type Config struct {
	Name string
	// Etcd are endpoints of a cluster.
	Etcd  []string
	Embed *EmbedConfig
	// TTL is how long an agent, or a leader beside others, may be silent; 0: 10 s.
	TTL time.Duration
	// Keep leaves tasks running when Run ends: another coordinator, or this one once it is back, takes them over.
	Keep bool
}

// Coordinator serves FleetService and ControlService while it leads.
type Coordinator struct {
	cfg Config

	mu     sync.Mutex
	engine *engine.Engine
	leads  chan struct{} // closed while engine is set
}

// New makes a coordinator; Run runs it.
func New(cfg Config) *Coordinator {
	if cfg.TTL == 0 {
		cfg.TTL = 10 * time.Second
	}
	if cfg.Name == "" {
		cfg.Name = "coordinator"
	}
	return &Coordinator{cfg: cfg, leads: make(chan struct{})}
}

// Run leads whenever it is elected, until ctx ends.
func (c *Coordinator) Run(ctx context.Context) (err error) {
	client, done, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	for ctx.Err() == nil {
		err := c.lead(ctx, client)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if c.cfg.Embed != nil && !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		// An etcd that is away comes back; what was given out goes on meanwhile.
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}

const (
	// pause is the time between terms that could not begin.
	pause = time.Second
	// firstAnswer is how long etcd may take to answer at the start: an address may be wrong.
	firstAnswer = 10 * time.Second
)

func (c *Coordinator) connect(ctx context.Context) (*clientv3.Client, func() error, error) {
	if c.cfg.Embed != nil {
		s, err := store.Start(ctx, *c.cfg.Embed)
		if err != nil {
			return nil, nil, err
		}
		return s.Client, s.Close, nil
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: c.cfg.Etcd, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, nil, diag.StateUnusable.New("etcd", err, "no client")
	}
	limited, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	if _, err := client.Get(limited, store.ElectionKey); err != nil {
		return nil, nil, errors.Join(diag.StateUnusable.New("etcd "+strings.Join(c.cfg.Etcd, ","), err, "it does not answer").
			WithFix("Start etcd, or correct --etcd."), client.Close())
	}
	return client, client.Close, nil
}

// lead is one term.
func (c *Coordinator) lead(ctx context.Context, client *clientv3.Client) (err error) {
	ttl := max(int(c.cfg.TTL/time.Second), 2)
	if c.cfg.Embed != nil {
		// Nobody else can lead here. A short lease would end a term whenever the machine has no time for us.
		ttl = 60
		if err := lease.Evict(ctx, client); err != nil {
			return err
		}
	}
	l, err := lease.Campaign(ctx, client, c.cfg.Name, ttl)
	if err != nil {
		return err
	}
	defer l.Resign() // else the lease ends by itself
	f := fleet.New(c.cfg.Name, lease.Agents{Client: client}, c.cfg.TTL)
	defer f.Close()
	e, err := engine.New(ctx, store.New(client, l.Fence), f)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.engine = e
	close(c.leads)
	c.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-l.Lost():
	case <-e.Failed():
	}
	c.mu.Lock()
	c.engine, c.leads = nil, make(chan struct{})
	c.mu.Unlock()
	err = e.Close(ctx.Err() == nil || c.cfg.Keep)
	if errors.Is(err, store.ErrFenced) {
		return nil
	}
	return err
}

// current waits for leadership as long as the caller does, but not longer than a few seconds.
func (c *Coordinator) current(ctx context.Context) (*engine.Engine, error) {
	limit := time.NewTimer(5 * time.Second)
	defer limit.Stop()
	for {
		c.mu.Lock()
		e, leads := c.engine, c.leads
		c.mu.Unlock()
		if e != nil {
			return e, nil
		}
		select {
		case <-leads:
		case <-limit.C:
			return nil, diag.NoCoord.New(c.cfg.Name, nil, "another coordinator leads, or none does yet")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Register adds both services to a server.
func (c *Coordinator) Register(r grpc.ServiceRegistrar) {
	controlv1.RegisterControlServiceServer(r, &control.Server{Engine: c.current})
	fleetv1.RegisterFleetServiceServer(r, session{c: c})
}

// session passes agents to the fleet of the current term.
type session struct {
	fleetv1.UnimplementedFleetServiceServer
	c *Coordinator
}

func (s session) Session(stream fleetv1.FleetService_SessionServer) error {
	e, err := s.c.current(stream.Context())
	if err != nil {
		return err
	}
	return e.Fleet.Session(stream)
}
