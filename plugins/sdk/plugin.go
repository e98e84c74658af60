package sdk

import (
	"context"
	"errors"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/droverdb/drover/internal/telemetry"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

const (
	// MaxMessage bounds one gRPC message; frames stay well below.
	MaxMessage = 64 << 20

	pluginName = "connector"
	// parentVar carries the host's process id: a connector whose parent is another one ends itself.
	parentVar = "DROVER_CONNECTOR_PARENT"

	streamWindow = 1 << 20
	connWindow   = 16 << 20
	ioBuffer     = 512 << 10
)

// handshake keeps a person from running a connector by hand; it is not a secret.
var handshake = goplugin.HandshakeConfig{
	ProtocolVersion: 1, MagicCookieKey: "DROVER_CONNECTOR", MagicCookieValue: "d5b8f0c1-7f0a-4f3e-9b1d-connector",
}

// glue is the go-plugin face of a connector. server is nil on the host's side.
type glue struct {
	goplugin.NetRPCUnsupportedPlugin
	server *server
}

func (g *glue) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	if g.server == nil {
		return errors.New("no connector to serve")
	}
	connectorv1.RegisterConnectorServiceServer(s, &control{server: g.server})
	return nil
}

func (g *glue) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

// ServerOptions are those of every gRPC server that carries frames.
func ServerOptions() []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(Codec{}),
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
		grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(connWindow),
		grpc.ReadBufferSize(ioBuffer), grpc.WriteBufferSize(ioBuffer),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 20 * time.Second}),
	}
	if telemetry.On() { // else it would cost something for every message
		options = append(options, grpc.StatsHandler(otelgrpc.NewServerHandler()))
	}
	return options
}

// DialOptions are those of every gRPC connection that carries frames; credentials come from the caller.
func DialOptions() []grpc.DialOption {
	return append(linkOptions(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(Codec{}), grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithReadBufferSize(ioBuffer), grpc.WithWriteBufferSize(ioBuffer))
}

// linkOptions notice a peer that is stopped (without them ending it could block for ever) and never drop an idle link.
func linkOptions() []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithIdleTimeout(0),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 20 * time.Second, PermitWithoutStream: true}),
	}
	if telemetry.On() {
		options = append(options, grpc.WithStatsHandler(otelgrpc.NewClientHandler()))
	}
	return options
}
