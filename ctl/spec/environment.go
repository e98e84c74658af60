package spec

import (
	"net/url"
	"strconv"
	"strings"
)

// others are the variables that stand for one parameter of the URL each, and none for a secret.
var others = []struct{ variable, key string }{
	{"PGSSLMODE", "sslmode"}, {"PGOPTIONS", "options"}, {"PGCONNECT_TIMEOUT", "connect_timeout"},
	{"PGTARGETSESSIONATTRS", "target_session_attrs"}, {"PGCHANNELBINDING", "channel_binding"}, {"PGREQUIREAUTH", "require_auth"},
}

// fill takes what the URL leaves out from the variables that libpq knows. A service stands above the environment and is
// read where the agent runs: with one, nothing else is taken.
func (a *address) fill(get func(string) string) {
	if v := get("PGSERVICE"); v != "" && !a.has("service") {
		a.add("service", v)
	}
	if a.has("service") {
		return
	}
	a.fillHost(get("PGHOST"))
	a.fillUser(get("PGUSER"))
	a.fillPort(get("PGPORT"))
	if v := get("PGDATABASE"); v != "" && strings.Trim(a.url.Path, "/") == "" && !a.has("dbname", "database") {
		a.url.Path, a.url.RawPath = "/"+v, ""
	}
	for _, o := range others {
		if v := get(o.variable); v != "" && !a.has(o.key) && !(o.key == "sslmode" && a.has("ssl")) {
			a.add(o.key, v)
		}
	}
}

func (a *address) fillUser(v string) {
	switch {
	case v == "" || a.url.User.Username() != "" || a.has("user"):
	case a.url.Host == "":
		a.add("user", v)
	default:
		a.url.User = url.User(v)
	}
}

// fillHost takes one host as part of the URL, a socket's folder or a list as a parameter.
func (a *address) fillHost(v string) {
	switch {
	case v == "" || a.url.Hostname() != "" || a.has("host"):
	case strings.ContainsAny(v, "/,:@%"):
		a.add("host", v)
	default:
		a.url.Host = v + a.url.Host // which may be a port alone
	}
}

// fillPort leaves a list of hosts its parameter: a single port is that of all of them.
func (a *address) fillPort(v string) {
	if v == "" || a.url.Port() != "" || strings.Contains(a.url.Host, ":") && !strings.HasSuffix(a.url.Host, "]") || a.has("port") {
		return
	}
	if _, err := strconv.Atoi(v); err != nil || a.url.Host == "" || strings.Contains(a.url.Host, ",") {
		a.add("port", v)
		return
	}
	a.url.Host += ":" + v
}
