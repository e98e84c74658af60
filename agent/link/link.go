// Package link decides who may talk in plaintext: nobody off this machine.
package link

import (
	"crypto/tls"
	"net"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/droverdb/drover/internal/diag"
)

// Local reports whether an address never leaves this machine: a unix socket or a loopback address.
func Local(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Credentials are those of c; without it plaintext, on this machine only. A unix socket needs none: its file's rights
// and folder guard it.
func Credentials(address string, c *tls.Config) (credentials.TransportCredentials, error) {
	if c != nil && !strings.HasPrefix(address, "unix:") {
		return verdict{credentials.NewTLS(c)}, nil
	}
	if !Local(address) {
		return nil, diag.TLSRequired.New(address, nil, "no certificate was given")
	}
	return insecure.NewCredentials(), nil
}
