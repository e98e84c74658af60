package dev

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options shape a server. The zero value is a server fit for change data capture, durable as in production.
type Options struct {
	Settings map[string]string // postgresql.conf settings, over the defaults
	NoFsync  bool              // faster, and still safe against a killed process; not against a lost machine
	Target   bool              // of the target's version, see DROVER_DEV_POSTGRES_TARGET
}

// Server is one throw-away PostgreSQL server. Its superuser is "postgres", without a password.
type Server struct {
	bin      string
	dir      string // data/, the socket and the log
	port     int
	settings map[string]string
	cred     *syscall.Credential

	mu     sync.Mutex
	proc   *Child    // nil while stopped
	guard  *exec.Cmd // runs while paused, see Pause
	unwind func()    // ends the guard in peace
	closed bool
}

const (
	readyWithin = 60 * time.Second
	stopWithin  = 20 * time.Second
	portTries   = 5
)

// StartPostgres returns a server that accepts connections. The caller closes it.
func StartPostgres(ctx context.Context, o Options) (*Server, error) {
	find := binaries
	if o.Target {
		find = targetBinaries
	}
	bin, err := find()
	if err != nil {
		return nil, err
	}
	cred, err := account()
	if err != nil {
		return nil, err
	}
	dir, err := root.newServer(ctx, bin, cred)
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, cred: cred, settings: settings(o)}
	for try := 1; ; try++ {
		if s.port, err = freePort(); err == nil {
			err = s.Start(ctx)
		}
		if err == nil {
			return s, nil
		}
		if try == portTries || !errors.Is(err, errPortTaken) {
			return nil, errors.Join(err, s.Close())
		}
	}
}

// settings are the defaults with the caller's on top.
func settings(o Options) map[string]string {
	m := map[string]string{
		"wal_level":             "logical",
		"max_wal_senders":       "20",
		"max_replication_slots": "20",
		"timezone":              "UTC",
		"log_timezone":          "UTC",
	}
	if o.NoFsync {
		m["fsync"] = "off"
	}
	maps.Copy(m, o.Settings)
	return m
}

// Port is the TCP port on 127.0.0.1. It stays the same over Stop and Start.
func (s *Server) Port() int { return s.port }

// URL names a database of this server.
func (s *Server) URL(db string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, db)
}

// DSN is URL in keyword form.
func (s *Server) DSN(db string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=%s sslmode=disable", s.port, db)
}

// Log is what the server has written so far.
func (s *Server) Log() string {
	raw, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

func (s *Server) logPath() string { return filepath.Join(s.dir, "log") }

// Start starts a stopped or killed server and returns when it accepts connections. A running one is left alone.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("dev: server is closed")
	}
	if s.proc != nil && !s.proc.ended() {
		return nil
	}
	if err := s.launch(); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		_ = s.end(syscall.SIGQUIT)
		return err
	}
	return nil
}

func (s *Server) launch() error {
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	defer log.Close()
	args := []string{"-D", filepath.Join(s.dir, "data"), "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + s.dir}
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		args = append(args, "-c", name+"="+s.settings[name])
	}
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	// SIGQUIT is PostgreSQL's immediate shutdown: it takes the backends along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Pdeathsig: syscall.SIGQUIT}
	s.proc, err = Spawn(cmd)
	return err
}

var errPortTaken = errors.New("dev: port is taken")

// ready polls until the server answers a query, ends, or the time is over.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.proc.done:
			log := s.tail()
			if strings.Contains(log, "Address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("dev: postgres ended: %w\n%s", s.proc.err, log)
		case <-ctx.Done():
			return fmt.Errorf("dev: postgres not ready: %w (%w)\n%s", ctx.Err(), err, s.tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// ping goes over our own socket: another server that took the TCP port first must not answer for us.
func (s *Server) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", s.dir, s.port))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func (s *Server) tail() string {
	log := s.Log()
	return log[max(0, len(log)-2000):]
}

// Stop shuts the server down in an orderly way (sessions are ended). A stopped one is left alone.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(syscall.SIGINT)
}

// Kill ends every process of the server at once, as a crash would. Start then recovers from the log.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(syscall.SIGKILL)
}

// StopImmediate is what "pg_ctl stop -m immediate" does: sessions are cut off, and Start recovers from the log.
func (s *Server) StopImmediate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(syscall.SIGQUIT)
}

// Close takes the server down and removes its folder. Idempotent.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.end(syscall.SIGINT), root.giveBack(s.dir))
}

// end signals the server and waits; what does not listen is killed. Backends go with it.
func (s *Server) end(sig syscall.Signal) error {
	if s.proc == nil {
		return nil
	}
	proc := s.proc
	s.proc = nil
	if s.guard != nil {
		s.resume(proc)
	}
	if proc.ended() {
		return nil
	}
	if sig != syscall.SIGKILL {
		_ = proc.signal(sig) // it may just have ended
		if proc.waitFor(stopWithin) {
			return nil
		}
	}
	_ = proc.signal(syscall.SIGSTOP) // no new backends between the list and the kill
	backends := ChildrenOf(proc.pid)
	for _, pid := range backends {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = proc.signal(syscall.SIGKILL)
	<-proc.done
	return waitGone(backends, stopWithin)
}

// freePort picks a port outside the kernel's range for outgoing connections, so that it is still free after Stop.
func freePort() (int, error) {
	for range 200 {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("dev: no free port")
}
