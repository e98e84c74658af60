package link

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
)

// refusals are what a handshake ends with. gRPC hands on only the text of it, so the texts of Go's TLS are recognised;
// TestRefused_NamesEveryCause holds them against real handshakes.
var refusals = []struct{ text, why, fix string }{
	{"certificate signed by unknown authority", "the certificate at the other end is not signed by the CA given here",
		"Give --tls-ca the CA that signed the certificate at the other end."},
	{"certificate has expired or is not yet valid", "the certificate at the other end has expired, or is not valid yet",
		"Renew the certificate at the other end, and compare both clocks."},
	{"x509: certificate is valid for", "the certificate at the other end is for another name",
		"Dial a name that the certificate holds, or issue one whose subjectAltName holds the address dialled."},
	{"x509: certificate is not valid for any names", "the certificate at the other end holds no name",
		"Issue a certificate whose subjectAltName holds the address dialled."},
	{"x509: cannot validate certificate for", "the certificate at the other end does not hold the IP address dialled",
		"Dial a name that the certificate holds, or issue one whose subjectAltName holds the IP address."},
	{"first record does not look like a TLS handshake", "the other end speaks plaintext",
		"Start the other end with --tls-cert, --tls-key and --tls-ca, or leave them out here if both run on this machine."},
	{"tls: certificate required", "the other end wants a certificate, and this one shows none",
		"Give --tls-cert and --tls-key."},
	{"tls: expired certificate", "the other end says that the certificate shown here has expired",
		"Renew the certificate named with --tls-cert."},
	{"tls: unknown certificate authority", "the other end does not know the CA that signed the certificate shown here",
		"Give --tls-cert a certificate that is signed by the CA of the other end (its --tls-ca)."},
	{"tls: bad certificate", "the other end does not accept the certificate shown here",
		"Give --tls-cert a certificate that is signed by the CA of the other end (its --tls-ca) and allows client authentication."},
	{"remote error: tls:", "the other end refused the handshake", "Look at the log of the other end; both must speak TLS 1.3."},
	{"authentication handshake failed", "the TLS handshake failed", "Both ends must speak TLS 1.3 with certificates of one CA."},
}

// Call is wire.Call, but a connection that TLS refused is named as such, with its cause and what to do.
func Call(ctx context.Context, err error, where string, gone diag.Code) error {
	st, ok := status.FromError(err)
	if !ok || st.Code() != codes.Unavailable || len(st.Details()) > 0 || ctx.Err() != nil {
		return wire.Call(ctx, err, where, gone) // not about the connection: a database's certificate, for one
	}
	text := st.Message()
	for _, r := range refusals {
		if strings.Contains(text, r.text) {
			return diag.TLSRefused.New(where, nil, "%s", r.why).WithFix(r.fix)
		}
	}
	return wire.Call(ctx, err, where, gone)
}
