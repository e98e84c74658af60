package command

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/droverdb/drover/ctl/up"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// known is a coordinator that knows some pipelines and nothing else.
type known struct {
	controlv1.UnimplementedControlServiceServer
	names []string
}

func (k *known) List(context.Context, *controlv1.ListRequest) (*controlv1.ListResponse, error) {
	r := &controlv1.ListResponse{}
	for _, n := range k.names {
		r.Pipelines = append(r.Pipelines, &controlv1.Status{Pipeline: n})
	}
	return r, nil
}

func (k *known) Get(_ context.Context, r *controlv1.GetRequest) (*controlv1.GetResponse, error) {
	for _, n := range k.names {
		if n == r.Pipeline {
			return &controlv1.GetResponse{Status: &controlv1.Status{Pipeline: n}}, nil
		}
	}
	return nil, wire.Status(diag.NoPipeline.New(r.Pipeline, nil, "it is not known here"))
}

// serveKnown makes a coordinator that is found under dir.
func serveKnown(t *testing.T, dir string, names ...string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s, served := grpc.NewServer(), make(chan error, 1)
	controlv1.RegisterControlServiceServer(s, &known{names: names})
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-served })
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, up.AddressFile), []byte("unix:"+socket), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every copy that runs has a coordinator of its own: all of them are listed, and asked for names.
func TestDial_FindsPipelinesOfEveryCoordinator(t *testing.T) {
	data := t.TempDir()
	if code, _, stderr := run(t, "list", "--data", data); code != exitUnreachable || !strings.Contains(stderr, "E1005") {
		t.Errorf("nobody runs: %d, %s", code, stderr)
	}
	serveKnown(t, copyData(data, "stock"), "stock")
	serveKnown(t, copyData(data, "bills"), "bills")
	if err := os.MkdirAll(copyData(data, "gone"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copyData(data, "gone"), up.AddressFile), []byte("unix:"+filepath.Join(data, "gone")), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := run(t, "list", "--data", data, "-o", "name")
	if code != exitOK || stdout != "bills\nstock\n" {
		t.Errorf("list: %d, %q, %s", code, stdout, stderr)
	}
	if code, stdout, _ := run(t, "status", "--data", data, "-o", "name"); code != exitOK || stdout != "bills\nstock\n" {
		t.Errorf("status without a name: %d, %q", code, stdout)
	}
	if code, _, stderr := run(t, "status", "-w", "--data", data); code != exitUsage || !strings.Contains(stderr, "missing: PIPELINE; there are: bills, stock") {
		t.Errorf("a watch without a name: %d, %s", code, stderr)
	}
	for _, verb := range []string{"status", "tables", "chunks", "logs", "start", "pause", "resume", "stop", "delete --yes --confirm stcok"} {
		args := append(strings.Fields(verb), "stcok", "--data", data)
		code, _, stderr := run(t, args...)
		if code != exitUsage || !strings.Contains(stderr, "E1004") || !strings.Contains(stderr, "there are: bills, stock; did you mean stock?") {
			t.Errorf("drover %s: %d, %s", strings.Join(args, " "), code, stderr)
		}
	}
	serveKnown(t, data, "main")
	if code, _, stderr := run(t, "status", "mian", "--data", data); code != exitUsage || !strings.Contains(stderr, "there are: bills, main, stock; did you mean main?") {
		t.Errorf("%d, %s", code, stderr)
	}
	var all struct {
		Version   int
		Pipelines []struct{ Pipeline string }
	}
	if _, stdout, _ := run(t, "list", "--data", data, "--json"); json.Unmarshal([]byte(stdout), &all) != nil || len(all.Pipelines) != 3 || all.Version != 1 {
		t.Errorf("%+v", all)
	}
	if code, stdout, _ := run(t, "__complete", "status", "--data", data, ""); code != exitOK || !strings.Contains(stdout, "bills\nmain\nstock\n") {
		t.Errorf("completion: %d, %s", code, stdout)
	}
	if code, stdout, _ := run(t, "__complete", "list", "-o", ""); code != exitOK || !strings.Contains(stdout, "table\nwide\njson\nyaml\njsonl\nname\n") {
		t.Errorf("completion of -o: %d, %s", code, stdout)
	}
}

func TestDial_OneIsEnoughForStatus(t *testing.T) {
	data := t.TempDir()
	serveKnown(t, data, "only")
	if code, stdout, stderr := run(t, "status", "--data", data); code != exitOK || !strings.Contains(stdout, "pipeline=only") {
		t.Errorf("%d, %s%s", code, stdout, stderr)
	}
}
