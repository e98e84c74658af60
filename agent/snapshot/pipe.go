package snapshot

import (
	"context"
	"io"
	"sync"

	"github.com/droverdb/drover/plugins/sdk"
)

// pipe holds frames between reader and writer, up to a number of bytes. Frames pass by reference.
type pipe struct {
	budget int

	mu     sync.Mutex
	frames []*sdk.Frame
	bytes  int
	err    error // io.EOF after the last frame, or why there are no more
	// full and empty are rung when frames were taken, or put; each has one waiter at most.
	full, empty chan struct{}
}

func newPipe(budget int) *pipe {
	return &pipe{budget: budget, full: make(chan struct{}, 1), empty: make(chan struct{}, 1)}
}

func ring(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put takes the frame over. It waits while the budget is used up; one frame always fits.
func (p *pipe) put(ctx context.Context, f *sdk.Frame) error {
	for {
		p.mu.Lock()
		if p.err != nil {
			defer p.mu.Unlock()
			f.Free()
			return p.err
		}
		if p.bytes == 0 || p.bytes+f.Size() <= p.budget {
			p.frames = append(p.frames, f)
			p.bytes += f.Size()
			p.mu.Unlock()
			ring(p.empty)
			return nil
		}
		p.mu.Unlock()
		select {
		case <-p.full:
		case <-ctx.Done():
			f.Free()
			return ctx.Err()
		}
	}
}

// take waits for a frame; after close it returns what is left, then the reason.
func (p *pipe) take(ctx context.Context) (*sdk.Frame, error) {
	for {
		p.mu.Lock()
		if len(p.frames) > 0 {
			f := p.frames[0]
			p.frames[0] = nil
			p.frames = p.frames[1:]
			p.bytes -= f.Size()
			p.mu.Unlock()
			ring(p.full)
			return f, nil
		}
		err := p.err
		p.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-p.empty:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// used is how much of the budget is in use, 0 to 1.
func (p *pipe) used() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(1, float64(p.bytes)/float64(p.budget))
}

// close ends the pipe. After an error the frames not taken are freed: a partial chunk is of no use.
func (p *pipe) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	if p.err != io.EOF {
		for _, f := range p.frames {
			f.Free()
		}
		p.frames, p.bytes = nil, 0
	}
	ring(p.empty)
	ring(p.full)
}
