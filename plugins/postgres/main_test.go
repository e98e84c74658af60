package postgres

import (
	"os"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/plugins/sdk"
)

// serveEnv makes the test binary a connector: the conformance kit starts it as a subprocess.
const serveEnv = "DROVER_TEST_SERVE"

func TestMain(m *testing.M) {
	if os.Getenv(serveEnv) != "" {
		sdk.Serve("postgres", func() sdk.Source { return NewSource() }, func() sdk.Sink { return NewSink() })
		os.Exit(0)
	}
	os.Exit(dev.Main(m))
}
