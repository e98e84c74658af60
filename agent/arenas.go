package agent

import (
	"errors"
	"sync"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/arena"
)

// arenas keeps the memory that connectors of this agent share, for the next load: fresh pages cost time.
type arenas struct {
	mu   sync.Mutex
	idle []*arena.Owner
	off  bool // this system has none, or connectors cannot open it
}

// take returns memory with free slots only, or nil.
func (a *arenas) take() *arena.Owner {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.off {
		return nil
	}
	if n := len(a.idle); n > 0 {
		o := a.idle[n-1]
		a.idle = a.idle[:n-1]
		return o
	}
	o, err := arena.Create()
	a.off = err != nil
	return o
}

// give takes memory back after a load. Only a load that ended well has freed every slot, and has no reader or
// writer left that could still touch one.
func (a *arenas) give(o *arena.Owner, clean bool, err error) {
	if o == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if d := diag.Find(err); d != nil && d.Code.ID == diag.NoSharedMemory.ID {
		a.off = true
	}
	if clean && !a.off {
		a.idle = append(a.idle, o)
		return
	}
	_ = o.Close()
}

func (a *arenas) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.off = true
	var errs []error
	for _, o := range a.idle {
		errs = append(errs, o.Close())
	}
	a.idle = nil
	return errors.Join(errs...)
}
