package command

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/ctl/up"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/postgres"
	"github.com/droverdb/drover/plugins/sdk"
)

const grace = 15 * time.Second

func (e *env) upCmd() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use: "up", Short: "Run coordinator, embedded etcd and agent in one process tree", Args: exactly,
		Example: "  drover up --data /var/lib/drover",
		RunE: func(c *cobra.Command, _ []string) error {
			return e.serve(c, up.Options{Data: e.state, Name: hostname(), Listen: listen, TLS: e.tlsFiles(), Verbose: e.verbose})
		},
	}
	c.Flags().StringVar(&listen, "listen", "", "also listen here for control and agents (host:port; off loopback with TLS only)")
	return c
}

func (e *env) coordinatorCmd() *cobra.Command {
	var listen string
	var etcd []string
	var ttl time.Duration
	c := &cobra.Command{
		Use: "run", Short: "Run a coordinator, with embedded or external etcd", Args: exactly,
		Example: "  drover coordinator run --data /var/lib/drover --listen 127.0.0.1:7443\n  drover coordinator run --etcd http://127.0.0.1:2379 --listen 127.0.0.1:7443",
		RunE: func(c *cobra.Command, _ []string) error {
			return e.serve(c, up.Options{Data: e.state, Name: hostname(), Listen: listen, TLS: e.tlsFiles(), Etcd: etcd, TTL: ttl, NoAgent: true, Verbose: e.verbose})
		},
	}
	c.Flags().StringVar(&listen, "listen", "", "address for control and agents")
	c.Flags().StringSliceVar(&etcd, "etcd", nil, "endpoints of an external etcd: several coordinators may share it, one leads")
	c.Flags().DurationVar(&ttl, "ttl", 10*time.Second, "how long an agent, or the leader beside others, may be silent before it is replaced")
	return noun(&cobra.Command{Use: "coordinator", Aliases: []string{"coordinators"}, Short: "Run a coordinator"}, c)
}

// serve runs a tree until it is told to stop, drains it, and aborts what does not drain in time.
func (e *env) serve(c *cobra.Command, o up.Options) error {
	tree, err := up.Start(c.Context(), o)
	if err != nil {
		return err
	}
	e.say("drover is up: %s", tree.Address)
	select {
	case <-c.Context().Done():
	case <-tree.Failed():
	}
	return tree.Stop(grace)
}

func (e *env) agentCmd() *cobra.Command {
	var o up.AgentOptions
	c := &cobra.Command{
		Use: "run", Short: "Run an agent near a database; it only dials out", Args: exactly,
		Example: "  drover agent run --coordinator 127.0.0.1:7443 --name dc1-a",
		RunE: func(c *cobra.Command, _ []string) error {
			o.Coordinator, o.TLS, o.Data, o.Verbose = e.coordinator, e.tlsFiles(), e.state, e.verbose
			if o.Coordinator == "" {
				return diag.Usage.New("drover agent run", nil, "--coordinator is missing")
			}
			return up.RunAgent(c.Context(), o, grace)
		},
	}
	c.Flags().StringVar(&o.Name, "name", hostname(), "name of this agent")
	c.Flags().StringToStringVar(&o.Labels, "label", nil, "labels, e.g. site=dc1")
	c.Flags().StringVar(&o.Transfer, "transfer", "", "address on which other agents reach this one as a sink")
	c.Flags().StringVar(&o.Advertise, "advertise", "", "what other agents dial, if that is not --transfer")
	c.Flags().BoolVar(&o.NoSource, "no-source", false, "never read sources")
	c.Flags().BoolVar(&o.NoSink, "no-sink", false, "never write targets")
	return noun(&cobra.Command{Use: "agent", Aliases: []string{"agents"}, Short: "Run an agent"}, c)
}

// connectorCmd is what an agent starts as a subprocess.
func (e *env) connectorCmd() *cobra.Command {
	return noun(&cobra.Command{Use: "connector", Hidden: true}, &cobra.Command{Use: "serve NAME", Args: exactly, RunE: func(_ *cobra.Command, args []string) error {
		if args[0] != "postgres" {
			return diag.NoConnector.New(args[0], nil, "built in are: postgres")
		}
		sdk.Serve("postgres", func() sdk.Source { return postgres.NewSource() }, func() sdk.Sink { return postgres.NewSink() })
		return nil
	}})
}

func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return fmt.Sprintf("agent-%d", os.Getpid())
	}
	return h
}
