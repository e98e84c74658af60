package view

import (
	"time"

	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// paceWindow is how far back the speed of a table is measured.
const paceWindow = 15 * time.Second

// Pace remembers former statuses of one watch, so that each table's own speed can be shown. A nil Pace knows nothing.
type Pace struct{ tables map[string][]paceSample }

type paceSample struct {
	at    time.Time
	bytes int64
	part  float64
}

// table adds a sample and returns speed and time left, "–" while unknown.
func (p *Pace) table(t *controlv1.TableStatus, now time.Time) (rate, eta string) {
	part, bytes := t.Fraction, t.Bytes+t.BytesInFlight
	if p == nil {
		return "–", "–"
	}
	if p.tables == nil {
		p.tables = map[string][]paceSample{}
	}
	all := append(p.tables[t.Source], paceSample{now, bytes, part})
	for len(all) > 2 && now.Sub(all[0].at) > paceWindow {
		all = all[1:]
	}
	p.tables[t.Source] = all
	first := all[0]
	d := now.Sub(first.at).Seconds()
	if d < 1 || bytes <= first.bytes {
		return "–", "–"
	}
	rate, eta = Bytes(int64(float64(bytes-first.bytes)/d))+"/s", "–"
	if part > first.part {
		eta = Seconds((1 - part) * d / (part - first.part))
	}
	return rate, eta
}

// eta is the time left of the load as a range: by the mean speed since it began and by the speed of the last seconds.
func eta(s *controlv1.Status, now time.Time) []float64 {
	f := s.LoadFraction
	if f <= 0 || f >= 1 {
		return nil
	}
	for _, p := range s.Phases {
		if p.Phase != controlv1.Phase_PHASE_LOAD || p.EndedMicros != 0 {
			continue
		}
		elapsed := now.Sub(time.UnixMicro(p.StartedMicros)).Seconds()
		if elapsed <= 0 {
			return nil
		}
		lo := elapsed * (1 - f) / f
		hi := lo
		if bytes := s.BytesLoaded + s.BytesInFlight; s.BytesPerSecond > 0 && bytes > 0 {
			// A burst or a pause of a few seconds is not a forecast: it moves the range by three at most.
			recent := float64(bytes) * (1 - f) / f / s.BytesPerSecond
			hi = min(max(recent, lo/3), lo*3)
		}
		return []float64{tenth(min(lo, hi)), tenth(max(lo, hi))}
	}
	return nil
}
