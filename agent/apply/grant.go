package apply

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/droverdb/drover/internal/diag"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// grantWait is how long a call waits for its grant: it may be on its way here when the rows are already.
const grantWait = 5 * time.Second

// grants are what other agents may write here, by the hash of their secret: a look-up must not tell how much of a
// guess was right.
type grants struct {
	mu      sync.Mutex
	all     map[[sha256.Size]byte]*fleetv1.Grant
	changed chan struct{}
}

func newGrants() *grants { return &grants{changed: make(chan struct{})} }

// replace forgets all grants but these.
func (g *grants) replace(all []*fleetv1.Grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = map[[sha256.Size]byte]*fleetv1.Grant{}
	for _, x := range all {
		if len(x.Secret) >= sha256.Size/2 { // a short one could be guessed
			g.all[sha256.Sum256(x.Secret)] = x
		}
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// list returns all grants.
func (g *grants) list() []*fleetv1.Grant {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Values(g.all))
}

// find waits a moment for a grant.
func (g *grants) find(ctx context.Context, secret []byte) (*fleetv1.Grant, error) {
	key := sha256.Sum256(secret)
	timer := time.NewTimer(grantWait)
	defer timer.Stop()
	for {
		g.mu.Lock()
		x, changed := g.all[key], g.changed
		g.mu.Unlock()
		if x != nil {
			return x, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, diag.NotGranted.New("sink agent", nil, "the coordinator has not granted what the caller shows")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
