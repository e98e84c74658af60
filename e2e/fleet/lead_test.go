package fleet_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// etcd is a server of its own, as a site would run it beside its coordinators.
type etcd struct {
	dir, client, peer string
	server            *embed.Etcd
}

func startEtcd(t *testing.T) *etcd {
	t.Helper()
	e := &etcd{dir: t.TempDir(), client: "http://" + harness.FreeAddress(t, "127.0.0.1"), peer: "http://" + harness.FreeAddress(t, "127.0.0.1")}
	e.start(t)
	t.Cleanup(e.stop)
	return e
}

func (e *etcd) start(t *testing.T) {
	t.Helper()
	at := func(s string) []url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []url.URL{*u}
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.UnsafeNoFsync = "site", e.dir, true
	c.ListenClientUrls, c.AdvertiseClientUrls = at(e.client), at(e.client)
	c.ListenPeerUrls, c.AdvertisePeerUrls = at(e.peer), at(e.peer)
	c.InitialCluster = c.Name + "=" + e.peer
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	var err error
	if e.server, err = embed.StartEtcd(c); err != nil {
		t.Fatal(err)
	}
	<-e.server.Server.ReadyNotify()
}

func (e *etcd) stop() {
	if e.server != nil {
		e.server.Close()
		e.server = nil
	}
}

// pair is two coordinators at one etcd, and an agent at either end.
type pair struct {
	etcd         *etcd
	addresses    [2]string
	coordinators [2]*harness.Process
}

func (p *pair) all() string { return strings.Join(p.addresses[:], ",") }

func (p *pair) start(t *testing.T, i int) {
	t.Helper()
	p.coordinators[i] = harness.Start(t, harness.Command{Args: []string{"coordinator", "run", "--data", t.TempDir(), "--etcd", p.etcd.client,
		"--listen", p.addresses[i], "--ttl", "3s"}})
	p.coordinators[i].WaitForOutput(t, "drover is up", 20*time.Second)
}

// status asks whoever leads.
func (p *pair) await(t *testing.T, name, word string) {
	t.Helper()
	harness.Eventually(t, 60*time.Second, func() error {
		r := harness.Run(t, "status", name, "--coordinator", p.all())
		if !strings.Contains(r.Stdout, word) {
			return fmt.Errorf("no %q: %s", word, r)
		}
		return nil
	})
}

// walsender is the process that reads the log for a pipeline: another one means that the stream was started again.
func walsender(t *testing.T, source, slot string) string {
	t.Helper()
	pid := strings.TrimSpace(dev.MustQuery(t, source, "SELECT coalesce(active_pid::text, 'none') FROM pg_replication_slots WHERE slot_name = '"+slot+"'"))
	if pid == "" || pid == "none" {
		t.Fatalf("the slot is not read: %q", pid)
	}
	return pid
}

// Leaders are killed while tables load and while changes stream, and etcd goes away and comes back. The other leader
// adopts what runs: the stream is never started again, and goes on while nobody leads.
func TestFleet_AnotherLeaderAdoptsWhatRuns(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, shop)
	p := &pair{etcd: startEtcd(t), addresses: [2]string{harness.FreeAddress(t, "127.0.0.1"), harness.FreeAddress(t, "127.0.0.1")}}
	p.start(t, 0)
	p.start(t, 1)
	harness.Start(t, harness.Command{Args: []string{"agent", "run", "--coordinator", p.all(), "--name", "src", "--no-sink"},
		Env: []string{"DROVER_FAULT=load.before-read=sleep:400ms"}})
	harness.Start(t, harness.Command{Args: []string{"agent", "run", "--coordinator", p.all(), "--name", "dst", "--no-source", "--transfer", harness.FreeAddress(t, "127.0.0.1")}})
	writer := harness.StartWriter(t, source, "public.a", harness.WriterOptions{})
	file := filepath.Join(t.TempDir(), "p.yaml")
	text := fmt.Sprintf("version: 1\nname: heir\nsource: %q\ntarget: %q\nload: {chunk: {target: 256KiB}, parallel: 2}\n", source, target)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.MustRun(t, "apply", "-f", file, "--coordinator", p.all())
	harness.Eventually(t, 60*time.Second, func() error {
		if n := strings.TrimSpace(dev.MustQuery(t, target, "SELECT CASE WHEN to_regclass('drover.chunk') IS NULL THEN 0 ELSE 3 END")); n == "0" {
			return fmt.Errorf("no bookkeeping yet")
		}
		if n := strings.TrimSpace(dev.MustQuery(t, target, "SELECT least(count(*), 3) FROM drover.chunk WHERE written")); n != "3" {
			return fmt.Errorf("%s chunks are written", n)
		}
		return nil
	})
	reader := walsender(t, source, "drover_heir")
	p.coordinators[0].Kill()
	p.await(t, "heir", "phase=streaming")
	if now := walsender(t, source, "drover_heir"); now != reader {
		t.Errorf("amid the load: the stream was started again (process %s, then %s)", reader, now)
	}
	if r := harness.MustRun(t, "logs", "heir", "--coordinator", p.all()); !strings.Contains(r.Stdout, "took over from a former coordinator") {
		t.Errorf("logs of the new leader: %s", r)
	}
	p.start(t, 0)
	p.coordinators[1].Kill()
	p.await(t, "heir", "phase=streaming")
	p.etcd.stop()
	time.Sleep(4 * time.Second) // longer than the lease of the leader
	dev.MustExec(t, source, "UPDATE w SET n = -7 WHERE n = 5")
	harness.Eventually(t, 20*time.Second, func() error {
		if n := strings.TrimSpace(dev.MustQuery(t, target, "SELECT min(n) FROM w")); n != "-7" {
			return fmt.Errorf("n is %s", n)
		}
		return nil
	})
	p.etcd.start(t)
	p.await(t, "heir", "phase=streaming")
	if now := walsender(t, source, "drover_heir"); now != reader {
		t.Errorf("while streaming: the stream was started again (process %s, then %s)", reader, now)
	}
	writer.Stop()
	harness.RequireRowsEqual(t, source, target)
	harness.MustRun(t, "delete", "heir", "--yes", "--confirm", "heir", "--coordinator", p.all())
}
