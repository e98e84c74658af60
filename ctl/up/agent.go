package up

import (
	"context"
	"net"
	"time"

	"github.com/droverdb/drover/agent"
	"github.com/droverdb/drover/internal/diag"
)

// AgentOptions shape an agent that runs by itself.
type AgentOptions struct {
	Name, Coordinator, Data string
	// Transfer is where other agents reach this one; Advertise what they dial, if that is another address.
	Transfer, Advertise       string
	Labels                    map[string]string
	NoSource, NoSink, Verbose bool
	TLS                       TLSFiles
}

func agentConfig(o AgentOptions) agent.Config {
	return agent.Config{Name: o.Name, Labels: o.Labels, Coordinator: o.Coordinator, NoSource: o.NoSource, NoSink: o.NoSink,
		TransferListen: o.Transfer, TransferAddress: o.Advertise, BuiltIn: []string{"postgres"}, Log: logger(o.Verbose)}
}

// RunAgent runs an agent until ctx ends; running tasks get their grace.
func RunAgent(ctx context.Context, o AgentOptions, grace time.Duration) error {
	boundMemory()
	if err := o.reachable(); err != nil {
		return err
	}
	c := agentConfig(o)
	c.Grace = grace
	if o.TLS.set() {
		tls, err := o.TLS.Config()
		if err != nil {
			return err
		}
		c.TLS = tls
	}
	a, err := agent.New(c)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// reachable: an agent that listens on all addresses has to say which one the others dial.
func (o AgentOptions) reachable() error {
	host, _, err := net.SplitHostPort(o.Transfer)
	if o.Transfer == "" || o.Advertise != "" {
		return nil
	}
	if ip := net.ParseIP(host); err == nil && host != "" && (ip == nil || !ip.IsUnspecified()) {
		return nil
	}
	return diag.Usage.New("--transfer "+o.Transfer, err, "other agents cannot dial this address").
		WithFix("Name one address, such as 10.0.0.7:7444, or add --advertise with what they dial.")
}
