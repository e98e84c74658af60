package copy_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

const cut = `CREATE TABLE a (id bigint PRIMARY KEY, v text, n int); INSERT INTO a SELECT i, repeat('v', i % 60), i FROM generate_series(1, 40000) i;
CREATE TABLE b (id uuid PRIMARY KEY, n int); INSERT INTO b SELECT md5(i::text)::uuid, i FROM generate_series(1, 20000) i;
CREATE TABLE c (id int PRIMARY KEY, n int); INSERT INTO c SELECT i, i FROM generate_series(1, 100) i;
CREATE TABLE w (k text COLLATE "en-x-icu" PRIMARY KEY, n int); INSERT INTO w SELECT md5(i::text), i FROM generate_series(1, 5000) i; ANALYZE;`

// writtenChunks tells which transaction wrote each finished chunk of the tables whose chunks stand alone (a to c; w is
// read under one snapshot, and starts over when that is lost).
func writtenChunks(t *testing.T, target string, all bool) map[string]string {
	t.Helper()
	out := map[string]string{}
	if strings.TrimSpace(dev.MustQuery(t, target, "SELECT count(*) FROM pg_class WHERE oid = to_regclass('drover.chunk')")) == "0" {
		return out
	}
	q := "SELECT chunk, epoch || ' ' || xmin::text FROM drover.chunk WHERE written"
	if !all {
		q += " AND chunk >> 32 < 3"
	}
	for _, line := range strings.Split(strings.TrimSpace(dev.MustQuery(t, target, q)), "\n") {
		if chunk, by, ok := strings.Cut(line, "\t"); ok {
			out[chunk] = by
		}
	}
	return out
}

// All that the coordinator knew is lost, first amid the load, then while streaming: the target's tokens are enough, and
// nothing that is written is read again.
func TestResume_GoesOnFromTheTargetsTokensAlone(t *testing.T) {
	source, target := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, cut)
	var writers []*harness.Writer
	for _, table := range []string{"a", "b", "w"} {
		writers = append(writers, harness.StartWriter(t, source, "public."+table, harness.WriterOptions{}))
	}
	data, file := t.TempDir(), filepath.Join(t.TempDir(), "p.yaml")
	text := fmt.Sprintf("version: 1\nname: lost\nsource: %q\ntarget: %q\nload: {chunk: {target: 256KiB}, parallel: 2}\ncdc: {heartbeat: 1s}\n", source, target)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	up := func(env ...string) *harness.Process {
		p := harness.Start(t, harness.Command{Args: []string{"up", "--data", data}, Env: env})
		p.WaitForOutput(t, "drover is up", 20*time.Second)
		harness.MustRun(t, "apply", "-f", file, "--data", data)
		return p
	}
	p := up("DROVER_FAULT=load.before-read=sleep:10m@4+") // however slow this machine is, the load is not over when we look
	harness.Eventually(t, 60*time.Second, func() error {
		if n := len(writtenChunks(t, target, false)); n < 1 {
			return fmt.Errorf("%d chunks are written", n)
		}
		return nil
	})
	p.Kill()
	forget(t, data)
	p = up()
	before := writtenChunks(t, target, false) // those of the killed agent, perhaps one more
	awaitPhase(t, "lost", data, "streaming")
	unchanged(t, target, before)
	if all := writtenChunks(t, target, false); len(all) <= len(before) {
		t.Errorf("%d chunks were written before the loss, %d in all: the load was over too early for this test", len(before), len(all))
	}
	before = writtenChunks(t, target, true)
	p.Kill()
	forget(t, data)
	p = up()
	awaitPhase(t, "lost", data, "streaming")
	time.Sleep(500 * time.Millisecond)
	for _, w := range writers {
		w.Stop()
	}
	harness.Eventually(t, 40*time.Second, func() error {
		report, err := harness.Compare(t.Context(), source, target, harness.CompareOptions{Sequences: harness.SequencesSkip, SkipSchema: true})
		if err == nil && !report.Equal() {
			err = fmt.Errorf("%s", report)
		}
		return err
	})
	unchanged(t, target, before)
	if logs := harness.MustRun(t, "logs", "lost", "--data", data); !strings.Contains(logs.Stdout, "4 of 4 tables are loaded") {
		t.Errorf("logs: %s", logs)
	}
	p.Stop(10 * time.Second)
}

func unchanged(t *testing.T, target string, before map[string]string) {
	t.Helper()
	now := writtenChunks(t, target, true)
	maps.DeleteFunc(now, func(chunk, _ string) bool { return before[chunk] == "" })
	if !maps.Equal(now, before) {
		t.Errorf("chunks were written again: before %v, now %v", before, now)
	}
}
