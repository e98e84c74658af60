// Package imports keeps the edges between folders that docs and design promise: who may import whom.
package imports

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/droverdb/drover/"

// pkg is what we need of `go list -json`.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string // direct
	Deps       []string // all, transitively
}

// short is the path within our module, "" for a package that is not ours.
func short(path string) string {
	if rest, ok := strings.CutPrefix(path, module); ok {
		return rest
	}
	return ""
}

// under reports whether a path within our module is one of the folders or below one.
func under(path string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

// drivers speak to databases; only plugins may.
var drivers = []string{"github.com/jackc/pgx", "github.com/jackc/pglogrepl", "github.com/go-mysql-org/go-mysql",
	"github.com/go-sql-driver/mysql", "modernc.org/sqlite", "github.com/mattn/go-sqlite3", "github.com/microsoft/go-mssqldb",
	"github.com/sijms/go-ora", "go.mongodb.org/mongo-driver", "github.com/ClickHouse/clickhouse-go", "github.com/twmb/franz-go",
	"github.com/duckdb", "github.com/snowflakedb", "cloud.google.com/go/bigquery"}

var pure = []string{"coordinator/job", "coordinator/plan", "coordinator/schedule"}

// dialect is "plugins/NAME" for a connector's package, "" for others (the sdk is not a dialect).
func dialect(path string) string {
	parts := strings.Split(path, "/")
	if len(parts) < 2 || parts[0] != "plugins" || parts[1] == "sdk" {
		return ""
	}
	return parts[0] + "/" + parts[1]
}

// check returns what is wrong with one package of ours.
func check(p pkg) []string {
	path := short(p.ImportPath)
	var wrong []string
	add := func(rule, what string) { wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", path, what, rule)) }

	for _, imported := range p.Imports {
		own := short(imported)
		switch {
		case under(path, pure...):
			if own != "" && !under(own, append(pure, "proto/drover/row")...) || own == "" && !standard(imported) {
				add("job, plan and schedule import proto/drover/row and the standard library only", imported)
			}
			if slices.Contains([]string{"net", "net/http", "os", "os/exec", "database/sql"}, imported) {
				add("job, plan and schedule touch nothing outside", imported)
			}
		case own == "":
		case under(path, "proto") && !under(own, "proto"):
			add("proto imports nothing of ours", own)
		case under(path, "plugins/sdk") && !under(own, "plugins/sdk", "proto", "internal"):
			add("plugins/sdk imports proto and internal only", own)
		case dialect(path) != "" && dialect(own) != "" && dialect(own) != dialect(path):
			add("a dialect never imports another", own)
		case dialect(path) != "" && !under(own, dialect(path), "plugins/sdk", "proto", "internal"):
			add("a dialect imports the sdk, and what the sdk stands on, only", own)
		}
		if imported == "database/sql" && under(path, "agent", "plugins/sdk", "coordinator") {
			add("only a dialect speaks SQL", imported) // direct only: common libraries use its types
		}
		if under(own, "deploy", "e2e") && !under(path, "deploy", "e2e") {
			add("what is shipped imports nothing of deploy or e2e", own)
		}
	}
	for _, dep := range p.Deps {
		own := short(dep)
		switch {
		case under(path, "coordinator") && under(own, "agent", "plugins"):
			add("coordinator never imports agent or plugins", own)
		case under(path, "agent") && under(own, "coordinator"):
			add("agent never imports coordinator", own)
		case under(path, "agent", "plugins/sdk", "coordinator") && driver(dep):
			add("only a dialect imports a database driver", dep)
		case under(path, "agent") && dialect(own) != "":
			add("agent reaches a dialect through the sdk only", own)
		}
	}
	if !under(path, "ctl/up") && imports(p, "coordinator") && imports(p, "agent") {
		add("only ctl/up imports both", "coordinator and agent")
	}
	return wrong
}

func imports(p pkg, folder string) bool {
	return slices.ContainsFunc(p.Imports, func(i string) bool { return under(short(i), folder) })
}

func driver(path string) bool {
	return slices.ContainsFunc(drivers, func(d string) bool { return path == d || strings.HasPrefix(path, d+"/") })
}

// standard holds for a path without a dot in its first element, as the go command itself decides.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func TestImports_KeepTheEdges(t *testing.T) {
	// -e: a package that does not build is the build's finding; the edges of the others are still ours.
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Standard,Imports,Deps", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	ours := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if short(p.ImportPath) == "" {
			continue
		}
		ours++
		for _, wrong := range check(p) {
			t.Error(wrong)
		}
	}
	if ours < 5 {
		t.Errorf("only %d packages of ours seen", ours)
	}
}

