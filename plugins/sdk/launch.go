package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/scratch"
)

const (
	startTimeout = 20 * time.Second
	// killGrace is how long a connector may take to end by itself; a stopped one never does.
	killGrace = 5 * time.Second
)

// LaunchConfig says how to start a connector subprocess.
type LaunchConfig struct {
	Name string
	Path string
	Args []string
	// Env is the whole environment of the subprocess but for what the protocol adds.
	Env []string
	// Log receives what the connector logs.
	Log *slog.Logger
}

// Process is a running connector subprocess. It ends with Close, and dies with this process.
type Process struct {
	*Client
	runner *process
	plugin *goplugin.Client
	dir    *scratch.Folder
	once   sync.Once
	// links are the watches over the connections; life ends when the subprocess is told to end.
	links   sync.WaitGroup
	life    context.Context
	endLife context.CancelFunc
}

// Launch starts a connector and connects to it. The caller opens it, and closes it.
func Launch(ctx context.Context, cfg LaunchConfig) (*Process, error) {
	where := "connector " + cfg.Name
	dir, err := scratch.New("plugin")
	if err != nil {
		return nil, diag.Internal.New(where, err, "no directory for its sockets")
	}
	p := &Process{dir: dir}
	p.life, p.endLife = context.WithCancel(context.Background())
	lines := &lineLog{log: cfg.Log, name: cfg.Name}
	p.plugin = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: handshake, Plugins: goplugin.PluginSet{pluginName: &glue{}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		AutoMTLS:         true, SkipHostEnv: true, StartTimeout: startTimeout,
		Logger: hclog.NewNullLogger(), Stderr: lines, SyncStderr: lines, SyncStdout: lines,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: dir.Path},
		GRPCDialOptions:  linkOptions(),
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, _ string) (runner.Runner, error) {
			p.runner, err = newProcess(cfg, spec.Env, dir.Path)
			return p.runner, err
		},
	})
	conn, err := p.connect(ctx)
	if err != nil {
		p.end()
		return nil, diag.ConnectorDied.New(where, err, "it could not be started")
	}
	p.Client = NewClient(cfg.Name, conn)
	// Both connections stand from then on, so no file of this process remains, whatever happens to it.
	p.tend(conn)
	p.onOpen = func(rows *grpc.ClientConn) { p.tend(rows); p.removeDir() }
	p.onClose = func() error { p.end(); return nil }
	return p, nil
}

// tend kills the subprocess when a connection to it is lost: its sockets have no name any more, so nobody will reach
// it again. A connector that hangs ends this way: the keepalive of its connections finds it.
func (p *Process) tend(conn *grpc.ClientConn) {
	p.links.Go(func() {
		for was, is := connectivity.Idle, conn.GetState(); is != connectivity.Shutdown; was, is = is, conn.GetState() {
			if was == connectivity.Ready && is != connectivity.Ready && p.life.Err() == nil {
				_ = p.runner.Kill(p.life)
				return
			}
			if !conn.WaitForStateChange(p.life, is) {
				return
			}
		}
	})
}

// connect waits for the handshake; a context that ends kills the subprocess.
func (p *Process) connect(ctx context.Context) (*grpc.ClientConn, error) {
	type answer struct {
		raw any
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		protocol, err := p.plugin.Client()
		if err != nil {
			answers <- answer{err: err}
			return
		}
		raw, err := protocol.Dispense(pluginName)
		answers <- answer{raw, err}
	}()
	var a answer
	select {
	case a = <-answers:
	case <-ctx.Done():
		if a = <-answers; a.err == nil { // it starts within startTimeout, or fails
			a.err = ctx.Err()
		}
	}
	if a.err != nil {
		return nil, a.err
	}
	conn, ok := a.raw.(*grpc.ClientConn)
	if !ok {
		return nil, errors.New("unexpected answer of the plugin library")
	}
	return conn, nil
}

// Done is closed when the subprocess has ended.
func (p *Process) Done() <-chan struct{} { return p.runner.done }

// Pid is the subprocess's id.
func (p *Process) Pid() int { return p.runner.cmd.Process.Pid }

func (p *Process) removeDir() { _ = p.dir.Close() }

// end asks the subprocess to end, kills it when it does not, and waits.
func (p *Process) end() {
	p.once.Do(func() {
		p.endLife()
		p.links.Wait()
		if p.runner != nil {
			timer := time.AfterFunc(killGrace, func() { _ = p.runner.Kill(context.Background()) })
			defer timer.Stop()
		}
		p.plugin.Kill()
		if p.runner != nil && p.runner.cmd.Process != nil {
			<-p.runner.done
		}
		p.removeDir()
	})
}

// process runs the subprocess for go-plugin, started from the one thread that never ends.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr io.ReadCloser
	done           chan struct{}
}

var _ runner.Runner = (*process)(nil)

func newProcess(cfg LaunchConfig, protocolEnv []string, dir string) (*process, error) {
	cmd := exec.Command(cfg.Path, cfg.Args...)
	cmd.Env = append(append([]string{}, cfg.Env...), protocolEnv...)
	cmd.Env = append(cmd.Env, "TMPDIR="+dir, parentVar+"="+strconv.Itoa(os.Getpid()))
	p := &process{cmd: cmd, done: make(chan struct{})}
	var err error
	if p.stdout, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	p.stderr, err = cmd.StderrPipe()
	return p, err
}

func (p *process) Start(context.Context) error { return startTied(p.cmd) }

func (p *process) Wait(context.Context) error {
	err := p.cmd.Wait()
	close(p.done)
	return err
}

func (p *process) Kill(context.Context) error {
	if p.cmd.Process == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

func (p *process) Stdout() io.ReadCloser { return p.stdout }
func (p *process) Stderr() io.ReadCloser { return p.stderr }
func (p *process) Name() string          { return p.cmd.Path }

func (p *process) ID() string {
	if p.cmd.Process == nil {
		return ""
	}
	return strconv.Itoa(p.cmd.Process.Pid)
}

func (p *process) Diagnose(context.Context) string {
	return fmt.Sprintf("%s did not answer as a connector", p.cmd.Path)
}

func (p *process) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// lineLog turns a connector's standard error into log records of this process.
type lineLog struct {
	log  *slog.Logger
	name string

	mu   sync.Mutex
	rest []byte
}

func (l *lineLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		l.line(bytes.TrimSpace(l.rest[:i]))
		l.rest = l.rest[i+1:]
	}
}

func (l *lineLog) line(line []byte) {
	if l.log == nil || len(line) == 0 {
		return
	}
	record := map[string]any{}
	if json.Unmarshal(line, &record) != nil {
		l.log.Info(string(line), "connector", l.name)
		return
	}
	level := slog.LevelInfo
	if s, ok := record[slog.LevelKey].(string); ok {
		_ = level.UnmarshalText([]byte(s))
	}
	message, _ := record[slog.MessageKey].(string)
	attrs := []any{"connector", l.name}
	for k, v := range record {
		if k != slog.LevelKey && k != slog.MessageKey && k != slog.TimeKey {
			attrs = append(attrs, k, v)
		}
	}
	l.log.Log(context.Background(), level, message, attrs...)
}
