package stream

import "testing"

// A sampled round's begin frame carries a trace only when tracing is on; the frame's way does not depend on it.
func TestStream_SamplesAtMostOneRoundPerSecond(t *testing.T) {
	r := start(t, 0)
	for i := range 3 {
		r.round(20+i, 120+uint64(i), "a")
		r.sink.permits <- struct{}{}
		r.toEnd()
	}
	r.eventually("commits", func() bool { return r.stream.Progress().Rounds == 3 })
	r.stream.mu.Lock()
	defer r.stream.mu.Unlock()
	if r.stream.stats.sampled.IsZero() || len(r.stream.feed.inflight) > 0 {
		t.Error("no round was sampled, or its trace never ended")
	}
}
