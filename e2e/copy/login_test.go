package copy_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
	"github.com/droverdb/drover/internal/tlstest"
)

// loginPassword needs every kind of encoding, and none of its parts is a word that Drover says.
const loginPassword = `k9x2's &v3n8 "q7z4" :@/?#%`

// requireNoPassword demands that no part of it, four bytes or longer, is in a text.
func requireNoPassword(t *testing.T, what, text string) {
	t.Helper()
	for i := 0; i+4 <= len(loginPassword); i++ {
		if part := loginPassword[i : i+4]; strings.Contains(text, part) {
			t.Errorf("%s: %q of the password is repeated: %s", what, part, text)
			return
		}
	}
}

// guarded is a server that lets others in only over TLS, by password or certificate, as hosted ones do; with a filled
// database "a" and an empty one "b".
func guarded(t *testing.T) (*dev.Server, *tlstest.Authority) {
	t.Helper()
	s, ca := dev.Postgres(t), tlstest.New(t)
	cert := ca.Issue(tlstest.Leaf{})
	admin := s.URL("postgres")
	for name, from := range map[string]string{"server.crt": cert.Cert, "server.key": cert.Key, "ca.crt": cert.CA} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		put(t, admin, name, string(text))
	}
	put(t, admin, "pg_hba.conf", `local all postgres trust
host all postgres 127.0.0.1/32 trust
hostssl all mover 127.0.0.1/32 scram-sha-256
hostssl all drover 127.0.0.1/32 cert`)
	dev.MustExec(t, admin, "CREATE DATABASE a", "CREATE DATABASE b", "SET password_encryption = 'scram-sha-256'",
		"CREATE ROLE mover LOGIN SUPERUSER PASSWORD '"+strings.ReplaceAll(loginPassword, "'", "''")+"'", "CREATE ROLE drover LOGIN SUPERUSER",
		"ALTER SYSTEM SET ssl = on", "ALTER SYSTEM SET ssl_ca_file = 'ca.crt'", "SELECT pg_reload_conf()")
	dev.MustExec(t, s.URL("a"), small)
	harness.Eventually(t, 10*time.Second, func() error { return dev.Exec(t.Context(), over(s, "postgres", "postgres", cert.CA), "SELECT") })
	return s, ca
}

// put writes a file of the server's data directory, for its own eyes only: it refuses a key that others can read.
func put(t *testing.T, admin, name, text string) {
	t.Helper()
	dev.MustExec(t, admin, fmt.Sprintf(`COPY (SELECT unnest(string_to_array('%s', E'\n'))) TO PROGRAM 'umask 077; cat > %s'`, text, name))
}

// over is the URL of a database over TLS, checked to the name; more are further parameters.
func over(s *dev.Server, user, db, ca string, more ...string) string {
	v := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {ca}}
	for i := 0; i < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?%s", user, s.Port(), db, v.Encode())
}

// Everything, also the change stream and the rows, goes through TLS with a password that was never on a command line.
func TestLogin_PasswordOverTLS(t *testing.T) {
	s, ca := guarded(t)
	root := ca.Issue(tlstest.Leaf{}).CA
	data := t.TempDir()
	w := harness.StartWriter(t, s.URL("a"), "public.child", harness.WriterOptions{})
	p := harness.Start(t, harness.Command{Args: []string{"copy", over(s, "mover", "a", root), over(s, "mover", "b", root), "--follow", "--name", "tls", "--data", data},
		Env: []string{"DROVER_SOURCE_PASSWORD=" + loginPassword, "DROVER_TARGET_PASSWORD=" + loginPassword}})
	awaitPhase(t, "tls", data, "streaming")
	const sessions = `SELECT count(*) FILTER (WHERE ssl) > 1 AND count(*) FILTER (WHERE NOT ssl) = 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
		WHERE application_name LIKE 'drover%'`
	if got := strings.TrimSpace(dev.MustQuery(t, s.URL("a"), sessions)); got != "t" {
		t.Errorf("not every session is encrypted: %s", dev.MustQuery(t, s.URL("a"), "SELECT application_name, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"))
	}
	w.Stop()
	awaitEqual(t, s.URL("a"), s.URL("b"))
	p.Signal(t, syscall.SIGINT)
	r := p.Wait()
	if r.Code != 130 {
		t.Errorf("stopped with %s", r)
	}
	requireNoPassword(t, "a copy", r.Stdout+r.Stderr)
	// A password that is stored nowhere is needed again to delete what does not run.
	args := []string{"delete", "tls", "--yes", "--confirm", "tls", "--data", data}
	refused(t, 3, args, "E2002", "source › 127.0.0.1", "DROVER_SOURCE_PASSWORD")
	again := harness.Command{Args: args, Env: []string{"DROVER_SOURCE_PASSWORD=" + loginPassword, "DROVER_TARGET_PASSWORD=" + loginPassword}}
	if r := harness.Start(t, again).Wait(); r.Code != 0 || !strings.Contains(r.Stdout, "removed slot drover_tls") || !strings.Contains(r.Stdout, "removed tokens") {
		t.Errorf("delete with the passwords: %s", r)
	}
}

func TestLogin_ClientCertificate(t *testing.T) {
	s, ca := guarded(t)
	mine := ca.Issue(tlstest.Leaf{})
	at := func(db string) string {
		return over(s, "drover", db, mine.CA, "sslcert", mine.Cert, "sslkey", mine.Key)
	}
	harness.MustRun(t, "copy", at("a"), at("b"), "--data", t.TempDir())
	harness.RequireEqual(t, s.URL("a"), s.URL("b"), harness.CompareOptions{})
}

