package fleet_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// crew is a shop of a few dozen loads: a table of many chunks, and a unit, whose chunks share a snapshot.
const crew = `CREATE TABLE a (id bigint PRIMARY KEY, v text, n int); INSERT INTO a SELECT i, repeat('v', 500 + i % 200), i FROM generate_series(1, 80000) i;
CREATE TABLE w (k text COLLATE "en-x-icu" PRIMARY KEY, v text); INSERT INTO w SELECT md5(i::text), repeat('w', 300) FROM generate_series(1, 20000) i; ANALYZE;`

// site is coordinators at one etcd with any number of agents.
type site struct {
	pair
	ledger         *ledger
	source, target string
	agents         map[string]*harness.Process
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{source: dev.Database(t), target: dev.Database(t), agents: map[string]*harness.Process{}}
	dev.MustExec(t, s.source, crew)
	s.etcd, s.addresses = startEtcd(t), [2]string{harness.FreeAddress(t, "127.0.0.1"), harness.FreeAddress(t, "127.0.0.1")}
	s.ledger = s.etcd.ledger(t)
	return s
}

// join starts an agent with faults in its loads, and waits until the coordinator has it.
func (s *site) join(t *testing.T, name, faults string, args ...string) {
	t.Helper()
	s.agents[name] = harness.Start(t, harness.Command{Args: append([]string{"agent", "run", "-v", "--coordinator", s.all(), "--name", name}, args...),
		Env: []string{"DROVER_FAULT=" + faults}})
	s.agents[name].WaitForOutput(t, "linked to the coordinator", 20*time.Second)
}

func (s *site) joinReader(t *testing.T, name, faults string) { s.join(t, name, faults, "--no-sink") }

func (s *site) joinWriter(t *testing.T, name string) {
	s.join(t, name, "", "--no-source", "--transfer", harness.FreeAddress(t, "127.0.0.1"))
}

// slow loads are in flight long enough to be seen, and killed.
const slow = "load.before-read=sleep:500ms"

// apply cuts the tables into many chunks.
func (s *site) apply(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "p.yaml")
	text := fmt.Sprintf("version: 1\nname: %s\nsource: %q\ntarget: %q\nload: {chunk: {target: 1MiB}}\n%s\n", name, s.source, s.target, heartbeat)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.MustRun(t, "apply", "-f", file, "--coordinator", s.all())
}

// awaitLoad waits until a load that is as told is in flight.
func (s *site) awaitLoad(t *testing.T, what string, is func(entry) bool) {
	t.Helper()
	if seen, ok := s.ledger.await(t, 30*time.Second, is); !ok {
		t.Fatalf("no load %s: %v", what, seen)
	}
}

// ends waits for the end of the load, stops the writers, and compares.
func (s *site) ends(t *testing.T, name string, w *harness.Writer) (logs string) {
	t.Helper()
	s.await(t, name, "phase=streaming")
	w.Stop()
	harness.RequireRowsEqual(t, s.source, s.target)
	return harness.MustRun(t, "logs", name, "--coordinator", s.all()).Stdout
}

// Three agents read, two write, and one that comes late does both; four of them are helpers. Two are killed in mid-load,
// and one, which comes last, kills itself between the target's commit and its report: nothing but the chunks they had is
// read again, under the floor those had first, and attempt and stream go on (Invariant 21).
func TestFleet_LoadsAreSpreadAndHelpersMayDie(t *testing.T) {
	s := newSite(t)
	s.start(t, 0)
	for _, n := range []string{"1", "2"} {
		s.joinReader(t, "src"+n, slow)
		s.joinWriter(t, "dst"+n)
	}
	w := harness.StartWriter(t, s.source, "public.a", harness.WriterOptions{})
	s.apply(t, "crew")
	s.awaitLoad(t, "yet", func(entry) bool { return true })
	reader := walsender(t, s.source, "drover_crew")
	s.join(t, "both", slow, "--transfer", harness.FreeAddress(t, "127.0.0.1"))
	s.awaitLoad(t, "of who came late", func(e entry) bool { return e.pair() == "both both" })
	s.awaitLoad(t, "written by a helper", func(e entry) bool { return e.Writer == "dst2" })
	s.agents["dst2"].Kill()
	s.awaitLoad(t, "read by a helper", func(e entry) bool { return e.Agent == "src2" && e.Writer != "dst2" })
	s.agents["src2"].Kill()
	s.joinReader(t, "src3", slow+",load.after-write=kill@2")
	logs := s.ends(t, "crew", w)
	if now := walsender(t, s.source, "drover_crew"); now != reader {
		t.Errorf("the stream was started again (process %s, then %s)", reader, now)
	}
	if strings.Contains(logs, "trying again") {
		t.Errorf("another attempt was begun: %s", logs)
	}
	grants, dead := s.ledger.grants(t), []string{"src2", "src3", "dst2"}
	requireSpread(t, grants, dead...)
	s.requireKept(t, grants, dead...)
	harness.MustRun(t, "delete", "crew", "--yes", "--confirm", "crew", "--coordinator", s.all())
}

