package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/telemetry"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// closeGrace is how long a connector may take to end its sessions.
const closeGrace = 3 * time.Second

// Serve runs a connector subprocess until its host ends it or is gone. source or sink is nil when the connector has
// no such side; Open decides which one this process is. It logs JSON to standard error and nothing to standard output.
func Serve(name string, source func() Source, sink func() Sink) {
	_ = os.Setenv(telemetry.FormatVar, "json")
	shutdown, err := telemetry.Setup(context.Background(), "drover-connector-"+name)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	stopWatch := watchParent()
	defer stopWatch()
	s := &server{name: name, newSource: source, newSink: sink}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         goplugin.PluginSet{pluginName: &glue{server: s}},
		Logger:          hclog.NewNullLogger(),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, ServerOptions()...)...)
		},
	})
	s.close()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	if err := shutdown(ctx); err != nil {
		slog.Debug("telemetry", "err", err)
	}
}

// watchParent ends the process when its host is gone: the second net beside the kernel's parent-death signal.
func watchParent() (stop func()) {
	parent := os.Getppid()
	if n, err := strconv.Atoi(os.Getenv(parentVar)); err == nil {
		parent = n
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			if os.Getppid() != parent {
				os.Exit(3)
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(quit); <-done }
}

// server is one connector process: one side of one database, decided by the first Open.
type server struct {
	name      string
	newSource func() Source
	newSink   func() Sink

	mu     sync.Mutex
	role   connectorv1.Role
	source Source
	sink   Sink
	rows   *grpc.Server
	socket string
	served chan error
	// readers are the goroutines that receive while a handler runs; they end right after it.
	readers sync.WaitGroup
}

// connector is the opened side, or an error.
func (s *server) connector() (Connector, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.source != nil:
		return s.source, nil
	case s.sink != nil:
		return s.sink, nil
	}
	return nil, diag.Internal.New("connector "+s.name, nil, "called before Open")
}

func (s *server) asSource() (Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source == nil {
		return nil, diag.Internal.New("connector "+s.name, nil, "not opened as a source")
	}
	return s.source, nil
}

// asSnapshotter is the side that was opened, if its tables can be read at one moment.
func (s *server) asSnapshotter() (Snapshotter, error) {
	c, err := s.connector()
	if err != nil {
		return nil, err
	}
	if x, ok := c.(Snapshotter); ok {
		return x, nil
	}
	return nil, diag.Internal.New("connector "+s.name, nil, "it has no shared snapshots of this side")
}

// asWaiter is the side that was opened, if it can tell what it waits for.
func (s *server) asWaiter() (Waiter, error) {
	c, err := s.connector()
	if err != nil {
		return nil, err
	}
	if x, ok := c.(Waiter); ok {
		return x, nil
	}
	return nil, diag.Internal.New("connector "+s.name, nil, "it cannot tell what it waits for")
}

func (s *server) asSink() (Sink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sink == nil {
		return nil, diag.Internal.New("connector "+s.name, nil, "not opened as a sink")
	}
	return s.sink, nil
}

// describer answers Describe before a role is known.
func (s *server) describer() Connector {
	if c, err := s.connector(); err == nil {
		return c
	}
	if s.newSource != nil {
		return s.newSource()
	}
	return s.newSink()
}

// take makes the process a source or a sink, once, and starts the rows server. It returns the socket's path.
func (s *server) take(role connectorv1.Role) (Connector, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	where := "connector " + s.name
	if s.role != connectorv1.Role_ROLE_UNSPECIFIED && s.role != role {
		return nil, "", diag.Internal.New(where, nil, "opened as %s, then as %s", s.role, role)
	}
	if s.rows == nil {
		if err := s.listen(); err != nil {
			return nil, "", diag.Internal.New(where, err, "the rows socket cannot be made")
		}
	}
	switch {
	case role == connectorv1.Role_ROLE_SOURCE && s.newSource != nil:
		if s.source == nil {
			s.source = s.newSource()
		}
		s.role = role
		return s.source, s.socket, nil
	case role == connectorv1.Role_ROLE_SINK && s.newSink != nil:
		if s.sink == nil {
			s.sink = s.newSink()
		}
		s.role = role
		return s.sink, s.socket, nil
	}
	return nil, "", diag.NoConnector.New(where, nil, "it cannot be opened as %s", role)
}

// listen serves rows on a socket that only this user can reach: the directory is 0700 and every peer's uid is checked.
func (s *server) listen() error {
	dir, err := os.MkdirTemp("", "rows")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	s.socket, s.rows, s.served = path, grpc.NewServer(ServerOptions()...), make(chan error, 1)
	connectorv1.RegisterRowsServiceServer(s.rows, &rows{server: s})
	go func() { s.served <- s.rows.Serve(sameUser{l}) }()
	return nil
}

func (s *server) close() {
	s.mu.Lock()
	rows, socket := s.rows, s.socket
	s.mu.Unlock()
	if rows != nil {
		rows.Stop()
		<-s.served
		s.readers.Wait()
		_ = os.RemoveAll(filepath.Dir(socket))
	}
	c, err := s.connector()
	if err != nil {
		return
	}
	done := make(chan error, 1)
	go func() { done <- c.Close() }()
	select {
	case err := <-done:
		if err != nil {
			slog.Warn("closing the connector", "err", err)
		}
	case <-time.After(closeGrace):
		slog.Warn("the connector does not close; its sessions end with the process")
	}
}

// sameUser accepts connections of this process's user only.
type sameUser struct{ *net.UnixListener }

func (l sameUser) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(c)
		if err == nil && uid == os.Getuid() {
			return c, nil
		}
		slog.Warn("a stranger was turned away from the rows socket", "uid", uid, "err", err)
		_ = c.Close()
	}
}
