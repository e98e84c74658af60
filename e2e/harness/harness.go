// Package harness drives the built binary against real databases and compares what came out, row by row.
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
//
//	func TestCopy(t *testing.T) {
//		src, dst := dev.Database(t), dev.Database(t)
//		w := harness.StartWriter(t, src, "public.orders", harness.WriterOptions{})
//		p := harness.Start(t, harness.Command{Args: []string{"copy", src, dst, "--follow"}})
//		...
//		w.Stop()
//		harness.RequireEqual(t, src, dst, harness.CompareOptions{})
//	}
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/internal/scratch"
)

// BinaryVar names a built binary to test in place of one built here.
const BinaryVar = "DROVER_BIN"

var built struct {
	once sync.Once
	dir  *scratch.Folder
	path string
	err  error
}

// Binary is the path of the drover binary, built once per test process. Main removes it.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(BinaryVar); path != "" {
		return path
	}
	built.once.Do(build)
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

func build() {
	if built.dir, built.err = scratch.New("e2e"); built.err != nil {
		return
	}
	built.path = filepath.Join(built.dir.Path, "drover")
	out, err := exec.Command("go", "build", "-o", built.path, "github.com/droverdb/drover/ctl/drover").CombinedOutput()
	if err != nil {
		built.err = fmt.Errorf("harness: go build: %w\n%s", err, out)
	}
}

// Main runs a package's tests, then takes down the shared database server and removes the binary.
func Main(m interface{ Run() int }) int {
	code := dev.Main(m)
	_ = built.dir.Close()
	return code
}

// Eventually calls check until it returns nil, and fails the test with its last error after the timeout.
func Eventually(t testing.TB, timeout time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	pause := 20 * time.Millisecond
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", timeout, err)
		}
		time.Sleep(pause)
		pause = min(pause*3/2, time.Second)
	}
}