func TestCheck_BitesAtEveryRule(t *testing.T) {
	for _, c := range []struct {
		path, imported string
		ok             bool
	}{
		{"proto/drover/row/v1", module + "internal/diag", false},
		{"proto/drover/fleet/v1", module + "proto/drover/row/v1", true},
		{"plugins/sdk", module + "proto/drover/row/v1", true},
		{"plugins/sdk", module + "plugins/postgres", false},
		{"plugins/sdk", "github.com/jackc/pgx/v5", false},
		{"plugins/postgres", module + "plugins/sdk/types", true},
		{"plugins/postgres", module + "plugins/postgres/wal", true},
		{"plugins/postgres", "github.com/jackc/pgx/v5", true},
		{"plugins/postgres", module + "plugins/mysql", false},
		{"plugins/postgres", module + "agent", false},
		{"agent/apply", module + "plugins/sdk", true},
		{"agent/apply", module + "plugins/postgres", false},
		{"agent/apply", "github.com/jackc/pgx/v5/pgconn", false},
		{"agent/apply", "database/sql", false},
		{"agent/apply", module + "coordinator/store", false},
		{"coordinator/fleet", module + "agent/session", false},
		{"coordinator/fleet", module + "plugins/sdk", false},
		{"coordinator/fleet", "google.golang.org/grpc", true},
		{"coordinator/schedule", module + "proto/drover/row/v1", true},
		{"coordinator/schedule", module + "proto/drover/fleet/v1", false},
		{"coordinator/schedule", module + "internal/fault", false},
		{"coordinator/schedule", "sort", true},
		{"coordinator/schedule", "net", false},
		{"coordinator/plan", "os", false},
		{"coordinator/job", module + "proto/drover/control/v1", false},
		{"coordinator/plan", module + "coordinator/schedule", true},
		{"coordinator/store", module + "coordinator/fleet", true},
		{"coordinator/store", "github.com/jackc/pgx/v5", false},
		{"proto/drover/row/v1", module + "plugins/sdk", false},
		{"plugins/sdk/keys", module + "agent/host", false},
		{"plugins/sdk/conform", module + "internal/diag", true},
		{"plugins/mysql", module + "plugins/postgres", false},
		{"plugins/mysql", module + "ctl/up", false},
		{"agent/host", module + "deploy/dev", false},
		{"coordinator/schedule", "go.etcd.io/etcd/client/v3", false},
		{"ctl/command", module + "ctl/up", true},
		{"ctl/command", module + "deploy/dev", false},
		{"e2e/harness", module + "deploy/dev", true},
	} {
		p := pkg{ImportPath: module + c.path, Imports: []string{c.imported}, Deps: []string{c.imported}}
		if wrong := check(p); (len(wrong) == 0) != c.ok {
			t.Errorf("%s imports %s: ok want %v, got %q", c.path, c.imported, c.ok, wrong)
		}
	}
	both := []string{module + "agent", module + "coordinator"}
	for path, ok := range map[string]bool{"ctl/up": true, "ctl/command": false} {
		if wrong := check(pkg{ImportPath: module + path, Imports: both, Deps: both}); (len(wrong) == 0) != ok {
			t.Errorf("%s imports both: %q", path, wrong)
		}
	}
}
