package spec

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// schemes names the connector of a URL's scheme.
var schemes = map[string]string{"postgres": "postgres", "postgresql": "postgres"}

// parameters are those that a URL may hold beside the password. They are stored and shown, so that no other passes: what
// looks like one may be the rest of a password in which & was not encoded.
var parameters = []string{"application_name", "channel_binding", "client_encoding", "connect_timeout", "database", "dbname", "host",
	"krbspn", "krbsrvname", "max_protocol_version", "min_protocol_version", "options", "passfile", "port", "require_auth", "service",
	"servicefile", "ssl", "sslcert", "sslcertmode", "sslkey", "sslmode", "sslnegotiation", "sslrootcert", "sslsni",
	"target_session_attrs", "user"}

// Encoding says how a URL holds what would end one of its parts.
const Encoding = "In a user or password write % as %25, @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, & as %26 and a space as %20"

// Errors of a URL. They never repeat it: where a password ends is known only of a URL that is right.
var (
	errNoURL      = errors.New("it is not a URL such as postgres://user@host:5432/db")
	errKeyValue   = errors.New("it is a key=value string; write it as a URL such as postgres://user@host:5432/db")
	errAmbiguous  = errors.New("it has an @ behind the host, or a #: a character of the user or password is not percent-encoded (@ is %40, / is %2F, # is %23)")
	errUnreadable = errors.New("it cannot be read as a URL: perhaps a character of the user or password is not percent-encoded (% is %25, a space %20)")
	errPort       = errors.New("its port is not a number from 1 to 65535")
	errKeySecret  = errors.New("sslpassword is a secret, and the URL is stored; set PGSSLPASSWORD where the agent runs")
)

// address is a URL in parts; the password is never among what String returns.
type address struct {
	url      *url.URL
	params   []param
	password string
}

// param is a parameter; its value is as it stands in the URL.
type param struct{ key, raw string }

// Endpoint makes an endpoint of a URL and hands a password found in it back separately.
func Endpoint(raw, name string, role connectorv1.Role, pipeline string) (*fleetv1.Endpoint, string, error) {
	return endpointOf(raw, name, role, pipeline, func(string) string { return "" })
}

// EndpointHere is Endpoint for an agent in this very process: what the URL leaves out is taken from the environment, as
// any client of the database takes it.
func EndpointHere(raw, name string, role connectorv1.Role, environment func(string) string) (*fleetv1.Endpoint, string, error) {
	return endpointOf(raw, name, role, "", environment)
}

func endpointOf(raw, name string, role connectorv1.Role, pipeline string, environment func(string) string) (*fleetv1.Endpoint, string, error) {
	a, err := parseAddress(raw)
	if err != nil {
		return nil, "", err
	}
	connector := schemes[a.url.Scheme]
	if connector == "" {
		return nil, "", diag.NoConnector.New(name, nil, "scheme %q", a.url.Scheme)
	}
	if err := a.readParams(); err != nil {
		return nil, "", err
	}
	a.fill(environment)
	return &fleetv1.Endpoint{Name: name, Connector: connector, Url: a.String(), Role: role, Pipeline: pipeline}, a.password, nil
}

// parseAddress splits a URL where no other reading of it is possible.
func parseAddress(raw string) (*address, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	switch {
	case !ok && strings.Contains(raw, "="):
		return nil, errKeyValue
	case !ok || scheme == "" || strings.ContainsAny(scheme, "=@:/ "):
		return nil, errNoURL
	}
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	if strings.LastIndex(rest, "@") >= len(authority) || strings.Contains(rest, "#") {
		return nil, errAmbiguous
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return nil, errUnreadable
	}
	if !portsOf(u.Host) {
		return nil, errPort
	}
	a := &address{url: u}
	if u.User != nil {
		a.password, _ = u.User.Password()
		u.User = url.User(u.User.Username())
	}
	return a, nil
}

// portsOf reports whether the ports of a list of hosts are ports.
func portsOf(hosts string) bool {
	for host := range strings.SplitSeq(hosts, ",") {
		_, port, ok := strings.Cut(host[strings.LastIndex(host, "]")+1:], ":")
		if n, err := strconv.Atoi(port); ok && port != "" && (err != nil || n < 1 || n > 65535) {
			return false
		}
	}
	return true
}

// readParams reads the parameters, takes the password out, and refuses what is not known.
func (a *address) readParams() error {
	if a.url.RawQuery == "" {
		return nil
	}
	for i, pair := range strings.Split(a.url.RawQuery, "&") {
		key, raw, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(raw) // unlike in a form, + is a plus
		switch {
		case !ok || err != nil:
			return errUnreadable
		case key == "password":
			a.password = value
		case key == "sslpassword":
			return errKeySecret
		case !slices.Contains(parameters, key):
			return fmt.Errorf("parameter %d behind the ? is none of %s, password; settings of the session go into options=-c%%20NAME%%3DVALUE",
				i+1, strings.Join(parameters, ", "))
		default:
			a.params = append(a.params, param{key, raw})
		}
	}
	return nil
}

func (a *address) has(keys ...string) bool {
	return slices.ContainsFunc(a.params, func(p param) bool { return slices.Contains(keys, p.key) })
}

func (a *address) add(key, value string) {
	a.params = append(a.params, param{key, strings.ReplaceAll(url.QueryEscape(value), "+", "%20")})
}

// String is the URL without its password.
func (a *address) String() string {
	u, pairs := *a.url, make([]string, len(a.params))
	for i, p := range a.params {
		pairs[i] = p.key + "=" + p.raw
	}
	u.RawQuery = strings.Join(pairs, "&")
	if u.Host == "" && u.User == nil && u.Path == "" {
		u.Path = "/" // else the slashes behind the scheme are lost
	}
	return u.String()
}
