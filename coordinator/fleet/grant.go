package fleet

import (
	"bytes"
	"crypto/rand"
	"slices"

	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

const secretBytes = 32

// Grant lets whoever shows the returned secret write to a target through an agent, until Revoke. The agent hears of it
// now, or when it connects again: a call that comes earlier waits there.
func (f *Fleet) Grant(agent, pipeline string, sink *fleetv1.Endpoint) []byte {
	secret := make([]byte, secretBytes)
	_, _ = rand.Read(secret) // it never fails, says its documentation
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grants[agent] = append(f.grants[agent], &fleetv1.Grant{Secret: secret, Pipeline: pipeline, Sink: sink})
	f.tellGrants(agent)
	return secret
}

// Revoke ends a grant: no new call is accepted under it. Those that are open are fenced by their epoch.
func (f *Fleet) Revoke(agent string, secret []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grants[agent] = slices.DeleteFunc(f.grants[agent], func(g *fleetv1.Grant) bool { return bytes.Equal(g.Secret, secret) })
	f.tellGrants(agent)
}

// InheritGrant goes on with the grant of a pipeline that a former coordinator made; nil when there is none.
func (f *Fleet) InheritGrant(agent, pipeline string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, g := range f.legacy[agent] {
		if g.Pipeline == pipeline {
			f.legacy[agent] = slices.Delete(f.legacy[agent], i, i+1)
			f.grants[agent] = append(f.grants[agent], g)
			return g.Secret
		}
	}
	return nil
}

// tellGrants sends an agent all its grants; they replace what it had. mu is held.
func (f *Fleet) tellGrants(agent string) {
	if m := f.agents[agent]; m != nil && m.link != nil && m.hello.TransferAddress != "" {
		m.link.push(&fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Grants{Grants: &fleetv1.Grants{All: slices.Concat(f.grants[agent], f.legacy[agent])}}})
	}
}
