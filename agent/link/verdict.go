package link

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// verdict is TLS whose client waits for the other end's first byte before it writes. A TLS 1.3 client is through with its
// handshake before the other end has looked at its certificate (RFC 8446, section 2): a refusal that comes while the
// client writes is lost with the connection, and all that is left to tell is "broken pipe". A gRPC server speaks first
// (its SETTINGS, RFC 9113, section 3.4), so that nothing is lost by waiting.
type verdict struct {
	credentials.TransportCredentials
}

// ClientHandshake returns once the other end has accepted this one, or has said why not.
func (v verdict) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := v.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	heard := &heard{Conn: conn}
	if err := heard.listen(ctx); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return heard, info, nil
}

// Clone copies the credentials.
func (v verdict) Clone() credentials.TransportCredentials {
	return verdict{v.TransportCredentials.Clone()}
}

// heard is a connection whose first bytes have been read.
type heard struct {
	net.Conn
	first []byte
}

func (h *heard) listen(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = h.SetReadDeadline(time.Unix(1, 0)) })
	buf := make([]byte, 64)
	n, err := h.Conn.Read(buf)
	if !stop() {
		return context.Cause(ctx)
	}
	h.first = buf[:n]
	if n > 0 {
		return nil
	}
	return err
}

// Read gives what was heard, then the rest.
func (h *heard) Read(p []byte) (int, error) {
	if len(h.first) > 0 {
		n := copy(p, h.first)
		h.first = h.first[n:]
		return n, nil
	}
	return h.Conn.Read(p)
}
