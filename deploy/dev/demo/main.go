// Command demo shows the main job: two throw-away servers, a shop that is being written to, and
// `drover copy --follow` between them. It stops the writers, compares every row and takes all down.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/scratch"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo DROVER_BINARY")
		os.Exit(2)
	}
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, drover string) error {
	data, err := scratch.New("demo")
	if err != nil {
		return err
	}
	defer data.Close()
	source, err := start(ctx, "source")
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := start(ctx, "target")
	if err != nil {
		return err
	}
	defer target.Close()
	from, to := source.URL("shop"), target.URL("shop")
	step("filling a shop of a million rows")
	if err := dev.Exec(ctx, from, shop); err != nil {
		return err
	}
	w := startWriters(ctx, from, 3)
	defer w.stop()
	step("three writers are busy; drover copy --follow starts")
	return migrate(ctx, drover, data.Path, from, to, w)
}

func start(ctx context.Context, name string) (*dev.Server, error) {
	step("starting a throw-away PostgreSQL as " + name)
	s, err := dev.StartPostgres(ctx, dev.Options{Settings: map[string]string{"shared_buffers": "256MB", "max_wal_size": "2GB"}})
	if err != nil {
		return nil, err
	}
	if err := s.CreateDatabase(ctx, "shop"); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

var began = time.Now()

func step(text string) { fmt.Printf("%5.1f s  %s\n", time.Since(began).Seconds(), text) }

// migrate follows the source until the target streams, stops the writers and drover, and compares. While drover runs
// the terminal is its own: it draws there.
func migrate(ctx context.Context, drover, data, from, to string, w *writers) error {
	cmd := exec.CommandContext(ctx, drover, "copy", from, to, "--follow", "--name", "demo", "--data", data, "--every", "2s")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	n, err := live(ctx, ended, drover, data, from, to, w)
	if err != nil {
		return err
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	<-ended
	step(fmt.Sprintf("the target streamed, the writers stopped after %d transactions, drover has caught up and stopped", n))
	if err := compare(ctx, from, to); err != nil {
		return err
	}
	step("nothing was lost; servers and folders are removed")
	return nil
}

// live is the migration itself, until the target has the last row; it returns how many transactions there were beside it.
func live(ctx context.Context, ended chan error, drover, data, from, to string, w *writers) (int64, error) {
	if err := waitFor(ctx, ended, 100*time.Second, func() bool { return phase(drover, data) == "streaming" }); err != nil {
		return 0, fmt.Errorf("waiting for streaming: %w", err)
	}
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	n := w.stop()
	return n, caughtUp(ctx, ended, from, to)
}

func phase(drover, data string) string {
	out, err := exec.Command(drover, "status", "demo", "--data", data).Output()
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(out), "phase=")
	word, _, _ := strings.Cut(rest, " ")
	return word
}

func waitFor(ctx context.Context, ended chan error, limit time.Duration, ok func() bool) error {
	deadline := time.After(limit)
	for {
		if ok() {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("drover ended early: %w", errors.Join(err, errors.New("see its output above")))
		case <-deadline:
			return fmt.Errorf("not within %v", limit)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// caughtUp waits until the target has the last mark that the source wrote.
func caughtUp(ctx context.Context, ended chan error, from, to string) error {
	if err := dev.Exec(ctx, from, "INSERT INTO customers (name) VALUES ('the last one')"); err != nil {
		return err
	}
	return waitFor(ctx, ended, 30*time.Second, func() bool {
		n, err := dev.Query(ctx, to, "SELECT count(*) FROM customers WHERE name = 'the last one'")
		return err == nil && strings.TrimSpace(n) == "1"
	})
}

// compare takes an order-independent sum over every column of every row.
func compare(ctx context.Context, from, to string) error {
	for _, t := range []string{"customers", "products", "orders", "items"} {
		q := fmt.Sprintf("SELECT count(*) || ' rows, sum ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM %s t", t)
		a, err := dev.Query(ctx, from, q)
		if err != nil {
			return err
		}
		b, err := dev.Query(ctx, to, q)
		if err != nil {
			return err
		}
		if a != b {
			return fmt.Errorf("%s differs: source %s, target %s", t, a, b)
		}
		step(fmt.Sprintf("%-10s equal: %s", t, strings.TrimSpace(a)))
	}
	return nil
}

// writers keep the shop busy until they are stopped.
type writers struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	n      atomic.Int64
}

func startWriters(ctx context.Context, url string, n int) *writers {
	ctx, cancel := context.WithCancel(ctx)
	w := &writers{cancel: cancel}
	for i := range n {
		w.wg.Go(func() { w.write(ctx, url, uint64(i)) })
	}
	return w
}

func (w *writers) stop() int64 {
	w.cancel()
	w.wg.Wait()
	return w.n.Load()
}

func (w *writers) write(ctx context.Context, url string, seed uint64) {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		fmt.Fprintln(os.Stderr, "writer:", err)
		return
	}
	defer c.Close(context.WithoutCancel(ctx))
	r := rand.New(rand.NewPCG(seed, 1))
	for ctx.Err() == nil {
		_, err := c.Exec(ctx, writes[r.IntN(len(writes))], r.IntN(1<<30))
		if err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "duplicate key") {
			fmt.Fprintln(os.Stderr, "writer:", err)
			return
		}
		w.n.Add(1)
		time.Sleep(2 * time.Millisecond)
	}
}
