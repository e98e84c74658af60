package command

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/droverdb/drover/ctl/spec"
	"github.com/droverdb/drover/internal/diag"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// A copy that was stopped rests: its state lies under --data, and nobody answers for it.

// rests reports whether a pipeline is such a copy.
func (e *env) rests(ctx context.Context, pipeline string) bool {
	if e.coordinator != "" || !slices.Contains(e.resting(nil), pipeline) {
		return false
	}
	client, done, err := e.dial(ctx, pipeline)
	if err != nil {
		return true
	}
	defer done()
	_, err = client.Get(ctx, &controlv1.GetRequest{Pipeline: pipeline})
	d := diag.Find(e.remote(err))
	return d != nil && d.Code.ID == diag.NoPipeline.ID // another coordinator has answered
}

// resting are the copies whose state lies here, without those that are known to run.
func (e *env) resting(running []string) (names []string) {
	found, _ := filepath.Glob(filepath.Join(e.state, "copy", "*", "etcd"))
	for _, f := range found {
		name := filepath.Base(filepath.Dir(f))
		if info, err := os.Stat(f); err == nil && info.IsDir() && spec.CheckName("", name) == nil && !slices.Contains(running, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// notRunning is the answer for copies that rest.
func (e *env) notRunning(names ...string) error {
	fix := []string{"The same drover copy again goes on where it stopped."}
	for _, n := range names {
		fix = append(fix, "drover delete "+n+"  # ends it for good: removes its slot, publication and tokens")
	}
	return diag.NoCoord.New(e.state, nil, "not running: %s; until it is deleted, the slot of a copy that follows keeps the source's log", strings.Join(names, ", ")).
		WithFix(fix...)
}

// here is the flag that other commands need to find what this one found.
func (e *env) here() string {
	if e.coordinator != "" || e.state == defaultData() {
		return ""
	}
	return " --data " + quoted(e.state)
}

var deletion = regexp.MustCompile("drover delete [a-z0-9][a-z0-9_-]*")

// placed makes the commands in fixes work as they are printed.
func (e *env) placed(fixes []string) (out []string) {
	for _, f := range fixes {
		if !strings.Contains(f, "--data") {
			f = deletion.ReplaceAllStringFunc(f, func(s string) string { return s + e.here() })
		}
		out = append(out, f)
	}
	return out
}
