package coordinator

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// book is what writers have been told to accept, and what a reader was told to show.
type book struct {
	mu    sync.Mutex
	told  map[string][]string // by writer: every secret so far
	now   map[string]int      // by writer: how many hold
	shown map[string][]string // by writer
}

func (b *book) writer(name string) player {
	h := hello(name, 1)
	h.Source, h.TransferAddress = false, "address of "+name
	return player{hello: h, granted: func(all []*fleetv1.Grant) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.now[name] = len(all)
		for _, g := range all {
			if !slices.Contains(b.told[name], string(g.Secret)) {
				b.told[name] = append(b.told[name], string(g.Secret))
			}
		}
	}}
}

func (b *book) show(t *fleetv1.Task) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.SinkAddress != "address of "+t.SinkAgent {
		panic("a load is sent to " + t.SinkAddress + " of " + t.SinkAgent)
	}
	b.shown[t.SinkAgent] = append(b.shown[t.SinkAgent], string(t.Grant))
}

// wrong is what does not hold once the attempt has ended.
func (b *book) wrong() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range []string{"w1", "w2"} {
		if len(b.told[w]) != 1 || len(b.shown[w]) == 0 || b.now[w] != 0 {
			return fmt.Errorf("%s was told %d secrets, %d hold, and had %d loads", w, len(b.told[w]), b.now[w], len(b.shown[w]))
		}
		for _, s := range b.shown[w] {
			if s != b.told[w][0] {
				return fmt.Errorf("a load shows %s another secret than it was told", w)
			}
		}
	}
	if b.told["w1"][0] == b.told["w2"][0] {
		return fmt.Errorf("two writers share a secret")
	}
	return nil
}

// Every agent that writes for others has one grant, which all its loads show, and which ends with the attempt
// (Invariant 17).
func TestGrant_IsOneForEachWriterUntilTheAttemptEnds(t *testing.T) {
	c := newCrew(t, controlv1.Mode_MODE_FULL_LOAD)
	b := &book{told: map[string][]string{}, now: map[string]int{}, shown: map[string][]string{}}
	for _, name := range []string{"w1", "w2"} {
		p := b.writer(name)
		p.answer = c.answer
		c.play(p)
	}
	c.logged("agent w1 helps to write the target", "agent w2 helps to write the target")
	h := hello("r", 2)
	h.Sink = false
	c.play(player{hello: h, answer: func(t *fleetv1.Task, event func(*fleetv1.Event)) *fleetv1.Result {
		if t.GetLoad() != nil {
			b.show(t)
		}
		return c.answer(t, event)
	}})
	await(t, c.control, controlv1.Phase_PHASE_DONE)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := b.wrong()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
