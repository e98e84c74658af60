package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/droverdb/drover/deploy/dev"
)

// usage is what one piece of work took.
type usage struct {
	wall time.Duration
	cpu  time.Duration // Drover's processes, ended children included
	rss  int64         // peak of all Drover processes together, bytes
	disk int64         // bytes of the tables moved
	// sourceCPU and targetCPU are what the two servers spent meanwhile.
	sourceCPU, targetCPU time.Duration
}

// metered is a running Drover with all that it starts.
type metered struct {
	cmd   *exec.Cmd
	child *dev.Child
	out   bytes.Buffer
	began time.Time
	peak  int64
	done  chan struct{} // the sampler has ended
}

// Sampling is rare enough that watching costs little beside the work.
const (
	sampleEvery = 100 * time.Millisecond
	scanEvery   = 10 // samples
)

// drive starts drover.
func (l *lab) drive(args ...string) (*metered, error) {
	m := &metered{cmd: exec.Command(l.drover, args...), began: time.Now(), done: make(chan struct{})}
	m.cmd.Stdout, m.cmd.Stderr = &m.out, &m.out
	m.cmd.Dir = l.tmp
	m.cmd.WaitDelay = 5 * time.Second
	var err error
	if m.child, err = dev.Spawn(m.cmd); err != nil {
		return nil, err
	}
	go m.sample()
	return m, nil
}

// sample looks at the known processes often and for new ones seldom: reading a whole process table costs milliseconds.
func (m *metered) sample() {
	defer close(m.done)
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var known []int
	for n := 0; ; n++ {
		if n%scanEvery == 0 || n < scanEvery { // the first second starts everything
			known = tree(m.child.PID())
		}
		m.peak = max(m.peak, rss(known))
		select {
		case <-m.child.Done():
			return
		case <-tick.C:
		}
	}
}

// wait waits for the end and kills what does not end with ctx.
func (m *metered) wait(ctx context.Context) (usage, error) {
	select {
	case <-m.child.Done():
	case <-ctx.Done():
		m.child.KillGroup()
	}
	err := m.child.Err()
	u := usage{wall: time.Since(m.began)}
	<-m.done
	u.rss = m.peak
	if state := m.cmd.ProcessState; state != nil {
		u.cpu = state.UserTime() + state.SystemTime()
	}
	if err != nil {
		err = fmt.Errorf("drover: %w: %s", err, tail(m.out.Bytes()))
	}
	return u, err
}

// whenEnded calls f if the process ends before the returned function is called, which waits for the watcher.
func (m *metered) whenEnded(f func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-m.child.Done():
			f()
		case <-quit:
		}
	}()
	return func() { close(quit); <-done }
}

// interrupt stops a follower the way a user does; its exit code 130 is as it should be.
func (m *metered) interrupt(ctx context.Context) (usage, error) {
	_ = m.child.Signal(syscall.SIGINT) // it may have ended; wait tells
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	u, err := m.wait(ctx)
	if state := m.cmd.ProcessState; state != nil && state.ExitCode() == 130 {
		err = nil
	}
	return u, err
}

// process is one line of the process table.
type process struct {
	parent int
	rss    int64
	cpu    time.Duration
	ended  time.Duration // CPU of children that have ended
}

// clockTick is USER_HZ, the same on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// readProcess reads /proc/PID/stat; ok is false when the process is gone.
func readProcess(pid int) (p process, ok bool) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return p, false
	}
	end := bytes.LastIndexByte(raw, ')') // the name in parentheses may itself hold spaces
	if end < 0 {
		return p, false
	}
	f := strings.Fields(string(raw[end+1:]))
	if len(f) < 22 {
		return p, false
	}
	number := func(i int) int64 { n, _ := strconv.ParseInt(f[i], 10, 64); return n } // the kernel writes numbers
	return process{
		parent: int(number(1)),
		cpu:    time.Duration(number(11)+number(12)) * clockTick,
		ended:  time.Duration(number(13)+number(14)) * clockTick,
		rss:    number(21) * int64(os.Getpagesize()),
	}, true
}

// processes is the process table.
func processes() map[int]process {
	all := map[int]process{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return all
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			all[pid] = p
		}
	}
	return all
}

// tree is a process and all its descendants.
func tree(root int) (pids []int) {
	all := processes()
	for pid := range all {
		if descends(all, pid, root) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// rss adds up the resident memory of processes; one that has ended has none.
func rss(pids []int) (sum int64) {
	for _, pid := range pids {
		if p, ok := readProcess(pid); ok {
			sum += p.rss
		}
	}
	return sum
}

// treeCPU adds up the CPU time of a process and all its descendants, those that have ended included.
func treeCPU(root int) (sum time.Duration) {
	all := processes()
	for pid, p := range all {
		if descends(all, pid, root) {
			sum += p.cpu + p.ended
		}
	}
	return sum
}

// serverCPU is what a server has spent since its start.
func serverCPU(ctx context.Context, s *dev.Server) (time.Duration, error) {
	pid, err := dev.Query(ctx, s.URL("postgres"), `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)`)
	if err != nil {
		return 0, err
	}
	root, err := strconv.Atoi(pid)
	return treeCPU(root), err
}

// serversCPU is what both servers have spent.
func (l *lab) serversCPU(ctx context.Context) (source, target time.Duration, err error) {
	if source, err = serverCPU(ctx, l.source); err == nil {
		target, err = serverCPU(ctx, l.target)
	}
	return source, target, err
}

func descends(all map[int]process, pid, root int) bool {
	for pid > 1 {
		if pid == root {
			return true
		}
		pid = all[pid].parent
	}
	return false
}
