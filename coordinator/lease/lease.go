// Package lease decides who leads, mints epochs, and keeps the sessions of agents.
package lease

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/droverdb/drover/coordinator/store"
)

// Lead is a won election. It ends when the session is lost or Resign is called.
type Lead struct {
	Fence    store.Fence
	session  *concurrency.Session
	election *concurrency.Election
}

// Campaign waits until this candidate leads. ttl is in seconds.
func Campaign(ctx context.Context, c *clientv3.Client, name string, ttl int) (*Lead, error) {
	s, err := concurrency.NewSession(c, concurrency.WithTTL(ttl))
	if err != nil {
		return nil, fmt.Errorf("election: %w", err)
	}
	e := concurrency.NewElection(s, store.ElectionKey)
	if err := e.Campaign(ctx, name); err != nil {
		s.Close()
		return nil, fmt.Errorf("election: %w", err)
	}
	return &Lead{Fence: store.Fence{Key: e.Key(), Rev: e.Rev()}, session: s, election: e}, nil
}

// Evict removes the candidacies that a dead process left behind. Only for an etcd that nobody else can reach:
// its owner holds the lock of the data directory, so that no other candidate lives.
func Evict(ctx context.Context, c *clientv3.Client) error {
	if _, err := c.Delete(ctx, store.ElectionKey, clientv3.WithPrefix()); err != nil {
		return fmt.Errorf("election: %w", err)
	}
	return nil
}

// Lost is closed once somebody else may lead.
func (l *Lead) Lost() <-chan struct{} { return l.session.Done() }

// Resign lets the next candidate lead at once.
func (l *Lead) Resign() error { return l.session.Close() }

// withinBits is the part of an epoch that counts the work granted within one attempt of a pipeline.
const withinBits = 24

// Mint is the epoch of a new attempt: above everything etcd or the target has ever seen, and above everything that
// was granted within the attempts seen. Of those grants the target may know nothing, but it knows their attempt: so
// the next one is above them also when etcd is lost.
func Mint(stored, seen uint64) uint64 { return (max(stored, seen)>>withinBits + 1) << withinBits }

// Next is the epoch of the next grant within an attempt.
func Next(epoch uint64) uint64 { return epoch + 1 }

// Agents keeps one lease per agent session.
type Agents struct{ Client *clientv3.Client }

// Open grants a lease that ends ttl seconds after the last Renew.
func (a Agents) Open(ctx context.Context, name string, ttl int64) (int64, error) {
	l, err := a.Client.Grant(ctx, ttl)
	if err != nil {
		return 0, fmt.Errorf("lease of agent %s: %w", name, err)
	}
	if _, err := a.Client.Put(ctx, store.AgentKey(name), "", clientv3.WithLease(l.ID)); err != nil {
		return 0, fmt.Errorf("lease of agent %s: %w", name, err)
	}
	return int64(l.ID), nil
}

// Renew is called on every heartbeat.
func (a Agents) Renew(ctx context.Context, id int64) error {
	_, err := a.Client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
	return err
}

// Close revokes a lease.
func (a Agents) Close(ctx context.Context, id int64) error {
	_, err := a.Client.Revoke(ctx, clientv3.LeaseID(id))
	return err
}
