package stream

import "github.com/droverdb/drover/plugins/sdk"

// compareHeld is a comparison while the source goes on: hold, snapshot of the source, barrier, look at the target.
func (m *model) compareHeld() error {
	for i := range m.restarted { // the gate has not seen these; a difference would be looked at again (differTries)
		if !m.log[i].visible {
			return nil
		}
	}
	gate := m.gate
	_, horizon := m.snapshot()
	gate.Horizon(horizon)
	floor := gate.Hold()
	if m.noHeldIDs {
		floor.Pending = nil
	}
	want, c := m.snapshot()
	for !sdk.SeesAll(c, floor.Pending) {
		m.settle()
		want, c = m.snapshot()
	}
	gate.Unhold()
	readAgain := m.stats["rereads"] + m.stats["renewed"]
	for m.received < len(m.log) {
		if err := m.receive(); err != nil {
			return err
		}
	}
	for len(m.queue) > 0 {
		b := m.queue[0].begin
		switch n := includedIn(c, b); {
		case n == len(b.TxnIds):
			if err := m.release(); err != nil || m.gate != gate { // its agent died
				return err
			}
			continue
		case n > 0:
			m.stats["missed"]++
			return nil
		}
		for _, q := range m.queue {
			if includedIn(c, q.begin) > 0 {
				m.stats["missed"]++
				return nil
			}
		}
		break
	}
	if m.stats["rereads"]+m.stats["renewed"] != readAgain { // Stream.aheadOfBarrier
		m.stats["missed"]++
		return nil
	}
	m.stats["compared"]++
	if !m.target.same(want) {
		return m.fail("a comparison at a barrier differs")
	}
	return nil
}
