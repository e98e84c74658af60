package command

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// silence is a coordinator that is there, and answers nothing but who it knows.
type silence struct {
	controlv1.UnimplementedControlServiceServer
}

func (silence) List(context.Context, *controlv1.ListRequest) (*controlv1.ListResponse, error) {
	return &controlv1.ListResponse{Pipelines: []*controlv1.Status{{Pipeline: "shop"}}}, nil
}

// hang waits as long as its caller does.
func hang(_ any, s grpc.ServerStream, info *grpc.StreamServerInfo, _ grpc.StreamHandler) error {
	<-s.Context().Done()
	return s.Context().Err()
}

func hangUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if strings.HasSuffix(info.FullMethod, "/List") {
		return handle(ctx, req)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func startSilence(t *testing.T) (address string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, served := grpc.NewServer(grpc.UnaryInterceptor(hangUnary), grpc.StreamInterceptor(hang)), make(chan error, 1)
	controlv1.RegisterControlServiceServer(s, silence{})
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-served })
	return "unix:" + path
}

// Every verb that waits for a coordinator gives up when its time has passed, with a code of its own, and says what it
// waited for and that nothing was undone.
func TestTimeout_EndsEveryVerbThatWaits(t *testing.T) {
	address := startSilence(t)
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nname: shop\nsource: postgres://a/x\ntarget: postgres://b/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"start", "shop"}, {"pause", "shop"}, {"resume", "shop"}, {"stop", "shop"}, {"delete", "shop", "--yes", "--confirm", "shop"},
		{"status", "shop"}, {"status", "shop", "-w"}, {"apply", "-f", file},
	} {
		var text bytes.Buffer
		e := &env{out: io.Discard, err: &text, data: io.Discard, in: os.Stdin}
		root := e.root()
		root.SetArgs(append(args, "--coordinator", address, "--timeout", "200ms"))
		began := time.Now()
		code := e.exit(root.ExecuteContext(t.Context()))
		if code != exitTimeout || time.Since(began) > 5*time.Second {
			t.Errorf("%v: exit code %d after %v: %s", args, code, time.Since(began), &text)
		}
		for _, want := range []string{"E1007", "200ms were not enough; it waited for ", "fix"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%v: no %q in: %s", args, want, &text)
			}
		}
		if !strings.Contains(text.String(), "running") && !strings.Contains(text.String(), "removing") {
			t.Errorf("%v: it does not say what goes on: %s", args, &text)
		}
	}
}

func TestTimeout_IsNotNegative(t *testing.T) {
	e := &env{out: io.Discard, err: io.Discard, data: io.Discard, in: os.Stdin}
	root := e.root()
	root.SetArgs([]string{"start", "shop", "--timeout", "-1s"})
	if code := e.exit(root.ExecuteContext(t.Context())); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
}
