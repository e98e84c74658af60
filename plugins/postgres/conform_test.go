package postgres

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/conform"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// conformDatabases is what the kit asks for: two keyed tables, and one transaction that inserts into both.
func conformDatabases(t testing.TB) conform.Databases {
	source, target := dev.Database(t), dev.TargetDatabase(t)
	dev.MustExec(t, source, `CREATE TABLE a (id bigint PRIMARY KEY, name text, at timestamptz DEFAULT now());
		CREATE TABLE b (x int, y uuid DEFAULT gen_random_uuid(), n numeric, PRIMARY KEY (x, y));
		INSERT INTO a SELECT i, repeat('x', i % 50) FROM generate_series(1, 3000) i;
		INSERT INTO b (x, n) SELECT i % 100, i / 7.0 FROM generate_series(1, 2000) i; ANALYZE`)
	next := 10_000
	return conform.Databases{
		Source: &connectorv1.OpenRequest{Role: connectorv1.Role_ROLE_SOURCE, Url: source, Pipeline: "conform"},
		Target: &connectorv1.OpenRequest{Role: connectorv1.Role_ROLE_SINK, Url: target, Pipeline: "conform"},
		Rows:   5000, Inserted: 7,
		Change: func(t testing.TB) {
			next += 100
			dev.MustExec(t, source, fmt.Sprintf(`BEGIN; INSERT INTO a (id) SELECT generate_series(%d, %d);
				INSERT INTO b (x, n) SELECT i, 'NaN' FROM generate_series(1, 4) i; COMMIT`, next, next+2))
		},
		CountTarget: func(t testing.TB) int64 {
			n, err := strconv.ParseInt(strings.TrimSpace(dev.MustQuery(t, target, "SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b)")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		},
	}
}

func TestConform_InProcess(t *testing.T) {
	conform.Run(t, conform.Kit{Source: func(testing.TB) sdk.Source { return NewSource() }, Sink: func(testing.TB) sdk.Sink { return NewSink() },
		Databases: conformDatabases})
}

func TestConform_AsASubprocess(t *testing.T) {
	launch := func(t testing.TB) *sdk.Process {
		p, err := sdk.Launch(t.Context(), sdk.LaunchConfig{Name: "postgres", Path: os.Args[0], Env: []string{serveEnv + "=1"},
			Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	conform.Run(t, conform.Kit{Source: func(t testing.TB) sdk.Source { return launch(t) }, Sink: func(t testing.TB) sdk.Sink { return launch(t) },
		Databases: conformDatabases})
}
