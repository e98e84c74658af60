package up

import (
	"context"
	"time"

	"github.com/droverdb/drover/agent"
)

// AgentOptions shape an agent that runs by itself.
type AgentOptions struct {
	Name, Coordinator, Transfer, Data string
	Labels                            map[string]string
	NoSource, NoSink, Verbose         bool
	TLS                               TLSFiles
}

func agentConfig(o AgentOptions) agent.Config {
	return agent.Config{Name: o.Name, Labels: o.Labels, Coordinator: o.Coordinator, NoSource: o.NoSource, NoSink: o.NoSink,
		TransferListen: o.Transfer, BuiltIn: []string{"postgres"}, Log: logger(o.Verbose)}
}

// RunAgent runs an agent until ctx ends; running tasks get their grace.
func RunAgent(ctx context.Context, o AgentOptions, grace time.Duration) error {
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