// requireSpread looks at every grant of a load: the helpers had their share of both tables, and only chunks of those
// that died are granted again.
func requireSpread(t *testing.T, ledger map[string][]entry, dead ...string) {
	t.Helper()
	agents, helped, again := map[string]int{}, map[string]int{}, 0
	for chunk, grants := range ledger {
		for i, g := range grants {
			agents[g.Agent+" reads"]++
			agents[g.Writer+" writes"]++
			if g.pair() != "src1 dst1" {
				helped[g.table()]++
			}
			if i == 0 {
				continue
			}
			again++
			before := grants[i-1]
			if !slices.ContainsFunc(dead, before.on) {
				t.Errorf("chunk %s is read again, though nobody who had it has died: %+v", chunk, grants)
			}
			if g.Epoch <= before.Epoch || g.Epoch>>24 != before.Epoch>>24 || !bytes.Equal(g.Floor, before.Floor) {
				t.Errorf("chunk %s is granted again in another attempt, or under another floor: %+v", chunk, grants)
			}
		}
	}
	if len(agents) != 7 || len(helped) != 2 || again == 0 { // three read, two write, one does both
		t.Errorf("chunks by agent: %v; of helpers, by table: %v; granted again: %d", agents, helped, again)
	}
}

// requireKept: what an agent had committed when it died was granted again, and is there as that agent wrote it.
func (s *site) requireKept(t *testing.T, ledger map[string][]entry, dead ...string) {
	t.Helper()
	kept := 0
	rows := dev.MustQuery(t, s.target, "SELECT lpad(to_hex(chunk), 16, '0') || ' ' || epoch FROM drover.chunk")
	for row := range strings.SplitSeq(strings.TrimSpace(rows), "\n") {
		chunk, epoch, _ := strings.Cut(strings.TrimSpace(row), " ")
		grants := ledger[ledgerRoot+"crew/"+chunk]
		i := slices.IndexFunc(grants, func(g entry) bool { return fmt.Sprint(g.Epoch) == epoch })
		switch {
		case i < 0:
			t.Errorf("chunk %s is there as of epoch %s, which nobody was granted: %+v", chunk, epoch, grants)
		case i < len(grants)-1:
			kept++
			if !slices.ContainsFunc(dead, grants[i].on) {
				t.Errorf("chunk %s is there as of epoch %s, and yet was granted again: %+v", chunk, epoch, grants)
			}
		}
	}
	if kept == 0 {
		t.Error("no chunk was committed by an agent that did not live to tell")
	}
}

// Another leader takes over the loads of helpers as well: their writers' grants hold, and nothing is read twice.
func TestFleet_AnotherLeaderAdoptsTheLoadsOfHelpers(t *testing.T) {
	s := newSite(t)
	s.start(t, 0)
	s.start(t, 1)
	s.joinReader(t, "src1", slow)
	s.joinWriter(t, "dst1")
	w := harness.StartWriter(t, s.source, "public.a", harness.WriterOptions{})
	s.apply(t, "heirs")
	s.joinWriter(t, "dst2")
	s.awaitLoad(t, "written by the helper", func(e entry) bool { return e.Writer == "dst2" })
	s.joinReader(t, "src2", "load.before-read=sleep:8s") // longer than anybody needs to take over
	s.awaitLoad(t, "by the helpers alone", func(e entry) bool { return e.pair() == "src2 dst2" })
	s.agents["src2"].WaitForOutput(t, "load.before-read fires", 20*time.Second)
	s.coordinators[0].Kill()
	logs := s.ends(t, "heirs", w)
	var adopted int
	_, after, _ := strings.Cut(logs, "took over from a former coordinator: ")
	if fmt.Sscanf(after, "%d loads", &adopted); adopted == 0 {
		t.Errorf("no load was taken over: %s", logs)
	}
	for chunk, grants := range s.ledger.grants(t) {
		// The last grants of the leader that died may have been stored, but not sent: nobody had them.
		if len(grants) > 2 || len(grants) == 2 && s.had(grants[0]) {
			t.Errorf("chunk %s was granted again: %+v", chunk, grants)
		}
	}
	harness.MustRun(t, "delete", "heirs", "--yes", "--confirm", "heirs", "--coordinator", s.all())
}

// had reports whether the reader of a grant has run it.
func (s *site) had(e entry) bool {
	return strings.Contains(s.agents[e.Agent].Stderr(), fmt.Sprintf("epoch=%d work=task.load", e.Epoch))
}
