// Package matrix_test copies every kind of table that is hard to copy, while it is being written to.
package matrix_test

import (
	"os"
	"testing"

	"github.com/droverdb/drover/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
