package spec

import (
	"strings"
	"testing"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/telemetry"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

const minimal = `version: 1
name: shop
source: postgres://repl@db1/shop
target: postgres://loader@pg1/shop
tables: ["*"]
`

func TestParse_MinimalHasTheDefaults(t *testing.T) {
	s, err := Parse("p.yaml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	if s.Mode != controlv1.Mode_MODE_FULL_LOAD_AND_CDC || s.ChunkBytes != DefaultChunkBytes || s.Verify != "checksum" || !s.Schema ||
		s.Source.Connector != "postgres" || s.Source.Role != connectorv1.Role_ROLE_SOURCE || s.WhenNotEmpty != "fail" {
		t.Fatalf("defaults: %+v", s)
	}
}

func TestParse_RefusesWhatItDoesNotKnow(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":     {minimal + "tabels: 1\n", "tabels"},
		"nested unknown":  {strings.Replace(minimal, "tables: [\"*\"]", "tables: {inclde: [a]}", 1), "inclde"},
		"bad unit":        {minimal + "load: {chunk: {target: 5 apples}}\n", "load.chunk.target"},
		"bad word":        {minimal + "mode: sometimes\n", "mode"},
		"password in url": {strings.Replace(minimal, "repl@", "repl:hunter2@", 1), "password"},
		"awkward in url":  {strings.Replace(minimal, "repl@", "repl:p@ss/hunter2?@", 1), "percent-encoded"},
		"excerpt of file": {strings.Replace(minimal, "repl@", "'repl:p@ss/hunter2?@", 1) + "tabels: 1\n", ""},
		"a key's secret":  {strings.Replace(minimal, "db1/shop", "db1/shop?sslpassword=hunter2", 1), "PGSSLPASSWORD"},
		"plain secret":    {strings.Replace(minimal, "source: postgres://repl@db1/shop", "source: {url: postgres://a@b/c, password: hunter2}", 1), "reference"},
		"scheme":          {strings.Replace(minimal, "postgres://repl", "db9://repl", 1), "db9"},
	} {
		_, err := Parse("p.yaml", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || diag.Find(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
}

func TestParse_ListsAllProblemsAtOnce(t *testing.T) {
	_, err := Parse("p.yaml", []byte("version: 2\nname: 'a b'\nmode: x\nsource: postgres://a@b/c\ntarget: postgres://a@b/d\n"))
	for _, want := range []string{"version", "name", "mode"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("%s is missing in: %v", want, err)
		}
	}
}

func TestRedact_HidesPasswords(t *testing.T) {
	for _, u := range []string{"postgres://u:hunter2@h/d", "postgres://u@h/d?password=hunter2", "x://u:hunter2@"} {
		if strings.Contains(telemetry.Redact(u), "hunter2") {
			t.Errorf("%s", telemetry.Redact(u))
		}
	}
}

func TestFields_AreAllExplained(t *testing.T) {
	if len(Fields()) < 20 {
		t.Fatalf("fields: %v", Fields())
	}
	for _, f := range Fields() {
		if text, ok := Explain(f); !ok || len(text) < 10 {
			t.Errorf("%s has no explanation", f)
		}
	}
}
