package postgres

import (
	"time"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// lags takes how long before the server sent it a change was committed.
func (st *streamer) lags(micros int64) {
	st.behind = micros > behindMicros
	st.far = micros > farMicros || st.far && micros > nearMicros
}

func (st *streamer) pace() pace {
	switch {
	case st.far:
		return farBehind
	case st.behind:
		return behind
	}
	return upToDate
}

// patience is how long the next read may take.
func (st *streamer) patience() time.Duration {
	switch {
	case st.inTxn:
		return idleWait
	case st.behind && !st.round.empty():
		return gatherWait
	case st.round.empty() && st.inFlight():
		return idleWait / 10
	case st.round.empty():
		return idleWait
	case st.crowded():
		return roundAge
	}
	return quietWait
}

// inFlight: the target has not committed all that was emitted.
func (st *streamer) inFlight() bool {
	_, end, _ := readPosition(st.round.last)
	return st.link.acked.Load() < end
}

// crowded: one round is at the target and another on its way. What comes now gathers: a third round would only wait, and
// would be smaller than it need be.
func (st *streamer) crowded() bool {
	_, end, _ := readPosition(st.round.before)
	return st.link.acked.Load() < end
}

// mayFlush: nothing more comes and there is room at the target. An ack interrupts the wait for it.
func (st *streamer) mayFlush() bool {
	return st.slept && !st.inTxn && !st.round.empty() && !st.crowded()
}

// quiet is called when nothing more is ready.
func (st *streamer) quiet() error {
	if st.inTxn {
		return nil
	}
	if !st.round.empty() {
		age := roundAge
		if st.behind {
			age = behindAge
		}
		if !st.crowded() && !st.behind || time.Since(st.round.since) >= age {
			return st.round.flush(false)
		}
		return nil
	}
	return st.idle()
}

// due does what must not wait for a quiet moment: other tables' traffic may leave none.
func (st *streamer) due() error {
	if st.inTxn {
		return nil
	}
	if st.round.empty() {
		return st.idle()
	}
	if st.mayFlush() {
		return st.round.flush(false)
	}
	if !st.behind && time.Since(st.round.since) >= roundLate {
		return st.round.flush(false)
	}
	return nil
}

// idle reports that the log was read up to where the server says it is.
func (st *streamer) idle() error {
	if st.seen <= st.reported || st.inTxn || !st.round.empty() || st.inFlight() || time.Since(st.idleAt) < idleEvery {
		return nil
	}
	st.idleAt, st.reported = time.Now(), st.seen
	h := &rowv1.Idle{Position: position(st.seen, st.seen), SourceMicros: st.seenAt}
	return st.round.send(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_Idle{Idle: h}}, nil)
}
