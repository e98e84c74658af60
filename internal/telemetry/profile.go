package telemetry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// ProfileVar names a folder that every process writes a CPU profile and its allocations to when it ends. Unset: nothing
// is measured. Profiles hold names of functions, never data.
const ProfileVar = "DROVER_PROFILE"

// startProfile measures this process until the returned function is called.
func startProfile(service string) (func(context.Context) error, error) {
	dir := os.Getenv(ProfileVar)
	if dir == "" {
		return nothing, nil
	}
	base := filepath.Join(dir, fmt.Sprintf("%s-%d", service, os.Getpid()))
	cpu, err := os.OpenFile(base+".cpu", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nothing, fmt.Errorf("telemetry: %s: %w", ProfileVar, err)
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nothing, errors.Join(fmt.Errorf("telemetry: %s: %w", ProfileVar, err), cpu.Close())
	}
	return func(context.Context) error {
		pprof.StopCPUProfile()
		return errors.Join(cpu.Close(), writeAllocations(base))
	}, nil
}

func writeAllocations(base string) error {
	mem, err := os.OpenFile(base+".allocs", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("telemetry: %s: %w", ProfileVar, err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	summary := fmt.Sprintf("collections %d\nallocated %d\nheap from the system %d\nreturned %d\n", m.NumGC, m.TotalAlloc, m.HeapSys, m.HeapReleased)
	return errors.Join(pprof.Lookup("allocs").WriteTo(mem, 0), mem.Close(), os.WriteFile(base+".memory", []byte(summary), 0o600))
}
