// Package store is the only place that knows what the coordinator keeps in etcd, and under which keys.
package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/droverdb/drover/internal/diag"
)

// batch keeps a transaction below etcd's default of 128 operations.
const batch = 100

// partBytes keeps a value well below etcd's limit of 1.5 MiB.
const partBytes = 512 << 10

// Fence is the leader's key and the revision that created it: writes of a former leader are refused.
type Fence struct {
	Key string
	Rev int64
}

// ErrFenced is returned to a coordinator that no longer leads.
var ErrFenced = fmt.Errorf("store: another coordinator leads")

// ErrUnavailable is wrapped by the errors of an etcd that does not answer: nothing is known to be wrong but that.
var ErrUnavailable = fmt.Errorf("store: etcd does not answer")

// patience is how long one request waits for etcd.
const patience = 10 * time.Second

// Store reads and writes with one client and, for writes, one fence.
type Store struct {
	client *clientv3.Client
	fence  Fence
}

// New makes a store; fence may be empty for readers.
func New(c *clientv3.Client, f Fence) *Store { return &Store{client: c, fence: f} }

// Change is one write; a nil Value deletes.
type Change struct {
	key   string
	value []byte
	wide  bool
}

// Save commits changes in order, in batches; each batch is atomic and guarded by the fence. Repeating is harmless.
func (s *Store) Save(ctx context.Context, changes ...Change) error {
	for len(changes) > 0 {
		n, size := 0, 0
		// A range delete goes alone: etcd refuses it beside a put into the range.
		for n < len(changes) && n < batch && (n == 0 || !changes[n].wide && !changes[n-1].wide && size+len(changes[n].value) < 2*partBytes) {
			size += len(changes[n].value)
			n++
		}
		if err := s.commit(ctx, changes[:n]); err != nil {
			return err
		}
		changes = changes[n:]
	}
	return nil
}

func (s *Store) commit(ctx context.Context, changes []Change) error {
	ops := make([]clientv3.Op, 0, len(changes))
	for _, c := range changes {
		switch {
		case c.wide:
			ops = append(ops, clientv3.OpDelete(c.key, clientv3.WithPrefix()))
		case c.value == nil:
			ops = append(ops, clientv3.OpDelete(c.key))
		default:
			ops = append(ops, clientv3.OpPut(c.key, string(c.value)))
		}
	}
	ctx, done := context.WithTimeout(ctx, patience)
	defer done()
	txn := s.client.Txn(ctx)
	if s.fence.Key != "" {
		txn = txn.If(clientv3.Compare(clientv3.CreateRevision(s.fence.Key), "=", s.fence.Rev))
	}
	r, err := txn.Then(ops...).Commit()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if !r.Succeeded {
		return ErrFenced
	}
	return nil
}

func (s *Store) get(ctx context.Context, key string) ([]byte, error) {
	ctx, done := context.WithTimeout(ctx, patience)
	defer done()
	r, err := s.client.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(r.Kvs) == 0 {
		return nil, nil
	}
	return r.Kvs[0].Value, nil
}

// pages calls each for everything under a prefix, in order, a page at a time.
func (s *Store) pages(ctx context.Context, prefix string, each func(key string, value []byte) error) error {
	end := clientv3.GetPrefixRangeEnd(prefix)
	for from := prefix; ; {
		r, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(500))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		for _, kv := range r.Kvs {
			if err := each(string(kv.Key), kv.Value); err != nil {
				return err
			}
		}
		if !r.More {
			return nil
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("store: " + err.Error()) // only our own plain structs come here
	}
	return b
}

func decode(key string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return diag.StateUnusable.New(key, err, "a record cannot be read")
	}
	return nil
}
