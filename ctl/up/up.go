// Package up runs coordinator, embedded etcd and agent in one process tree: what `drover copy`, `drover up`
// and the tests use. It is the only package that imports both coordinator and agent.
package up

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/droverdb/drover/agent"
	"github.com/droverdb/drover/agent/secret"
	"github.com/droverdb/drover/coordinator"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/scratch"
	"github.com/droverdb/drover/internal/telemetry"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

const (
	maxMessage   = 64 << 20
	readyTimeout = 40 * time.Second
)

// Options shape a process tree.
type Options struct {
	// Data is the directory of the state; empty: a temporary one that Stop removes.
	Data string
	// Name of coordinator and agent.
	Name string
	// Secrets are passwords by local name; pipelines refer to them as local:NAME.
	Secrets map[string]string
	// Listen is an extra address for control and agents; empty: only a unix socket.
	Listen string
	TLS    TLSFiles
	// Etcd are endpoints of an external etcd; empty: embedded.
	Etcd []string
	// Prewarm names connectors that will be needed at once, each as often as it will be.
	Prewarm []string
	// NoAgent runs the coordinator alone: its agents' work outlives it.
	NoAgent bool
	// TTL is how long an agent or a leader may be silent; 0: the coordinator's own default.
	TTL     time.Duration
	Verbose bool
}

// Tree is a running process tree.
type Tree struct {
	Control controlv1.ControlServiceClient
	// Address is that of the unix socket.
	Address string

	servers     []*grpc.Server
	conn        *grpc.ClientConn
	made        *agent.Agent // until it runs
	stopAgent   context.CancelFunc
	agent       chan error
	stopLead    context.CancelFunc
	coordinator chan error
	failed      chan struct{}
	folders     []*scratch.Folder
	addressFile string
	stopped     bool
}

// Start returns when the coordinator leads and answers. The tree outlives ctx: end it with Stop.
func Start(ctx context.Context, o Options) (_ *Tree, err error) {
	boundMemory()
	t := &Tree{failed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Stop(2*time.Second))
		}
	}()
	if o.Data == "" {
		if o.Data, err = t.scratch("state"); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return nil, diag.StateUnusable.New(o.Data, err, "the data directory cannot be made").WithFix(diag.WritableData)
	}
	for name, value := range o.Secrets {
		secret.Set(name, value)
	}
	// The socket has a folder of its own: a unix path is bounded at about 100 bytes, the data directory may be longer.
	dir, err := t.scratch("sock")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "s")
	t.Address = "unix:" + socket
	if !o.NoAgent {
		if err := t.makeAgent(o); err != nil {
			return nil, err
		}
	}
	if err := t.startCoordinator(ctx, o, socket); err != nil {
		return nil, err
	}
	if !o.NoAgent {
		t.startAgent(ctx)
	}
	return t, nil
}

// scratch makes a folder that Stop removes, and the next start of drover if we are killed.
func (t *Tree) scratch(kind string) (string, error) {
	f, err := scratch.New(kind)
	if err != nil {
		return "", diag.StateUnusable.New(os.TempDir(), err, "no folder for sockets and state can be made there").WithFix(diag.WritableTemp)
	}
	t.folders = append(t.folders, f)
	return f.Path, nil
}

// startCoordinator leads, serves on the unix socket, and on an address if one is given.
func (t *Tree) startCoordinator(ctx context.Context, o Options, socket string) error {
	cfg := coordinator.Config{Name: o.Name, Etcd: o.Etcd, TTL: o.TTL, Keep: o.NoAgent}
	if len(o.Etcd) == 0 {
		cfg.Embed = &coordinator.EmbedConfig{DataDir: o.Data}
	}
	c := coordinator.New(cfg)
	lead, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stopLead, t.coordinator = stop, make(chan error, 1)
	go func() {
		err := c.Run(lead)
		t.coordinator <- err
		close(t.failed)
	}()
	if err := t.serve(c, "unix", socket, TLSFiles{}); err != nil {
		return err
	}
	if o.Listen != "" {
		if err := t.serve(c, "tcp", o.Listen, o.TLS); err != nil {
			return err
		}
	}
	var err error
	t.conn, err = grpc.NewClient(t.Address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return err
	}
	t.Control = controlv1.NewControlServiceClient(t.conn)
	if len(o.Etcd) == 0 || !o.NoAgent { // else it is one of several: perhaps it never leads
		if err := t.awaitLead(ctx, o); err != nil {
			return err
		}
	}
	return t.publish(o.Data)
}

