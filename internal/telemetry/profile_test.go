package telemetry

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func TestSetup_WritesProfilesWhenAsked(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(ProfileVar, dir)
	shutdown, err := Setup(t.Context(), "profiled")
	if err != nil {
		t.Fatal(err)
	}
	held := make([]byte, 8<<20) // more than the step between two peaks
	runtime.GC()
	time.Sleep(3 * heapEvery)
	runtime.KeepAlive(held)
	for range 2 { // safe to call twice
		if err := shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"cpu", "heap", "allocs", "memory"} {
		names, _ := filepath.Glob(filepath.Join(dir, "profiled-*."+kind))
		if len(names) != 1 {
			t.Fatalf("%d files of kind %s", len(names), kind)
		}
		if about, err := os.Stat(names[0]); err != nil || about.Mode().Perm() != 0o600 || kind != "cpu" && about.Size() == 0 {
			t.Errorf("%s: %v, %v", kind, about, err)
		}
	}
}

func TestSetup_SaysThatProfilesCannotBeWritten(t *testing.T) {
	t.Setenv(ProfileVar, filepath.Join(t.TempDir(), "absent"))
	if _, err := Setup(t.Context(), "profiled"); err == nil {
		t.Fatal("no error")
	}
}
