package harness

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// PeakMemory gathers the largest memory that processes and their children held together, in MB, until the returned
// function is called.
func PeakMemory(t testing.TB, pids ...int) func() int64 {
	t.Helper()
	var most int64
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			most = max(most, memoryOf(pids))
			select {
			case <-quit:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	stop := sync.OnceFunc(func() { close(quit); wg.Wait() })
	t.Cleanup(stop)
	return func() int64 { stop(); return most >> 20 }
}

// memoryOf is the anonymous memory of processes and what they started, in bytes.
func memoryOf(pids []int) int64 {
	memory, parent := map[int]int64{}, map[int]int{}
	all, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, path := range all {
		b, _ := os.ReadFile(path) // it may have ended
		p, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		for _, line := range strings.Split(string(b), "\n") {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			n, _ := strconv.ParseInt(f[1], 10, 64)
			switch f[0] {
			case "PPid:":
				parent[p] = int(n)
			case "RssAnon:":
				memory[p] = n << 10
			}
		}
	}
	var sum int64
	for p := range memory {
		for q := p; q > 1; q = parent[q] {
			if slices.Contains(pids, q) {
				sum += memory[p]
				break
			}
		}
	}
	return sum
}
