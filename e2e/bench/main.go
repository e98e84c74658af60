// Command bench measures Drover beside other ways to do the same work, in the same run and on the same
// throw-away servers, and prints tables of medians, ratios and limits.
//
//	make bench                                  # everything; takes about two hours
//	make bench BENCH='-scale 0.1 -only narrow,wide'
//	DROVER_PROFILE=/tmp/profiles make bench ... # every Drover process writes a CPU profile there when it ends
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	scale  float64
	runs   int
	only   []string
	peers  []string
	drover string
	hasty  bool // servers without fsync: our own tests, never a measurement
}

// selected reports whether a list names something; an empty list names everything.
func selected(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }

// workload is one entry of the table.
type workload struct {
	name string
	run  func(ctx context.Context, l *lab) error
}

func workloads() []workload {
	return slices.Concat(loadWorkloads(), streamWorkloads(), []workload{
		{"log", readLog}, {"latency", latency},
	})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout))
}

func parse(args []string) (options, error) {
	var o options
	var only, peers string
	names := make([]string, 0, 16)
	for _, w := range workloads() {
		names = append(names, w.name)
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Float64Var(&o.scale, "scale", 1, "size of the workloads; 1 is what the limits are meant for")
	f.IntVar(&o.runs, "runs", 3, "runs of each contender; the median counts")
	f.StringVar(&only, "only", "", "comma-separated workloads: "+strings.Join(names, " "))
	f.StringVar(&peers, "peers", "", "comma-separated peers: "+strings.Join(peerNames, " ")+" (none: Drover alone)")
	f.StringVar(&o.drover, "drover", filepath.Join("bin", "drover"), "the binary under test")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.only, o.peers = split(only), split(peers)
	for _, name := range o.only {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("bench: no workload %q; there are %s", name, strings.Join(names, " "))
		}
	}
	for _, name := range o.peers {
		if name != "none" && !slices.Contains(peerNames, name) {
			return o, fmt.Errorf("bench: no peer %q; there are %s", name, strings.Join(peerNames, " "))
		}
	}
	if o.scale <= 0 || o.runs < 1 {
		return o, fmt.Errorf("bench: -scale and -runs must be positive")
	}
	return o, nil
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// run returns the exit code: 1 when something could not be measured, 2 for a wrong flag.
func run(ctx context.Context, args []string, out io.Writer) int {
	o, err := parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	l, err := openLab(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer l.close()
	code := 0
	for _, w := range workloads() {
		if ctx.Err() != nil || !selected(o.only, w.name) {
			continue
		}
		l.step("%s", w.name)
		if err := w.run(ctx, l); err != nil {
			l.report.fail(w.name, err)
			code = 1
		}
	}
	l.report.growth()
	l.report.print(out)
	return code
}
