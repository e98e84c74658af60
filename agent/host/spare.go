package host

import (
	"context"
	"slices"
	"time"

	"github.com/droverdb/drover/plugins/sdk"
)

// spare is a process that was started before anybody asked for it. ready is closed when it stands, or could not be started
// (process is nil then).
type spare struct {
	name    string
	began   time.Time
	ready   chan struct{}
	process *sdk.Process
}

// Prewarm starts n processes of a connector ahead of the endpoints that will need them: starting takes longer than all that
// an empty database asks of them. Who opens an endpoint takes one; those nobody takes end like idle ones.
func (h *Host) Prewarm(name string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range n {
		if h.closed {
			return
		}
		s := &spare{name: name, began: time.Now(), ready: make(chan struct{})}
		h.spares = append(h.spares, s)
		h.wg.Go(func() {
			defer close(s.ready)
			var err error
			if s.process, err = h.start(h.life, name); err != nil {
				h.cfg.Log.Debug("prewarming a connector", "connector", name, "err", err)
			}
		})
	}
}

// takeSpare returns a prewarmed process, nil when there is none that lives.
func (h *Host) takeSpare(ctx context.Context, name string) (*sdk.Process, error) {
	for {
		s := h.pickSpare(func(s *spare) bool { return s.name == name })
		if s == nil {
			return nil, nil
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			h.giveBack(s)
			return nil, ctx.Err()
		}
		if s.process != nil && alive(s.process) {
			return s.process, nil
		}
		s.close(h)
	}
}

func (h *Host) pickSpare(which func(*spare) bool) *spare {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.spares, which)
	if i < 0 {
		return nil
	}
	s := h.spares[i]
	h.spares = slices.Delete(h.spares, i, i+1)
	return s
}

func (h *Host) giveBack(s *spare) {
	h.mu.Lock()
	closed := h.closed
	if !closed {
		h.spares = append(h.spares, s)
	}
	h.mu.Unlock()
	if closed {
		<-s.ready
		s.close(h)
	}
}

// endSpares closes the spares that match. It waits for those that are still starting.
func (h *Host) endSpares(which func(*spare) bool) {
	for s := h.pickSpare(which); s != nil; s = h.pickSpare(which) {
		<-s.ready
		s.close(h)
	}
}

func (s *spare) close(h *Host) {
	if s.process == nil {
		return
	}
	if err := s.process.Close(); err != nil {
		h.cfg.Log.Debug("closing a connector", "err", err)
	}
}
