package fleet_test

import (
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
	"github.com/droverdb/drover/internal/tlstest"
)

// A whole migration over mutual TLS, every process with a certificate of its own; strangers are told why they are refused.
func TestFleet_MigratesOverMutualTLS(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, shop)
	ca := tlstest.New(t)
	client := ca.Issue(tlstest.Leaf{}).Flags()
	f := harness.StartFleet(t, harness.FleetOptions{Coordinator: ca.Issue(tlstest.Leaf{}).Flags(), Source: ca.Issue(tlstest.Leaf{}).Flags(),
		Sink: ca.Issue(tlstest.Leaf{}).Flags(), Client: client})
	w := harness.StartWriter(t, source, "public.a", harness.WriterOptions{})
	f.Apply(t, "safe", source, target, heartbeat)
	f.Await(t, "safe", "phase=streaming")
	w.Stop()
	harness.RequireRowsEqual(t, source, target)

	mixed := ca.Issue(tlstest.Leaf{})
	stranger := tlstest.New(t).Issue(tlstest.Leaf{})
	stranger.CA = mixed.CA
	for name, c := range map[string]struct {
		flags      []string
		code, text string
	}{
		"another CA": {stranger.Flags(), "E6010", "CA of the other end"},
		"expired":    {ca.Issue(tlstest.Leaf{Expired: true}).Flags(), "E6010", "Renew the certificate"},
		"no key":     {[]string{"--tls-cert", mixed.Cert, "--tls-ca", mixed.CA}, "E6006", "together"},
	} {
		for _, args := range [][]string{
			{"list", "--coordinator", f.Address},
			{"agent", "run", "--coordinator", f.Address, "--name", "stranger"},
		} {
			p := harness.Start(t, harness.Command{Args: append(args, c.flags...)})
			timer := time.AfterFunc(20*time.Second, func() { p.Kill() })
			r := p.Wait()
			timer.Stop()
			if r.Code == 0 || r.Signal != 0 || !strings.Contains(r.Stderr, c.code) || !strings.Contains(r.Stderr, c.text) {
				t.Errorf("%s, %s: %s", name, args[0], r)
			}
		}
	}
}

// Nothing listens off this machine without certificates, and an agent says where it is reached.
func TestFleet_ListensOffThisMachineOnlyWithTLS(t *testing.T) {
	for name, c := range map[string]struct{ args, text string }{
		"coordinator":      {"coordinator run --listen 0.0.0.0:0 --data " + t.TempDir(), "E6006"},
		"up":               {"up --listen :0 --data " + t.TempDir(), "E6006"},
		"agent":            {"agent run --coordinator 192.0.2.1:1", "E6006"},
		"transfer":         {"agent run --coordinator 127.0.0.1:1 --transfer 0.0.0.0:0 --advertise 192.0.2.1:1", "E6006"},
		"transfer address": {"agent run --coordinator 127.0.0.1:1 --transfer 0.0.0.0:0", "--advertise"},
	} {
		r := harness.Run(t, strings.Fields(c.args)...)
		if r.Code != 2 || !strings.Contains(r.Stderr, c.text) {
			t.Errorf("%s: %s", name, r)
		}
	}
}