// publish tells where the coordinator of this directory is: not before it leads, since until then the directory may be
// another one's.
func (t *Tree) publish(dir string) error {
	t.addressFile = filepath.Join(dir, AddressFile)
	if err := writeWhole(t.addressFile, t.Address); err != nil {
		return diag.StateUnusable.New(dir, err, "the address file cannot be written").WithFix(diag.WritableData)
	}
	return nil
}

// awaitLead returns once the coordinator leads and answers.
func (t *Tree) awaitLead(ctx context.Context, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := t.Control.List(ctx, &controlv1.ListRequest{}, grpc.WaitForReady(true))
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			return diag.StateUnusable.New(o.Data, err, "the coordinator does not lead within %v", readyTimeout)
		}
		return nil
	case err := <-t.coordinator:
		t.coordinator = nil
		cancel()
		<-answered
		return err
	}
}

func (t *Tree) serve(c *coordinator.Coordinator, network, address string, files TLSFiles) error {
	creds := insecure.NewCredentials()
	if network != "unix" {
		var err error
		if creds, err = Credentials(address, files); err != nil {
			return err
		}
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return diag.StateUnusable.New(address, err, "cannot listen").WithFix("End what listens there, or give another address with --listen.")
	}
	s := grpc.NewServer(grpc.Creds(creds), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	c.Register(s)
	t.servers = append(t.servers, s)
	go s.Serve(l) //nolint:errcheck // ends with the server; its owner is Stop
	return nil
}

// makeAgent has connectors start while the coordinator does.
func (t *Tree) makeAgent(o Options) (err error) {
	t.made, err = agent.New(agentConfig(AgentOptions{Name: o.Name, Coordinator: t.Address, Verbose: o.Verbose}))
	for _, connector := range o.Prewarm {
		if err == nil {
			t.made.Prewarm(connector, 1)
		}
	}
	return err
}

func (t *Tree) startAgent(ctx context.Context) {
	a := t.made
	t.made = nil
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stopAgent, t.agent = stop, make(chan error, 1)
	go func() { t.agent <- a.Run(run) }()
}

// Failed is closed when the coordinator has ended by itself.
func (t *Tree) Failed() <-chan struct{} { return t.failed }

// Stop drains the agent, then ends the coordinator, and removes what Start made. It may be called again.
func (t *Tree) Stop(grace time.Duration) error {
	if t.stopped {
		return nil
	}
	t.stopped = true
	var errs []error
	if t.made != nil { // it never ran: running it without time closes it
		t.startAgent(context.Background())
	}
	// The coordinator's pipelines end first: they cancel their tasks, and agents finish the rounds in flight.
	if t.stopLead != nil {
		t.stopLead()
	}
	if t.coordinator != nil {
		errs = append(errs, within(t.coordinator, grace, "the coordinator"))
	}
	if t.stopAgent != nil {
		t.stopAgent()
		errs = append(errs, within(t.agent, grace, "the agent"))
	}
	if t.conn != nil {
		errs = append(errs, t.conn.Close())
	}
	for _, s := range t.servers {
		s.Stop()
	}
	if t.addressFile != "" {
		errs = append(errs, os.RemoveAll(t.addressFile))
	}
	for _, f := range t.folders {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func within(ended <-chan error, grace time.Duration, who string) error {
	select {
	case err := <-ended:
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	case <-time.After(grace):
		return diag.Internal.New(who, nil, "it did not end within %v", grace)
	}
}

func logger(verbose bool) *slog.Logger {
	if verbose {
		return telemetry.NewLogger(os.Stderr, false, slog.LevelDebug)
	}
	return telemetry.NewLogger(os.Stderr, false, slog.LevelError+4)
}

// writeWhole replaces a file in one step: a reader sees the old text or the new one.
func writeWhole(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
