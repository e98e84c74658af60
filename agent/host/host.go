// Package host starts connector subprocesses, keeps one for every endpoint of a pipeline, and ends them.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/agent/secret"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

const (
	defaultBudget = 128 << 20
	// idleFor is how long a process nobody uses is kept: the next task of the same pipeline usually follows at once.
	idleFor = 30 * time.Second
	// steady is how long a process must have lived for its end to count as the first one again.
	steady     = time.Minute
	maxBackoff = 10 * time.Second
)

// Config shapes a host.
type Config struct {
	// Self is this binary; "" means the running one. SelfArgs precede the connector's name; nil: connector serve.
	Self     string
	SelfArgs []string
	// BuiltIn are the connectors Self serves.
	BuiltIn []string
	// Dir holds binaries drover-connector-NAME, which are preferred.
	Dir string
	// Budget is the memory a connector may use for buffers, in bytes.
	Budget int64
	// Env is added to the environment of every connector.
	Env []string
	Log *slog.Logger
}

// Host owns connector subprocesses.
type Host struct {
	cfg Config

	mu     sync.Mutex
	pool   map[string]*entry
	spares []*spare
	sums   map[string][]byte // of external binaries, as first seen
	closed bool
	life   context.Context // ends with Close
	quit   context.CancelFunc
	wg     sync.WaitGroup
}

// entry is the place of one endpoint's process, whether it runs or not.
type entry struct {
	endpoint *fleetv1.Endpoint
	mu       sync.Mutex // held while starting
	process  *sdk.Process
	request  *connectorv1.OpenRequest
	opened   *connectorv1.OpenResponse
	describe *connectorv1.DescribeResponse
	started  time.Time
	fails    int
	notUntil time.Time

	users int // under Host.mu, as are the others
	idle  time.Time
	over  bool // its pipeline is released: the process ends with its last user
}

// New makes a host.
func New(cfg Config) *Host {
	if cfg.Self == "" {
		cfg.Self = "/proc/self/exe" // the very binary that runs, even if an upgrade has replaced its file
		if _, err := os.Stat(cfg.Self); err != nil {
			cfg.Self, _ = os.Executable()
		}
	}
	if cfg.SelfArgs == nil {
		cfg.SelfArgs = []string{"connector", "serve"}
	}
	if cfg.Budget <= 0 {
		cfg.Budget = defaultBudget
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	h := &Host{cfg: cfg, pool: map[string]*entry{}, sums: map[string][]byte{}}
	h.life, h.quit = context.WithCancel(context.Background())
	h.wg.Go(h.sweep)
	return h
}

// Handle is a share in an open connector. It is both Source and Sink; which works is decided by the endpoint's role.
type Handle struct {
	*sdk.Process
	Opened      *connectorv1.OpenResponse
	Description *connectorv1.DescribeResponse
	request     *connectorv1.OpenRequest
	fresh       bool // opened for this very share
	release     func()
}

// Look tells which server answers now. A process may have been open since before that server was started again.
func (h *Handle) Look(ctx context.Context) (*connectorv1.OpenResponse, error) {
	if h.fresh {
		return h.Opened, nil
	}
	return h.Process.Open(ctx, h.request)
}

// Close gives the share back; the process stays for the next one.
func (h *Handle) Close() error {
	h.release()
	return nil
}

// Open returns the open connector of an endpoint, starting its process if none runs. A process that died is started
// anew, with growing pauses if it keeps dying. The caller closes the handle.
func (h *Host) Open(ctx context.Context, ep *fleetv1.Endpoint) (*Handle, error) {
	key, err := proto.MarshalOptions{Deterministic: true}.Marshal(ep)
	if err != nil {
		return nil, diag.Internal.New("endpoint "+ep.GetName(), err, "it cannot be encoded")
	}
	e, err := h.enter(string(key), ep)
	if err != nil {
		return nil, err
	}
	h.endFormer(ep)
	release := sync.OnceFunc(func() { h.leave(e) })
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.process
	if err := h.ensure(ctx, e, ep); err != nil {
		release()
		return nil, err
	}
	return &Handle{Process: e.process, Opened: e.opened, Description: e.describe, request: e.request, fresh: e.process != before, release: release}, nil
}

func (h *Host) enter(key string, ep *fleetv1.Endpoint) (*entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, diag.CallCancelled.New("connector", nil, "the agent is ending")
	}
	e := h.pool[key]
	if e == nil {
		e = &entry{endpoint: ep}
		h.pool[key] = e
	}
	e.users++
	return e, nil
}

