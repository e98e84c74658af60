package fleet_test

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// line is a network between an agent and its coordinator that loses what the test wants it to lose.
type line struct {
	listener net.Listener
	to       string
	// deaf: the agent hears nothing any more; mute: nobody hears the agent.
	deaf, mute atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: n, to: to}
	l.wg.Go(l.serve)
	t.Cleanup(func() { n.Close(); l.cut(); l.wg.Wait() })
	return l
}

func (l *line) address() string { return l.listener.Addr().String() }

func (l *line) serve() {
	for {
		agent, err := l.listener.Accept()
		if err != nil {
			return
		}
		coordinator, err := net.Dial("tcp", l.to)
		if err != nil {
			agent.Close()
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, agent, coordinator)
		l.mu.Unlock()
		l.wg.Go(func() { pass(agent, coordinator, &l.mute) })
		l.wg.Go(func() { pass(coordinator, agent, &l.deaf) })
	}
}

// pass moves bytes until an end is closed. What is lost once stays lost until then: a stream has no holes.
func pass(from, to net.Conn, lost *atomic.Bool) {
	defer to.Close()
	defer from.Close()
	buffer, broken := make([]byte, 32<<10), false
	for {
		n, err := from.Read(buffer)
		if broken = broken || lost.Load(); !broken && n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut breaks every connection.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// lose drops one direction for a while, then breaks the connection; the next one is whole.
func (l *line) lose(what *atomic.Bool) {
	what.Store(true)
	time.Sleep(1500 * time.Millisecond)
	l.cut()
	what.Store(false)
}

// Messages are lost in both directions between the coordinator and both agents, then the session breaks and is made anew:
// tasks, gate requests and their replies among them. All are asked again, nothing is done twice, and the attempt goes on.
func TestFleet_WhatASessionLosesIsAskedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(t, 0)
	lines := map[string]*line{}
	for name, args := range map[string][]string{"src": {"--no-sink"}, "dst": {"--no-source", "--transfer", harness.FreeAddress(t, "127.0.0.1")}} {
		lines[name] = newLine(t, s.addresses[0])
		p := harness.Start(t, harness.Command{Args: append([]string{"agent", "run", "-v", "--coordinator", lines[name].address(), "--name", name}, args...),
			Env: []string{"DROVER_FAULT=load.before-read=sleep:400ms"}})
		p.WaitForOutput(t, "linked to the coordinator", 20*time.Second)
	}
	w := harness.StartWriter(t, s.source, "public.a", harness.WriterOptions{})
	s.apply(t, "lossy")
	s.awaitLoad(t, "yet", func(entry) bool { return true })
	reader := walsender(t, s.source, "drover_lossy")
	for range 2 {
		lines["src"].lose(&lines["src"].deaf)
		time.Sleep(500 * time.Millisecond)
		lines["src"].lose(&lines["src"].mute)
		time.Sleep(500 * time.Millisecond)
	}
	lines["dst"].lose(&lines["dst"].deaf)
	lines["dst"].lose(&lines["dst"].mute)
	logs := s.ends(t, "lossy", w)
	if now := walsender(t, s.source, "drover_lossy"); now != reader || strings.Contains(logs, "trying again") {
		t.Errorf("the attempt was begun again (stream %s, then %s): %s", reader, now, logs)
	}
	for chunk, grants := range s.ledger.grants(t) {
		if len(grants) > 1 {
			t.Errorf("chunk %s was granted again: %+v", chunk, grants)
		}
	}
	if n := dev.MustQuery(t, s.target, "SELECT count(*) FROM drover.chunk WHERE NOT written"); n != "0" {
		t.Errorf("%s chunks are not written", n)
	}
	harness.MustRun(t, "delete", "lossy", "--yes", "--confirm", "lossy", "--coordinator", s.all())
}
