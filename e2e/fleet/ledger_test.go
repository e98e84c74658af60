package fleet_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// entry is a chunk as a coordinator stored it; see coordinator/store.
type entry struct {
	chunk            string
	Epoch            uint64
	Attempts         int
	Agent, Writer    string
	Granted, Written bool
	Floor            []byte
}

// pair is who was to read and write it.
func (e entry) pair() string { return e.Agent + " " + e.Writer }

// table is its number, as a key has it before that of the chunk.
func (e entry) table() string { return e.chunk[len(e.chunk)-16 : len(e.chunk)-8] }

// on reports whether an agent has a hand in it.
func (e entry) on(agent string) bool { return e.Agent == agent || e.Writer == agent }

// ledger reads what the coordinators of a site have stored, now and before: an external etcd keeps every version.
type ledger struct{ client *clientv3.Client }

func (e *etcd) ledger(t *testing.T) *ledger {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.client}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &ledger{client: c}
}

const ledgerRoot = "/drover/v1/chunk/"

func readEntry(t *testing.T, key, value []byte) entry {
	t.Helper()
	e := entry{chunk: string(key)}
	if err := json.Unmarshal(value, &e); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return e
}

// await waits for a chunk that is granted, not written, and as told, and misses none, however short its time. It returns
// all that it has seen.
func (l *ledger) await(t *testing.T, timeout time.Duration, is func(entry) bool) (seen []entry, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	now, err := l.client.Get(ctx, ledgerRoot, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	found := func(kv *mvccpb.KeyValue) bool {
		e := readEntry(t, kv.Key, kv.Value)
		if e.Granted && !e.Written {
			seen = append(seen, e)
		}
		return e.Granted && !e.Written && is(e)
	}
	if slices.ContainsFunc(now.Kvs, found) {
		return seen, true
	}
	for r := range l.client.Watch(ctx, ledgerRoot, clientv3.WithPrefix(), clientv3.WithRev(now.Header.Revision+1)) {
		for _, ev := range r.Events {
			if ev.Type == clientv3.EventTypePut && found(ev.Kv) {
				return seen, true
			}
		}
	}
	return seen, false
}

// grants are all that were ever made, by chunk, in order.
func (l *ledger) grants(t *testing.T) map[string][]entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const end = ledgerRoot + "~" // after everything so far
	if _, err := l.client.Put(ctx, end, ""); err != nil {
		t.Fatal(err)
	}
	out := map[string][]entry{}
	for r := range l.client.Watch(ctx, ledgerRoot, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
		for _, ev := range r.Events {
			key := string(ev.Kv.Key)
			if key == end {
				return out
			}
			if ev.Type != clientv3.EventTypePut || !strings.HasPrefix(key, ledgerRoot) {
				continue
			}
			if e := readEntry(t, ev.Kv.Key, ev.Kv.Value); e.Attempts > len(out[key]) {
				out[key] = append(out[key], e)
			}
		}
	}
	t.Fatal("the ledger's history ends early")
	return nil
}
