package engine

import (
	"testing"
	"time"

	"github.com/droverdb/drover/coordinator/schedule"
)

// What a load took decides how much the next one of the same pair gets.
func TestTimed_TheLatestLoadTellsHowFastAPairIs(t *testing.T) {
	p := loadingTables([]int64{16 * mib, 16 * mib, 10})
	p.run = newAttempt()
	pair := schedule.Pair{Reader: "r", Writer: "w"}
	run := func(took time.Duration, chunks ...uint64) int64 {
		l := &load{Pair: pair, chunks: chunks}
		p.fly(l)
		for _, id := range chunks {
			p.chunk(id).began = time.Now().Add(-took)
		}
		p.land(l)
		p.timed(l)
		return p.run.speed[pair] / mib
	}
	if got := run(4*time.Second, 0, 1); got < 7 || got > 8 {
		t.Errorf("32 MiB in 4 s are %d MiB/s", got)
	}
	if got := run(time.Millisecond, 2); got < 7 || got > 8 {
		t.Errorf("a load of ten bytes shows %d MiB/s", got)
	}
	if got := run(32*time.Second, 0, 1); got > 1 {
		t.Errorf("32 MiB in 32 s are %d MiB/s", got)
	}
	delete(p.tables[0].chunks, 2)
	if got := p.run.speed[pair]; got == 0 {
		t.Error("nothing is known of the pair")
	} else if p.timed(&load{Pair: pair, chunks: []uint64{0, 2}}); p.run.speed[pair] != got {
		t.Error("a load of a table that was set aside tells nothing")
	}
	p.chunk(0).began = time.Time{}
	l := &load{Pair: schedule.Pair{Reader: "adopted"}, chunks: []uint64{0}}
	p.timed(l)
	if _, known := p.run.speed[l.Pair]; known {
		t.Error("nobody knows when a load began that was adopted")
	}
}