// endFormer ends what nobody uses any more of another owner of the pipeline: at the database it looks as if that were at work.
func (h *Host) endFormer(ep *fleetv1.Endpoint) {
	h.end(func(e *entry) bool {
		return e.users == 0 && e.endpoint.Pipeline == ep.Pipeline && e.endpoint.Role == ep.Role && e.endpoint.Owner != ep.Owner
	})
}

func (h *Host) leave(e *entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.users--
	e.idle = time.Now()
}

// ensure starts and opens the process unless it runs.
func (h *Host) ensure(ctx context.Context, e *entry, ep *fleetv1.Endpoint) error {
	if e.process != nil {
		if alive(e.process) {
			return nil
		}
		h.bury(e)
	}
	if err := h.pause(ctx, e); err != nil {
		return err
	}
	password, err := secret.Resolve(ep.Secret)
	if err != nil {
		return err
	}
	p, err := h.launch(ctx, ep)
	if err != nil {
		e.failed()
		return err
	}
	describe, err := p.Describe(ctx)
	e.request = &connectorv1.OpenRequest{Role: ep.Role, Url: ep.Url, Password: password, Options: ep.Options, Pipeline: ep.Pipeline, MemoryBudget: h.cfg.Budget, Owner: ep.Owner}
	if err == nil {
		e.opened, err = p.Open(ctx, e.request)
	}
	if err != nil {
		return errors.Join(err, p.Close())
	}
	e.process, e.describe, e.started = p, describe, time.Now()
	return nil
}

func alive(p *sdk.Process) bool {
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

// bury clears away a process that ended by itself and decides when the next may start.
func (h *Host) bury(e *entry) {
	if time.Since(e.started) > steady {
		e.fails = 0
	}
	e.failed()
	if err := e.process.Close(); err != nil {
		h.cfg.Log.Debug("closing a dead connector", "err", err)
	}
	e.process = nil
}

// failed makes the next start wait, unless this was the first failure.
func (e *entry) failed() {
	if e.fails++; e.fails > 1 {
		e.notUntil = time.Now().Add(min(maxBackoff, 100*time.Millisecond<<min(e.fails, 8)))
	}
}

func (h *Host) pause(ctx context.Context, e *entry) error {
	wait := time.Until(e.notUntil)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-h.life.Done():
		return diag.CallCancelled.New("connector", nil, "the agent is ending")
	}
}

// Released ends the processes at one side of a pipeline that is deleted, those in use at the sweep after their last use:
// nobody will ask for them again, and whoever drops the database meets no session of ours.
func (h *Host) Released(ep *fleetv1.Endpoint) {
	h.mu.Lock()
	for _, e := range h.pool {
		e.over = e.over || e.endpoint.GetPipeline() == ep.GetPipeline() && e.endpoint.GetRole() == ep.GetRole()
	}
	h.mu.Unlock()
	h.end(func(e *entry) bool { return e.over && e.users == 0 })
}

// sweep ends processes that nobody has used for a while.
func (h *Host) sweep() {
	tick := time.NewTicker(idleFor / 6)
	defer tick.Stop()
	for {
		select {
		case <-h.life.Done():
			return
		case now := <-tick.C:
			h.end(func(e *entry) bool { return e.users == 0 && (e.over || now.Sub(e.idle) > idleFor) })
			h.endSpares(func(s *spare) bool { return now.Sub(s.began) > idleFor })
		}
	}
}

// end takes the entries that match out of the pool and closes their processes.
func (h *Host) end(which func(*entry) bool) {
	h.mu.Lock()
	var gone []*entry
	for k, e := range h.pool {
		if which(e) {
			delete(h.pool, k)
			gone = append(gone, e)
		}
	}
	h.mu.Unlock()
	var wg sync.WaitGroup
	for _, e := range gone {
		wg.Go(func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.process == nil {
				return
			}
			if err := e.process.Close(); err != nil {
				h.cfg.Log.Debug("closing a connector", "err", fmt.Sprint(err))
			}
		})
	}
	wg.Wait()
}

// Close ends every process and waits for them. Open fails from then on.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	h.quit()
	h.mu.Unlock()
	h.end(func(*entry) bool { return true })
	h.endSpares(func(*spare) bool { return true })
	h.wg.Wait()
	return nil
}
