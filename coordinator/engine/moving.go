package engine

import (
	"time"

	"github.com/droverdb/drover/coordinator/plan"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// movingMost is how much of a chunk counts at most while the target has not acknowledged it.
const movingMost = 0.95

// hearMoving keeps what a load in flight has moved. It is shown, and decides nothing: only a result makes a chunk
// written.
func (p *Pipeline) hearMoving(t *fleetv1.TaskProgress) {
	for _, m := range t.Chunks {
		if c := p.chunk(m.Chunk); c != nil && c.inFlight {
			c.move(m, p.tables[plan.TableOf(m.Chunk)].density())
		}
	}
	if t.Ahead != nil {
		p.run.ahead.add(time.Now(), *t.Ahead)
	}
}

// move notes what has moved. Within an attempt the part never shrinks, whatever becomes of the estimate behind it.
func (c *chunk) move(m *fleetv1.ChunkProgress, density float64) {
	const page = 8192
	c.moved = m
	c.moving = max(c.moving, min(movingMost, float64(m.Bytes)/(density*float64(max(c.row.EstimatedBytes, page)))))
}

// land ends an attempt: what it moved counts no more, unless it was written.
func (c *chunk) land() {
	if c.inFlight {
		c.ended = time.Now()
	}
	c.inFlight, c.moved, c.moving = false, nil, 0
}

// part is how much of the chunk is acknowledged, or moving.
func (c *chunk) part() (acknowledged, moving float64) {
	switch {
	case c.Written:
		return 1, 0
	case c.inFlight:
		return 0, c.moving
	}
	return 0, 0
}

// density is how many bytes have moved for each that was estimated, as far as chunks of the table are written: rows
// on the way take other room than rows on a disk.
func (t *table) density() float64 {
	var moved, estimated int64
	for _, c := range t.chunks {
		if c.Written {
			moved, estimated = moved+c.result.GetBytes(), estimated+c.row.EstimatedBytes
		}
	}
	if moved <= 0 || estimated <= 0 {
		return 1
	}
	return float64(moved) / float64(estimated)
}

// ahead remembers, of the last seconds, how far readers were ahead of their writers.
type ahead struct{ samples []aheadSample }

type aheadSample struct {
	at   time.Time
	full float64
}

func (a *ahead) add(now time.Time, full float64) {
	for len(a.samples) > 0 && now.Sub(a.samples[0].at) > window {
		a.samples = a.samples[1:]
	}
	a.samples = append(a.samples, aheadSample{now, full})
}

// slower names the slower side of the loads in flight, "" while neither stands out.
func (a *ahead) slower(now time.Time) string {
	var sum float64
	n := 0
	for _, s := range a.samples {
		if now.Sub(s.at) <= window {
			sum, n = sum+s.full, n+1
		}
	}
	switch {
	case n < 3: // one look is chance
		return ""
	case sum/float64(n) > 0.75:
		return "target write"
	case sum/float64(n) < 0.4: // two slots of eight are always in use, one at each side
		return "source read"
	}
	return ""
}

// slowStage is the lag beyond which its largest part is named.
const slowStage = 2 * time.Second

// bottleneck names what the pipeline spends its time on, "" if that is not known.
func (p *Pipeline) bottleneck(s *controlv1.Status) string {
	switch st := s.Stream; {
	case s.Desired != controlv1.Desired_DESIRED_RUNNING || p.failure != nil:
		return ""
	case s.Phase == controlv1.Phase_PHASE_LOAD && len(p.run.loads) > 0:
		return p.run.ahead.slower(p.shown)
	case s.Phase == controlv1.Phase_PHASE_LOAD && p.run.splitting != 0:
		return "splitting a table at the source"
	case s.Phase < controlv1.Phase_PHASE_CATCH_UP || st.GetLagMicros() < slowStage.Microseconds():
		return ""
	case max(st.TransferLagMicros, st.ApplyLagMicros) < slowStage.Microseconds():
		return "source log read"
	}
	// Log that is not read because there is no room for it waits for the target as well.
	return "target apply" // what waits before the target waits for it: everything is loaded, and no floor holds it back
}
