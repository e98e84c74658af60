package up

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/droverdb/drover/agent/link"
	"github.com/droverdb/drover/internal/diag"
)

// AddressFile, in the data directory, holds the address of the coordinator that runs there.
const AddressFile = "address"

// TLSFiles name the PEM files of a mutual TLS connection; all three or none.
type TLSFiles struct{ Cert, Key, CA string }

func (t TLSFiles) set() bool { return t != TLSFiles{} }

// whole reports the flag that is missing beside the others.
func (t TLSFiles) whole() error {
	for _, f := range []struct{ flag, value string }{{"--tls-cert", t.Cert}, {"--tls-key", t.Key}, {"--tls-ca", t.CA}} {
		if f.value == "" {
			return diag.TLSRequired.New(f.flag, nil, "it is missing").WithFix("Give --tls-cert, --tls-key and --tls-ca together.")
		}
	}
	return nil
}

// Config loads the files. Both ends present a certificate signed by the CA.
func (t TLSFiles) Config() (*tls.Config, error) {
	if err := t.whole(); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, diag.TLSRequired.New(t.Cert, err, "certificate or key cannot be loaded").
			WithFix("Name PEM files that this user may read, the key being that of the certificate.")
	}
	if leaf := pair.Leaf; leaf != nil && time.Now().After(leaf.NotAfter) {
		return nil, diag.TLSRefused.New(t.Cert, nil, "the certificate has expired on %s", leaf.NotAfter.Format(time.DateTime)).
			WithFix("Renew the certificate named with --tls-cert.")
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, diag.TLSRequired.New(t.CA, err, "the CA cannot be read").WithFix("Name a PEM file that this user may read with --tls-ca.")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, diag.TLSRequired.New(t.CA, nil, "no certificate in the file").WithFix("Name a PEM file with the CA's certificate with --tls-ca.")
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
