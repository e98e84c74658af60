package up

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"google.golang.org/grpc/credentials"

	"github.com/droverdb/drover/agent/link"
	"github.com/droverdb/drover/internal/diag"
)

// AddressFile, in the data directory, holds the address of the coordinator that runs there.
const AddressFile = "address"

// TLSFiles name the PEM files of a mutual TLS connection; all three or none.
type TLSFiles struct{ Cert, Key, CA string }

func (t TLSFiles) set() bool { return t.Cert != "" && t.Key != "" && t.CA != "" }

// Config loads the files. Both ends present a certificate signed by the CA.
func (t TLSFiles) Config() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, diag.TLSRequired.New(t.Cert, err, "certificate or key cannot be loaded")
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, diag.TLSRequired.New(t.CA, err, "the CA cannot be read")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, diag.TLSRequired.New(t.CA, nil, "no certificate in the file")
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}, nil
}

// Credentials are TLS when files are given, plaintext on loopback and unix sockets, an error otherwise.
func Credentials(address string, t TLSFiles) (credentials.TransportCredentials, error) {
	if !t.set() {
		return link.Credentials(address, nil)
	}
	c, err := t.Config()
	if err != nil {
		return nil, err
	}
	return link.Credentials(address, c)
}