// What the URLs leave out is taken from the environment, as by any client; a setting in it that would change how values
// are written is passed on, and overruled.
func TestLogin_UnixSocketFromTheEnvironment(t *testing.T) {
	s := dev.Postgres(t)
	dev.MustExec(t, s.URL("postgres"), "CREATE DATABASE a", "CREATE DATABASE b")
	dev.MustExec(t, s.URL("a"), small)
	dir := strings.TrimSpace(dev.MustQuery(t, s.URL("a"), "SHOW unix_socket_directories"))
	env := func(options string) []string {
		return []string{"PGHOST=" + dir, fmt.Sprintf("PGPORT=%d", s.Port()), "PGUSER=postgres", "PGDATABASE=a", "PGOPTIONS=" + options}
	}
	r := harness.Start(t, harness.Command{Args: []string{"doctor", "postgres:///", "postgres:///b"}, Env: env("-c nonsense=1")}).Wait()
	if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, `unrecognized configuration parameter "nonsense"`) {
		t.Errorf("PGOPTIONS did not reach the server: %s", r)
	}
	data := t.TempDir()
	w := harness.StartWriter(t, s.URL("a"), "public.child", harness.WriterOptions{})
	harness.Start(t, harness.Command{Args: []string{"copy", "postgres:///", "postgres:///b", "--follow", "--name", "local", "--data", data},
		Env: env("-c datestyle=German -c timezone=Asia/Tokyo -c extra_float_digits=-10 -c bytea_output=escape -c intervalstyle=iso_8601")})
	awaitPhase(t, "local", data, "streaming")
	if r := harness.MustRun(t, "status", "local", "--data", data, "-o", "json"); !strings.Contains(r.Stdout, fmt.Sprintf(`"source": "host=%s port=%d dbname=a"`, dir, s.Port())) {
		t.Errorf("the source is not shown as it is reached: %s", r)
	}
	w.Stop()
	awaitEqual(t, s.URL("a"), s.URL("b"))
}

// A password in a URL is taken when it is encoded, and refused with what to do when it is not; what Drover says, logs and
// keeps holds no part of it.
func TestLogin_APasswordInTheURL(t *testing.T) {
	s, ca := guarded(t)
	root, target, data := ca.Issue(tlstest.Leaf{}).CA, s.URL("b"), t.TempDir()
	coded := strings.ReplaceAll(url.QueryEscape(loginPassword), "+", "%20")
	in := func(password string) string { return over(s, "mover:"+password, "a", root) }
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"doctor, encoded":          {[]string{"doctor", in(coded), target}, 0, ""},
		"doctor, a parameter":      {[]string{"doctor", over(s, "mover", "a", root) + "&password=" + coded, target}, 0, ""},
		"doctor, as it is":         {[]string{"doctor", in(loginPassword), target}, 2, "percent-encode"},
		"doctor, a key's password": {[]string{"doctor", over(s, "mover", "a", root, "sslpassword", loginPassword), target}, 2, "PGSSLPASSWORD"},
		"doctor, an odd parameter": {[]string{"doctor", over(s, "mover", "a", root, "pasword", loginPassword), target}, 2, "is none of"},
		"copy, as it is":           {[]string{"copy", in(loginPassword), target}, 2, "percent-encode"},
		"copy, key=value":          {[]string{"copy", "host=127.0.0.1 password=" + loginPassword, target}, 2, "write it as a URL"},
		"copy that is refused":     {[]string{"copy", in(coded), target, "--tables", "nothing.*", "-v"}, 2, "E4003"},
		"copy, taken apart":        {append(append([]string{"copy"}, strings.Fields(in(loginPassword))...), target), 2, "quote an address"},
		"no verb":                  {[]string{in(loginPassword), target}, 2, "it has no verb"},
	} {
		r := harness.Start(t, harness.Command{Args: append(c.args, "--data", data), Env: []string{"DROVER_LOG_LEVEL=debug"}}).Wait()
		if r.Code != c.code || !strings.Contains(r.Stdout+r.Stderr, c.want) {
			t.Errorf("%s: want exit code %d and %q: %s", name, c.code, c.want, r)
		}
		requireNoPassword(t, name, r.Stdout+r.Stderr)
	}
	kept := 0
	err := filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		kept += len(text)
		requireNoPassword(t, path, string(text))
		return err
	})
	if err != nil || kept == 0 {
		t.Errorf("%d bytes of state were searched: %v", kept, err)
	}
}

// Whoever cannot get in is told which door is shut, and how it opens.
func TestLogin_Refused(t *testing.T) {
	s, ca := guarded(t)
	root, stranger := ca.Issue(tlstest.Leaf{}).CA, tlstest.New(t).Issue(tlstest.Leaf{})
	plain := fmt.Sprintf("postgres://mover@127.0.0.1:%d/a?sslmode=disable", s.Port())
	for name, c := range map[string]struct {
		source string
		want   []string
	}{
		"the server's certificate is of another authority": {over(s, "mover", "a", stranger.CA), []string{"E2001", "certificate", "sslrootcert"}},
		"no such file of authorities":                      {over(s, "mover", "a", root+".gone"), []string{"E", "sslrootcert"}},
		"without TLS":                                      {plain, []string{"E2002", "sslmode"}},
		"no client certificate":                            {over(s, "drover", "a", root), []string{"E2002", "certificate"}},
	} {
		r := harness.Start(t, harness.Command{Args: []string{"doctor", c.source, s.URL("b")}, Env: []string{"DROVER_SOURCE_PASSWORD=" + loginPassword}}).Wait()
		for _, word := range c.want {
			if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, word) {
				t.Errorf("%s: no %q: %s", name, word, r)
			}
		}
	}
}
