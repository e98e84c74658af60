package transfer

import (
	"context"
	"sync"
)

const (
	// Window is how many bytes a sender may have under way before the sink has taken them.
	Window = 16 << 20
	// Grain is the least that is given back at once: credits are few messages, not one for each frame.
	Grain = 1 << 20
)

// purse holds a sender's credits. A sender may overdraw it once: a frame larger than the window still passes.
type purse struct {
	mu    sync.Mutex
	bytes int64
	more  chan struct{}
}

func newPurse() *purse { return &purse{more: make(chan struct{}, 1)} }

func (p *purse) add(n int64) {
	p.mu.Lock()
	p.bytes += n
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (p *purse) spend(ctx context.Context, n int64) error {
	for {
		p.mu.Lock()
		if p.bytes > 0 {
			p.bytes -= n
			p.mu.Unlock()
			return nil
		}
		p.mu.Unlock()
		select {
		case <-p.more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
