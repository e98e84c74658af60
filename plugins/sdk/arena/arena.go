// Package arena is memory that a source connector and a sink connector on one machine share, so that rows pass
// from one to the other without crossing a socket. The agent that owns both makes it and names it to them; it holds a
// fixed number of slots, each free or in use. The source fills a free slot and sends its number through the agent; the
// sink reads the slot and frees it. Frames keep their order, their counts and their digests: only payload bytes are
// left out of the messages.
package arena

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"google.golang.org/grpc/mem"
)

const (
	// SlotBytes is the size of a slot: the most that one payload holds.
	SlotBytes = 1 << 20
	// slots is how far a source may be ahead of its sink.
	slots = 8
	// headerBytes holds the state of every slot, a cache line each.
	headerBytes = 4096
	stateStride = 64
	total       = headerBytes + slots*SlotBytes

	free = 0
	used = 1

	// waitFirst and waitMost pace the wait for a free slot. The sink has the other slots to work on meanwhile.
	waitFirst = 50 * time.Microsecond
	waitMost  = 2 * time.Millisecond
)

// ErrUnsupported is the answer where memory cannot be shared in this way.
var ErrUnsupported = errors.New("shared memory is not supported here")

// Arena is one process's view of the shared memory.
type Arena struct{ mem []byte }

func (a *Arena) state(slot int) *atomic.Uint32 {
	// Aligned: the mapping begins at a page, and states are a stride apart.
	return (*atomic.Uint32)(unsafe.Pointer(&a.mem[slot*stateStride]))
}

func (a *Arena) slot(slot int) []byte {
	at := headerBytes + slot*SlotBytes
	return a.mem[at : at+SlotBytes : at+SlotBytes]
}

// Slot tells which slot b lies in; false when it is other memory.
func (a *Arena) Slot(b []byte) (uint32, bool) {
	if cap(b) == 0 {
		return 0, false
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(a.mem)))
	if at < headerBytes || at >= total || (at-headerBytes)%SlotBytes != 0 {
		return 0, false
	}
	return uint32((at - headerBytes) / SlotBytes), true
}

// Payload is what the other side put into a slot. Freeing it frees the slot.
func (a *Arena) Payload(slot, size uint32) (mem.Buffer, error) {
	if slot >= slots || size > SlotBytes || a.state(int(slot)).Load() != used {
		return nil, fmt.Errorf("slot %d with %d bytes is not in use", slot, size)
	}
	b := a.slot(int(slot))[:size]
	return mem.NewBuffer(&b, Pool{arena: a}), nil
}

// Pool gives out slots as buffers of SlotBytes until ctx ends, and ordinary memory from then on.
func (a *Arena) Pool(ctx context.Context) Pool { return Pool{arena: a, ctx: ctx} }

// Pool is a mem.BufferPool over the slots.
type Pool struct {
	arena *Arena
	ctx   context.Context
}

// Get waits for a free slot. n is at most SlotBytes; what Get returns must not be used after the call that it serves.
func (p Pool) Get(n int) *[]byte {
	for pause := waitFirst; p.ctx.Err() == nil; pause = min(2*pause, waitMost) {
		for i := range slots {
			if p.arena.state(i).CompareAndSwap(free, used) {
				b := p.arena.slot(i)[:n]
				return &b
			}
		}
		time.Sleep(pause)
	}
	b := make([]byte, n, SlotBytes)
	return &b
}

// Put frees the slot of a buffer.
func (p Pool) Put(b *[]byte) {
	if i, ok := p.arena.Slot(*b); ok {
		p.arena.state(int(i)).Store(free)
	}
}
