package fault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
)

// slowly makes every load task take a while, so that a fault meets it half done.
const slowly = "read.after-copy=sleep:700ms"

// ownServers is a rig on two servers of its own.
func ownServers(t *testing.T, name string) (r *rig, src, dst *dev.Server) {
	t.Helper()
	src, dst = dev.Postgres(t), dev.Postgres(t)
	r = newRigOn(t, src.URL("postgres"), dst.URL("postgres"), name, "")
	return r, src, dst
}

// outage takes a server down, demands that drover says what it waits for, with a code, and brings the server back.
func (r *rig) outage(s *dev.Server, down func() error) {
	r.t.Helper()
	if err := down(); err != nil {
		r.t.Fatal(err)
	}
	r.eventually(60*time.Second, func() error {
		st, err := r.status()
		switch {
		case err != nil:
			return err
		case st.Health != "waiting" || !strings.Contains(st.Waiting, "E2"):
			return fmt.Errorf("a server is down, and the status is %+v", st)
		}
		return nil
	})
	if err := s.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// A server that crashes, during the load or while streaming, is waited for, and nothing committed is lost.
func TestServers_CrashAndComeBack(t *testing.T) {
	t.Parallel()
	r, src, dst := ownServers(t, "crash")
	r.env = []string{"DROVER_FAULT=" + slowly}
	r.tree()
	r.write()
	r.apply("")
	r.await("load")
	time.Sleep(300 * time.Millisecond)
	r.outage(dst, dst.Kill)
	time.Sleep(500 * time.Millisecond)
	r.outage(src, src.Kill)
	r.await("streaming")
	r.outage(src, src.Kill)
	r.flowing()
	r.outage(dst, dst.Kill)
	r.flowing()
	r.outage(dst, dst.StopImmediate)
	r.flowing()
	for _, s := range []*dev.Server{src, dst} { // frozen: connections stand, and nobody answers
		if err := s.Pause(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if err := s.Resume(); err != nil {
			t.Fatal(err)
		}
		r.flowing()
	}
	r.outage(src, func() error { return errors.Join(src.Kill(), dst.Kill(), dst.Start(r.t.Context())) })
	r.flowing()
	r.stopWriting()
	r.equal()
	r.remove()
	if r.deaths > 0 {
		t.Errorf("drover itself died %d times", r.deaths)
	}
}

// flowing waits until a change of now has reached the target.
func (r *rig) flowing() {
	r.t.Helper()
	r.marker++
	dev.MustExec(r.t, r.source, fmt.Sprintf("INSERT INTO a VALUES (-%d, 'marker', 0)", r.marker))
	r.eventually(60*time.Second, func() error {
		n, err := dev.Query(r.t.Context(), r.target, fmt.Sprintf("SELECT count(*) FROM a WHERE id = -%d", r.marker))
		if err == nil && n != "1" {
			err = fmt.Errorf("marker %d has not arrived", r.marker)
		}
		return err
	})
}
