package telemetry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"sync"
	"time"
)

// ProfileVar names a folder that every process writes a CPU profile and its allocations to when it ends, and, whenever it
// holds more memory than ever before, who holds it. Unset: nothing is measured. Profiles hold names of functions, never
// data.
const ProfileVar = "DROVER_PROFILE"

const (
	// heapRate is how many bytes are allocated between two samples: what a small process holds must show, too.
	heapRate  = 64 << 10
	heapEvery = 100 * time.Millisecond
	// heapStep is by how much a peak has to exceed the last one that was written.
	heapStep = 1 << 20
)

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
	runtime.MemProfileRate = heapRate
	stopPeaks := watchPeaks(base)
	return func(context.Context) error {
		pprof.StopCPUProfile()
		return errors.Join(cpu.Close(), stopPeaks(), writeAllocations(base))
	}, nil
}

// watchPeaks writes BASE.heap anew whenever what the last collection left alive is more than ever. The returned function
// ends it and tells what went wrong.
func watchPeaks(base string) (stop func() error) {
	quit, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var failed error
		tick := time.NewTicker(heapEvery)
		defer tick.Stop()
		for peak := uint64(0); ; {
			select {
			case <-quit:
				done <- failed
				return
			case <-tick.C:
			}
			if n := alive(); n > peak+heapStep && failed == nil {
				peak, failed = n, writeProfile("heap", base+".heap")
			}
		}
	}()
	return sync.OnceValue(func() error { close(quit); return <-done })
}

func alive() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}

func writeAllocations(base string) error {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	summary := fmt.Sprintf("collections %d\nallocated %d\nheap from the system %d\nreturned %d\n", m.NumGC, m.TotalAlloc, m.HeapSys, m.HeapReleased)
	return errors.Join(writeProfile("allocs", base+".allocs"), os.WriteFile(base+".memory", []byte(summary), 0o600))
}

func writeProfile(name, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("telemetry: %s: %w", ProfileVar, err)
	}
	return errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close())
}
