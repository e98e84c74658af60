package command

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// terms is a coordinator that steps down twice while somebody watches: once orderly, once by breaking off.
type terms struct {
	controlv1.UnimplementedControlServiceServer
	watches int
}

func (t *terms) Watch(_ *controlv1.WatchRequest, w controlv1.ControlService_WatchServer) error {
	t.watches++
	switch t.watches {
	case 1:
		return w.Send(&controlv1.WatchResponse{Status: &controlv1.Status{Phase: controlv1.Phase_PHASE_LOAD}})
	case 2:
		return status.Error(codes.Unavailable, "stepping down")
	}
	return w.Send(&controlv1.WatchResponse{Status: &controlv1.Status{Phase: controlv1.Phase_PHASE_DONE}})
}

func TestWatch_OutlivesTheTermOfACoordinator(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, served := grpc.NewServer(), make(chan error, 1)
	controlv1.RegisterControlServiceServer(s, &terms{})
	go func() { served <- s.Serve(l) }()
	defer func() { s.Stop(); <-served }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	e := &env{}
	last, err := e.watch(context.Background(), controlv1.NewControlServiceClient(conn), "shop", silent{})
	if err != nil || last.GetPhase() != controlv1.Phase_PHASE_DONE {
		t.Errorf("the watch ended with %v, %v; the pipeline was not done", last, err)
	}
}
