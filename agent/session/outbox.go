package session

import (
	"sync"
	"time"

	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// outbox holds what waits to be sent, in order, and keeps it after it is sent: a link can break between our send and their
// receipt. It is let go when the link it went over has lived on for a while.
type outbox struct {
	mu    sync.Mutex
	items []*item
	next  int // first item not yet sent over the present link
	wake  chan struct{}
}

type item struct {
	message *fleetv1.SessionRequest
	sent    time.Time
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

func (o *outbox) put(m *fleetv1.SessionRequest) {
	o.mu.Lock()
	o.items = append(o.items, &item{message: m})
	o.mu.Unlock()
	o.ring()
}

func (o *outbox) ring() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take returns the next message for the present link, nil when there is none.
func (o *outbox) take() *fleetv1.SessionRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next == len(o.items) {
		return nil
	}
	it := o.items[o.next]
	it.sent = time.Now()
	o.next++
	return it.message
}

// rewind makes everything that is kept go out again over a new link.
func (o *outbox) rewind() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next = 0
}

// settle lets go of what was sent before the given time over the link that still stands.
func (o *outbox) settle(before time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for n < o.next && o.items[n].sent.Before(before) {
		n++
	}
	o.items = append([]*item(nil), o.items[n:]...)
	o.next -= n
}

// results are the tasks whose result is kept.
func (o *outbox) results() []uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []uint64
	for _, it := range o.items {
		if r := it.message.GetResult(); r != nil {
			out = append(out, r.Task)
		}
	}
	return out
}

// unsent tells how many messages still wait.
func (o *outbox) unsent() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.items) - o.next
}
