package fleet_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

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

// inFlight are the chunks that are granted and not written.
func (l *ledger) inFlight(t *testing.T) (out []entry) {
	t.Helper()
	r, err := l.client.Get(t.Context(), ledgerRoot, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		if e := readEntry(t, kv.Key, kv.Value); e.Granted && !e.Written {
			out = append(out, e)
		}
	}
	return out
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
