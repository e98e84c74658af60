package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/droverdb/drover/ctl/command"
)

// Every environment variable of ours that shipped code reads is in the reference.
func TestEnvironment_NamesEveryVariable(t *testing.T) {
	known := ""
	for _, v := range command.Variables() {
		known += v.Name + " "
	}
	// These pass between our own processes.
	const internal = "DROVER_CONNECTOR DROVER_CONNECTOR_PARENT"
	name := regexp.MustCompile(`"(DROVER_[A-Z_]+)"`)
	found := 0
	for _, dir := range []string{"ctl", "agent", "coordinator", "plugins", "internal"} {
		err := filepath.WalkDir(filepath.Join("../..", dir), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range name.FindAllStringSubmatch(string(text), -1) {
				found++
				if !strings.Contains(known, m[1]) && !strings.Contains(internal, m[1]) {
					t.Errorf("%s reads %s, which the reference does not name", path, m[1])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 5 {
		t.Errorf("only %d variables found: the search is broken", found)
	}
}

func TestCommands_LeadWithAnExample(t *testing.T) {
	for _, c := range command.Tree().Commands() {
		if c.Hidden {
			continue
		}
		for _, x := range append(c.Commands(), c) {
			if x.Runnable() && !x.HasSubCommands() && !x.Hidden && x.Example == "" && x.Name() != "help" && !strings.Contains(x.CommandPath(), "completion") {
				t.Errorf("%s has no example", x.CommandPath())
			}
		}
	}
}
