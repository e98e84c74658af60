package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func write(t *testing.T, dir, name, body string) {
	t.Helper()
	src := "package p\n\nimport \"" + importPath + "\"\n\nfunc f(s string) {\n" + body + "\n}\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestScan_FindsEveryLiteralOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.go", `fault.Point("b.two"); fault.Point("a.one")`)
	write(t, dir, "b.go", `fault.Point("a.one"); other.Point("no")`)
	write(t, dir, "c_test.go", `fault.Point("test.only")`)
	got, err := scan(dir)
	if err != nil || !slices.Equal(got, []string{"a.one", "b.two"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestScan_RefusesAComputedName(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.go", `fault.Point(s)`)
	if _, err := scan(dir); err == nil {
		t.Error("no error")
	}
}
