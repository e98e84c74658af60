package imports

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// clock are the functions by which a package would know the time or draw lots: the brain is told both, or it could
// not be tested in every order of events.
var clock = map[string][]string{
	"time":         {"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"},
	"math/rand":    nil,
	"math/rand/v2": nil,
	"crypto/rand":  nil,
}

// readsClock returns the calls in a file that the rule forbids; nil names stand for the whole package.
func readsClock(f *ast.File) (found []string) {
	names := map[string]string{}
	for _, i := range f.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		name := filepath.Base(strings.TrimSuffix(path, "/v2"))
		if i.Name != nil {
			name = i.Name.Name
		}
		if _, watched := clock[path]; watched {
			names[name] = path
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && names[x.Name] != "" {
			if forbidden := clock[names[x.Name]]; forbidden == nil || slices.Contains(forbidden, s.Sel.Name) {
				found = append(found, x.Name+"."+s.Sel.Name)
			}
		}
		return true
	})
	return found
}

func TestPure_NeitherClockNorDice(t *testing.T) {
	files := 0
	for _, folder := range pure {
		all, err := filepath.Glob(filepath.Join("..", "..", folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range all {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, src, 0)
			if err != nil {
				t.Fatal(err)
			}
			files++
			if found := readsClock(f); len(found) > 0 {
				t.Errorf("%s uses %v: job, plan and schedule are told the time", path, found)
			}
		}
	}
	if files < len(pure) {
		t.Errorf("only %d files seen", files)
	}
}

func TestReadsClock_Bites(t *testing.T) {
	for src, want := range map[string]int{
		`package p; import "time"; var d time.Duration = time.Second`:       0,
		`package p; import "time"; var n = time.Now()`:                      1,
		`package p; import t "time"; func f() { <-t.After(1); t.Sleep(1) }`: 2,
		`package p; import "math/rand/v2"; var n = rand.N(3)`:               1,
		`package p; type x struct{ Now int }; var time x; var n = time.Now`: 0,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "p.go", src, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := readsClock(f); len(got) != want {
			t.Errorf("%s: %v, want %d", src, got, want)
		}
	}
}
