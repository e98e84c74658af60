package spec

import (
	"net/url"
	"strings"
	"testing"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// shapes are the places of an address where a password may stand; PW is it.
var shapes = []string{
	"postgres://u:PW@h:1/d", "postgres://u:PW@h/d?sslmode=disable", "postgres://u@h/d?password=PW", "postgres://u@h:5/d?password=PW&sslmode=off",
	"postgres://u@h/d?sslpassword=PW", "postgres://u@h/d?pasword=PW", "postgres:///d?user=u&password=PW", "postgres://u:PW@/d",
	"postgres:u:PW@h/d", "postgres:/u:PW@h/d", "postgres:///u:PW@h/d", "u:PW@h/d", "//u:PW@h/d", "postgres://[::1]:5/d?password=PW",
	"postgres://u:PW@a:1,b:2/d", "host=h user=u password=PW", "host=h user=u password='PW' dbname=d", "password = PW", "postgres://u:PW@h:xyz/d",
}

// awkward are characters that end a part of an address, or are not allowed in one.
var awkward = []string{"p@ss/w?o%r", "p@s:s/w?o#r%d &", "k9x2@q7z4", "1234/k9x2", "12#k9x2z", "k9x2&q7z4", "k9x2;q7z4=v3n8", "k9x2 q7z4", "k9x2'q7z4", `k9x2\ q7z4`,
	"k9x2+q7z4", "k9x2%zzq7z4", "%6b9x2q7z4", "k9x2?user=q7z4@m", "k9x2://q7z4", "k9x2 q7://z4v3n8", "пароль", "k9x2\nq7z4", "k9x2\x00q7z4", "@@@@q7z4", "::::q7z4", "k9x2\""}

// repeats is a part of a password, four bytes or longer, that text holds and the rest of the address does not.
func repeats(text, password, shape string) string {
	shape += strings.Join(parameters, " ") + Encoding + errKeySecret.Error() + errNoURL.Error() + errKeyValue.Error() + errAmbiguous.Error() + errUnreadable.Error()
	for i := 0; i+4 <= len(password); i++ {
		if part := password[i : i+4]; strings.Contains(text, part) && !strings.Contains(shape, part) {
			return part
		}
	}
	return ""
}

// keepsSecret: a URL is taken with its password apart, or refused; neither way is a part of the password repeated.
func keepsSecret(t *testing.T, shape, password string) {
	t.Helper()
	for _, p := range []string{password, url.QueryEscape(password), url.PathEscape(password)} {
		e, got, err := Endpoint(strings.ReplaceAll(shape, "PW", p), "source", connectorv1.Role_ROLE_SOURCE, "")
		text := e.String()
		if err != nil {
			text = err.Error()
		}
		for _, q := range []string{password, p} {
			if part := repeats(text, q, shape); part != "" {
				t.Errorf("%s with %q: %q is repeated (and %q taken as the password): %s", shape, p, part, got, text)
			}
		}
	}
}

func TestEndpoint_NeverRepeatsAPassword(t *testing.T) {
	for _, shape := range shapes {
		for _, password := range awkward {
			keepsSecret(t, shape, password)
		}
	}
}

func FuzzEndpoint_NeverRepeatsAPassword(f *testing.F) {
	for i, password := range awkward {
		f.Add(uint(i), password)
	}
	f.Fuzz(func(t *testing.T, shape uint, password string) {
		keepsSecret(t, shapes[shape%uint(len(shapes))], password)
	})
}

// A password that is encoded is taken whole, wherever it stands.
func TestEndpoint_TakesAnEncodedPassword(t *testing.T) {
	for _, password := range awkward[:len(awkward)-6] {
		for shape, want := range map[string]string{
			"postgres://u:PW@h:5/d?sslmode=disable":       "postgres://u@h:5/d?sslmode=disable",
			"postgres://u@h/d?password=PW&options=-c%20a": "postgres://u@h/d?options=-c%20a",
			"postgres:///d?host=/tmp&password=PW":         "postgres:///d?host=/tmp",
		} {
			coded := strings.NewReplacer("+", "%20").Replace(url.QueryEscape(password))
			e, got, err := Endpoint(strings.ReplaceAll(shape, "PW", coded), "source", connectorv1.Role_ROLE_SOURCE, "")
			if err != nil || got != password || e.Url != want {
				t.Errorf("%s with %q: %q, %v, %v", shape, coded, got, e, err)
			}
		}
	}
}

// The environment fills what the URL leaves out, and nothing else; a service is left to whoever reads it.
func TestEndpointHere_FillsFromTheEnvironment(t *testing.T) {
	all := map[string]string{"PGUSER": "me", "PGHOST": "there", "PGPORT": "6", "PGDATABASE": "shop", "PGSSLMODE": "require",
		"PGOPTIONS": "-c geqo=off", "PGPASSWORD": "s3cret", "PGAPPNAME": "x", "PGREQUIREAUTH": "scram-sha-256"}
	const tail = "&options=-c%20geqo%3Doff&require_auth=scram-sha-256"
	for in, c := range map[string]struct {
		want string
		more map[string]string
	}{
		"postgres://":                         {want: "postgres://me@there:6/shop?sslmode=require" + tail},
		"postgres:///":                        {want: "postgres://me@there:6/shop?sslmode=require" + tail},
		"postgres://h/d":                      {want: "postgres://me@h:6/d?sslmode=require" + tail},
		"postgres://u@h:5/d?sslmode=disable":  {want: "postgres://u@h:5/d?sslmode=disable" + tail},
		"postgres://u@h:5/d?ssl=true":         {want: "postgres://u@h:5/d?ssl=true" + tail},
		"postgres:///d?host=/tmp&user=u":      {want: "postgres:///d?host=/tmp&user=u&port=6&sslmode=require" + tail},
		"postgres://:7/d":                     {want: "postgres://me@there:7/d?sslmode=require" + tail},
		"postgres://u@[::1]/d":                {want: "postgres://u@[::1]:6/d?sslmode=require" + tail},
		"postgres://u@a,b/d":                  {want: "postgres://u@a,b/d?port=6&sslmode=require" + tail},
		"postgres:///d":                       {"postgres:///d?host=%2Frun%2Fpg&user=me&port=6&sslmode=require" + tail, map[string]string{"PGHOST": "/run/pg"}},
		"postgres:///d?service=old":           {want: "postgres:///d?service=old"},
		"postgres://u@h/e":                    {"postgres://u@h/e?service=new", map[string]string{"PGSERVICE": "new"}},
		"postgres://u@h/d?options=-c%20a%3Db": {want: "postgres://u@h:6/d?options=-c%20a%3Db&sslmode=require&require_auth=scram-sha-256"},
	} {
		get := func(name string) string {
			if v, ok := c.more[name]; ok {
				return v
			}
			return all[name]
		}
		e, password, err := EndpointHere(in, "source", connectorv1.Role_ROLE_SOURCE, get)
		if err != nil || e.Url != c.want || password != "" {
			t.Errorf("%s: %v %q %v, not %s", in, e, password, err, c.want)
		}
		if e, _, err := Endpoint(in, "source", connectorv1.Role_ROLE_SOURCE, ""); err != nil || e.Url != in && in != "postgres://" {
			t.Errorf("of a file: %s became %v, %v", in, e, err)
		}
	}
}
