package snapshot

import (
	"sync"

	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// Tally is how far a load is while it goes on: what has moved, not what is committed. Its zero value is ready for one
// load; anybody may read it meanwhile.
type Tally struct {
	mu     sync.Mutex
	chunks []*fleetv1.ChunkProgress
	ahead  func() float64 // nil unless rows are being read
}

// add counts what passed of a chunk. Chunks follow one another.
func (t *Tally) add(chunk uint64, rows, bytes int64) {
	if t == nil || rows == 0 && bytes == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.chunks)
	if n == 0 || t.chunks[n-1].Chunk != chunk {
		t.chunks = append(t.chunks, &fleetv1.ChunkProgress{Chunk: chunk})
		n++
	}
	t.chunks[n-1].Rows += rows
	t.chunks[n-1].Bytes += bytes
}

// reading says how full the room between reader and writer is from now on; nil: everything is read.
func (t *Tally) reading(ahead func() float64) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ahead = ahead
}

// Bytes is all that has moved.
func (t *Tally) Bytes() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var sum int64
	for _, c := range t.chunks {
		sum += c.Bytes
	}
	return sum
}

// Fill puts the tally into a report.
func (t *Tally) Fill(p *fleetv1.TaskProgress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.chunks {
		p.Rows, p.Bytes = p.Rows+c.Rows, p.Bytes+c.Bytes
		p.Chunks = append(p.Chunks, &fleetv1.ChunkProgress{Chunk: c.Chunk, Rows: c.Rows, Bytes: c.Bytes})
	}
	if t.ahead != nil && p.Bytes > 0 {
		ahead := t.ahead()
		p.Ahead = &ahead
	}
}
