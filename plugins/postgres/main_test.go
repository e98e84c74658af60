package postgres

import (
	"os"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
)

func TestMain(m *testing.M) { os.Exit(dev.Main(m)) }
