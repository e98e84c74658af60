package host

import (
	"context"
	"crypto/sha256"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	goplugin "github.com/hashicorp/go-plugin"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// launch starts the subprocess for an endpoint, or takes one that was started ahead.
func (h *Host) launch(ctx context.Context, ep *fleetv1.Endpoint) (*sdk.Process, error) {
	name := ep.Connector
	if name == "" {
		u, err := url.Parse(ep.Url)
		if err != nil {
			return nil, diag.NoConnector.New("endpoint "+ep.Name, nil, "its URL cannot be read")
		}
		name = map[string]string{"postgresql": "postgres"}[u.Scheme]
		if name == "" {
			name = u.Scheme
		}
	}
	if p, err := h.takeSpare(ctx, name); p != nil || err != nil {
		return p, err
	}
	return h.start(ctx, name)
}

func (h *Host) start(ctx context.Context, name string) (*sdk.Process, error) {
	path, args, err := h.binary(name)
	if err != nil {
		return nil, err
	}
	return sdk.Launch(ctx, sdk.LaunchConfig{
		Name: name, Path: path, Args: args, Env: append(environment(h.cfg.Budget), h.cfg.Env...), Log: h.cfg.Log,
	})
}

// binary finds the connector: one of its own in the directory, or this binary.
func (h *Host) binary(name string) (string, []string, error) {
	if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
		return "", nil, diag.NoConnector.New("connector", nil, "%q is not a connector's name", name)
	}
	if h.cfg.Dir != "" {
		path := filepath.Join(h.cfg.Dir, "drover-connector-"+name)
		if _, err := os.Stat(path); err == nil {
			return path, nil, h.verify(path)
		}
	}
	if slices.Contains(h.cfg.BuiltIn, name) {
		return h.cfg.Self, append(slices.Clone(h.cfg.SelfArgs), name), nil
	}
	return "", nil, diag.NoConnector.New("connector "+name, nil, "it is neither built in nor in the connector directory")
}

// Connectors lists what this host can start.
func (h *Host) Connectors() []string {
	names := slices.Clone(h.cfg.BuiltIn)
	found, _ := filepath.Glob(filepath.Join(h.cfg.Dir, "drover-connector-*"))
	for _, path := range found {
		if h.cfg.Dir != "" {
			names = append(names, strings.TrimPrefix(filepath.Base(path), "drover-connector-"))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// verify refuses an external binary that changed since this process first started it.
func (h *Host) verify(path string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if want, ok := h.sums[path]; ok {
		check := goplugin.SecureConfig{Checksum: want, Hash: sha256.New()} // fresh: the library never resets it
		if same, err := check.Check(path); err != nil || !same {
			return diag.NoConnector.New(path, err, "the file changed while the agent runs; restart the agent to use it")
		}
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return diag.NoConnector.New(path, err, "it cannot be read")
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return diag.NoConnector.New(path, err, "it cannot be read")
	}
	h.sums[path] = sum.Sum(nil)
	return nil
}
