// Package trace_test receives a real OTLP export and follows a chunk and a round through every process.
package trace_test

import (
	"os"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const (
	connector = "drover-connector-postgres "
	readRPC   = connector + "drover.connector.v1.RowsService/ReadChunks server"
	writeRPC  = connector + "drover.connector.v1.RowsService/WriteChunks server"
)

func TestTrace_FollowsAChunkThroughEveryProcess(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 1000)")
	r, env := listen(t)
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--data", t.TempDir()}, Env: env})
	if res := p.Wait(); res.Code != 0 {
		t.Fatal(res)
	}
	harness.Eventually(t, 10*time.Second, func() error {
		return r.has("drover coordinator.grant", "drover task.load", readRPC, writeRPC, connector+"sink.commit")
	})
}

// With processes of their own: one trace for a chunk, one for a round, from the coordinator's grant or word to the commit.
func TestTrace_FollowsAChunkAndARoundThroughAFleet(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 1000)")
	r, env := listen(t)
	f := harness.StartFleet(t, harness.FleetOptions{Env: env})
	f.Apply(t, "seen", source, target)
	f.Await(t, "seen", "phase=streaming")
	harness.Eventually(t, 10*time.Second, func() error {
		return r.has("drover-coordinator coordinator.grant", "drover-agent task.load", readRPC,
			"drover-agent drover.transfer.v1.TransferService/WriteChunks server", writeRPC, connector+"sink.commit")
	})
	dev.MustExec(t, source, "INSERT INTO a SELECT generate_series(2001, 3000)")
	harness.Eventually(t, 15*time.Second, func() error {
		return r.has(connector+"source.read", "drover-agent gate.hold", "drover-agent round", "drover-agent transfer.receive",
			connector+"sink.apply", connector+"sink.commit", "drover-coordinator coordinator.progress")
	})
}

func TestTrace_FollowsARoundInOneProcess(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, "CREATE TABLE a (id int PRIMARY KEY)")
	r, env := listen(t)
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--follow", "--data", t.TempDir()}, Env: env})
	p.WaitForOutput(t, "phase=streaming", 30*time.Second)
	dev.MustExec(t, source, "INSERT INTO a SELECT generate_series(1, 1000)")
	harness.Eventually(t, 15*time.Second, func() error {
		return r.has(connector+"source.read", "drover gate.hold", "drover round", connector+"sink.apply", connector+"sink.commit",
			"drover coordinator.progress")
	})
	p.Stop(10 * time.Second)
}
