package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/droverdb/drover/agent/link"
	"github.com/droverdb/drover/ctl/up"
	"github.com/droverdb/drover/internal/diag"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// with runs f against the coordinator that knows a pipeline. One that nobody knows is answered with those there are.
func (e *env) with(ctx context.Context, pipeline string, f func(controlv1.ControlServiceClient) error) error {
	client, done, err := e.dial(ctx, pipeline)
	if err == nil {
		defer done()
		err = f(client)
	}
	d := diag.Find(err)
	if d == nil || d.Code.ID != diag.NoPipeline.ID && (d.Code.ID != diag.NoCoord.ID || e.coordinator != "") {
		return err
	}
	if e.rests(ctx, pipeline) {
		return e.notRunning(pipeline)
	}
	names := e.names(ctx)
	if d.Code.ID == diag.NoCoord.ID && (len(names) == 0 || slices.Contains(names, pipeline)) {
		return err
	}
	return diag.NoPipeline.New(pipeline, nil, "it is not known here%s%s", thereAre(names), didYouMean(pipeline, names))
}

// pipelines lists what every coordinator here knows: a running copy has one of its own.
func (e *env) pipelines(ctx context.Context) (all []*controlv1.Status, err error) {
	answered := false
	for _, a := range e.addresses("") {
		c, done, dialErr := e.dialAddress(ctx, a)
		if dialErr != nil {
			err = dialErr
			continue
		}
		r, listErr := c.List(ctx, &controlv1.ListRequest{})
		done()
		if listErr != nil {
			err = e.remote(listErr)
			continue
		}
		answered, all = true, append(all, r.Pipelines...)
		if e.coordinator != "" {
			break // the others are of the same cluster
		}
	}
	switch {
	case answered:
		err = nil
	case e.coordinator == "":
		if resting := e.resting(nil); len(resting) > 0 {
			return nil, e.notRunning(resting...)
		}
		err = diag.NoCoord.New(e.state, err, "no coordinator runs here")
	}
	slices.SortFunc(all, func(a, b *controlv1.Status) int { return strings.Compare(a.Pipeline, b.Pipeline) })
	return all, err
}

// names are the pipelines that are known here.
func (e *env) names(ctx context.Context) []string {
	all, _ := e.pipelines(ctx)
	return namesOf(all)
}

func namesOf(all []*controlv1.Status) (names []string) {
	for _, s := range all {
		names = append(names, s.Pipeline)
	}
	return names
}

// thereAre continues a sentence with the names that exist.
func thereAre(names []string) string {
	const most = 10
	switch {
	case len(names) == 0:
		return "; there are no pipelines"
	case len(names) > most:
		return fmt.Sprintf("; there are %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return "; there are: " + strings.Join(names, ", ")
}

// dial finds the coordinator that knows a pipeline: --coordinator, the one under --data, or a running copy's.
func (e *env) dial(ctx context.Context, pipeline string) (controlv1.ControlServiceClient, func(), error) {
	var last error
	for _, a := range e.addresses(pipeline) {
		c, done, err := e.dialAddress(ctx, a)
		if err != nil {
			last = err
			continue
		}
		return c, done, nil
	}
	if e.coordinator != "" {
		return nil, nil, last
	}
	return nil, nil, diag.NoCoord.New(e.state, last, "no coordinator runs here")
}

// runsAlready says what to do about a copy that finds its state in use: most often the same copy still runs.
func (e *env) runsAlready(ctx context.Context, pipeline string, err error) error {
	d := diag.Find(err)
	if d == nil || d.Code.ID != diag.StateUnusable.ID {
		return err
	}
	_, done, dialErr := e.dial(ctx, pipeline)
	if dialErr != nil {
		return err
	}
	done()
	return d.WithFix("It runs already; watch it: drover status "+pipeline+" -w"+e.here(), "Or end it with Ctrl-C where it was started, then run the same command again.")
}

func (e *env) addresses(pipeline string) []string {
	if named := e.coordinators(); named != nil {
		return named
	}
	var out []string
	dirs := []string{e.state}
	if pipeline != "" {
		dirs = append([]string{copyData(e.state, pipeline)}, dirs...)
	} else {
		more, _ := filepath.Glob(filepath.Join(e.state, "copy", "*"))
		sort.Strings(more)
		dirs = append(dirs, more...)
	}
	for _, d := range dirs {
		if b, err := os.ReadFile(filepath.Join(d, up.AddressFile)); err == nil {
			out = append(out, string(b))
		}
	}
	return out
}

// coordinators are those that --coordinator names.
func (e *env) coordinators() (out []string) {
	if e.coordinator == "" {
		return nil
	}
	for _, a := range strings.Split(e.coordinator, ",") {
		out = append(out, strings.TrimSpace(a))
	}
	return out
}

func (e *env) dialAddress(ctx context.Context, address string) (controlv1.ControlServiceClient, func(), error) {
	conn, err := e.probe(ctx, address)
	if err == nil {
		return controlv1.NewControlServiceClient(conn), func() { conn.Close() }, nil
	}
	if err = link.Call(ctx, err, address, diag.NoCoord); diag.Find(err) == nil {
		err = diag.NoCoord.New(address, err, "it does not answer")
	}
	return nil, nil, err
}

// probe connects and hears whether a coordinator answers.
func (e *env) probe(ctx context.Context, address string) (*grpc.ClientConn, error) {
	creds, err := up.Credentials(address, e.tlsFiles())
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if _, err := controlv1.NewControlServiceClient(conn).List(ctx, &controlv1.ListRequest{}); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (e *env) tlsFiles() up.TLSFiles { return up.TLSFiles{Cert: e.tlsCert, Key: e.tlsKey, CA: e.tlsCA} }
