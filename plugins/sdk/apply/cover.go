package apply

import (
	"sync"

	"github.com/droverdb/drover/plugins/sdk"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// CoverKey names a key of a table.
type CoverKey struct {
	Table uint32
	Key   string
}

// Covers holds the coverage of keys that were read again at the source. It is safe for concurrent use.
type Covers struct {
	mu   sync.RWMutex
	keys map[CoverKey]*rowv1.Coverage
	gen  uint64
}

// NewCovers makes an empty set.
func NewCovers() *Covers { return &Covers{keys: map[CoverKey]*rowv1.Coverage{}} }

// Add stores the coverage of a key. The caller stores it at the target with the same commit.
func (c *Covers) Add(table uint32, key []byte, cov *rowv1.Coverage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[CoverKey{table, string(key)}] = cov
	c.gen++
}

// Len is the number of keys.
func (c *Covers) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.keys)
}

// Passed removes and returns the keys whose coverage no later transaction can be in.
func (c *Covers) Passed(position []byte) []CoverKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []CoverKey
	for k, cov := range c.keys {
		if sdk.Passed(cov, position) {
			out = append(out, k)
			delete(c.keys, k)
		}
	}
	return out
}

func (c *Covers) state() (int, uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.keys), c.gen
}

func (c *Covers) drops(table uint32, key, position []byte, id uint64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	cov, ok := c.keys[CoverKey{table, string(key)}]
	return ok && sdk.Includes(cov, position, id)
}

// Outlive returns the keys of a table that were read again at a moment that includes a transaction of the round: a
// TRUNCATE of that round leaves their rows alone (Invariant 8).
func (c *Covers) Outlive(table uint32, r *Round) [][]byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var keys [][]byte
	for k, cov := range c.keys {
		if k.Table == table && includesAny(cov, r) {
			keys = append(keys, []byte(k.Key))
		}
	}
	return keys
}

func includesAny(cov *rowv1.Coverage, r *Round) bool {
	for i := range r.TxnIDs {
		if p, id := r.txnAt(uint32(i)); sdk.Includes(cov, p, id) {
			return true
		}
	}
	return false
}
