package copy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// peak gathers the largest memory that a process and its children held together, in MB, until the returned function is called.
func peak(t *testing.T, pid int) func() int64 {
	t.Helper()
	var most int64
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			most = max(most, tree(pid))
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

// tree is the anonymous memory of a process and what it started, in bytes.
func tree(pid int) int64 {
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
			if q == pid {
				sum += memory[p]
				break
			}
		}
	}
	return sum
}

const bigValue = `(SELECT decode(repeat('00ff10e1', %d), 'hex'))`

// A single value far beyond every buffer passes the load, within the memory that everything else passes in.
func TestCopy_AHugeValue(t *testing.T) {
	source, target := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, fmt.Sprintf(`CREATE TABLE b (id int PRIMARY KEY, v bytea); ALTER TABLE b ALTER v SET STORAGE EXTERNAL; INSERT INTO b SELECT i, 'x' FROM generate_series(1, 100) i;
		INSERT INTO b VALUES (0, `+bigValue+`)`, 40<<20))
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--data", t.TempDir()}})
	memory := peak(t, p.PID())
	if r := p.Wait(); r.Code != 0 {
		t.Fatal(r)
	}
	if mb := memory(); mb > 400 {
		t.Errorf("%d MB of memory", mb)
	} else {
		t.Logf("%d MB", mb)
	}
	sum := "SELECT count(*) || ' ' || sum(length(v)) || ' ' || (SELECT md5(v) FROM b WHERE id = 0) FROM b"
	if s, d := dev.MustQuery(t, source, sum), dev.MustQuery(t, target, sum); s != d {
		t.Errorf("source %s, target %s", s, d)
	}
}

// In the stream a large value passes within the same memory; one beyond that stops it with the table's name and what to
// do, and nothing of its transaction arrives.
func TestFollow_AHugeValue(t *testing.T) {
	source, target := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, `CREATE TABLE b (id int PRIMARY KEY, v bytea); ALTER TABLE b ALTER v SET STORAGE EXTERNAL`)
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--follow", "--data", t.TempDir()}})
	p.WaitForOutput(t, "phase=streaming", 60*time.Second)
	memory := peak(t, p.PID())
	dev.MustExec(t, source, fmt.Sprintf(`INSERT INTO b VALUES (0, `+bigValue+`); INSERT INTO b SELECT i, 'x' FROM generate_series(1, 100) i; UPDATE b SET v = 'y' WHERE id = 1`, 10<<20))
	sum := "SELECT count(*) || ' ' || sum(length(v)) || ' ' || (SELECT md5(v) FROM b WHERE id = 0) FROM b"
	want := dev.MustQuery(t, source, sum)
	harness.Eventually(t, 60*time.Second, func() error {
		if got := dev.MustQuery(t, target, sum); got != want {
			return fmt.Errorf("the target has %s, the source %s", got, want)
		}
		return nil
	})
	if mb := memory(); mb > 400 || mb < 40 {
		t.Errorf("%d MB of memory", mb)
	} else {
		t.Logf("%d MB", mb)
	}
	dev.MustExec(t, source, fmt.Sprintf(`BEGIN; INSERT INTO b VALUES (-2, 'z'); INSERT INTO b VALUES (-1, `+bigValue+`); COMMIT`, 15<<20))
	r := p.Wait()
	if r.Code == 0 || !strings.Contains(r.Stderr, "E3015") || !strings.Contains(r.Stderr, "table public.b") || !strings.Contains(r.Stderr, "tables.exclude") {
		t.Error(r)
	}
	if got := dev.MustQuery(t, target, sum); got != want {
		t.Errorf("the target has %s, not %s", got, want)
	}
}
