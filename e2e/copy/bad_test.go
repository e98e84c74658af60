package copy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// Every bad input gives its code, object, reason and fix, and the documented exit code.
func TestBadInput_IsAnsweredWithCodeAndFix(t *testing.T) {
	source, target := pair(t)
	nowhere := "postgres://postgres@127.0.0.1:1/x"
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nnmae: shop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{

		"unreachable source": {[]string{"copy", nowhere, target}, 3, "E2001"},
		"unreachable target": {[]string{"copy", source, nowhere}, 3, "E2001"},
		"no such database":   {[]string{"copy", strings.Replace(source, "/t", "/no_t", 1), target}, 3, "E2003"},
		"unknown scheme":     {[]string{"copy", "db9://x/y", target}, 2, "E6002"},
		"unknown flag":       {[]string{"copy", source, target, "--folow"}, 2, "E1001"},
		"unknown verb":       {[]string{"cpoy"}, 2, "E1001"},
		"pattern":            {[]string{"copy", source, target, "--tables", "nothing.*"}, 2, "where  --tables nothing.*"},
		"three parts":        {[]string{"copy", source, target, "--tables", "public.A.b"}, 2, "where  --tables public.A.b"},
		"excluded":           {[]string{"copy", source, target, "--exclude", "public.A.b"}, 2, "where  --exclude public.A.b"},
		"the same address":   {[]string{"copy", source, source}, 2, "E1006"},
		"malformed file":     {[]string{"apply", "-f", file}, 2, "nmae"},
		"no coordinator":     {[]string{"list"}, 3, "E1005"},
		"no confirmation":    {[]string{"delete", "shop"}, 2, "E1003"},
		"unknown code":       {[]string{"explain", "E3O01"}, 2, "did you mean"},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.Run(t, append(c.args, "--data", t.TempDir(), "-o", "json")...)
			requireErrors(t, r)
			if r.Code != c.code || !strings.Contains(r.Stderr, c.want) || !strings.Contains(r.Stderr, "  fix ") ||
				c.args[0] != "apply" && strings.Contains(r.Stderr, "E1002") {
				t.Errorf("want exit code %d and %q: %s", c.code, c.want, r)
			}
		})
	}
}

// requireErrors: stdout is one JSON document, and tells the error that stderr tells.
func requireErrors(t *testing.T, r harness.Result) {
	t.Helper()
	var answer struct {
		Version int
		Errors  []struct {
			Code, Where, Why string
			Fix              []string
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &answer); err != nil || answer.Version != 1 || len(answer.Errors) == 0 {
		t.Errorf("no document with errors: %v: %s", err, r)
		return
	}
	if e := answer.Errors[0]; e.Where+e.Why == "" || len(e.Fix) == 0 || !strings.Contains(r.Stderr, e.Code) || !strings.Contains(r.Stderr, e.Fix[0]) {
		t.Errorf("%+v is not what people read: %s", e, r)
	}
}

// seconds are what a copy's JSON says of its time: of all, and of its phases together.
func seconds(t *testing.T, r harness.Result) (all, phases float64) {
	t.Helper()
	var answer struct {
		Seconds float64
		Phases  []struct{ Seconds float64 }
		Errors  []any
	}
	if err := json.Unmarshal([]byte(r.Stdout), &answer); err != nil || answer.Errors == nil || len(answer.Errors) > 0 {
		t.Fatalf("%v: %s", err, r)
	}
	for _, p := range answer.Phases {
		phases += p.Seconds
	}
	return answer.Seconds, phases
}

func TestBadInput_IsForgivenOnceItIsMended(t *testing.T) {
	source, target := pair(t)
	data := t.TempDir()
	dev.MustExec(t, target, "CREATE TABLE parent (id bigint GENERATED ALWAYS AS IDENTITY, name text); INSERT INTO parent (name) VALUES ('mine')")
	r := harness.Run(t, "copy", source, target, "--data", data, "-o", "json")
	if r.Code != 4 {
		t.Fatalf("a target with rows: %s", r)
	}
	requireErrors(t, r)
	dev.MustExec(t, target, "DROP TABLE parent", "SELECT pg_sleep(3)")
	r = harness.MustRun(t, "copy", source, target, "--data", data, "-o", "json")
	// The time since the command that failed is no part of the summary.
	if all, phases := seconds(t, r); all <= 0 || phases <= 0 || all > r.Took.Seconds()+0.1 || phases > all+0.1 {
		t.Errorf("%.2f s in all, %.2f s of phases, and the command took %v: %s", all, phases, r.Took, r)
	}
	harness.RequireEqual(t, source, target, harness.CompareOptions{})
}

func TestDoctor_NamesEveryProblemWithItsFix(t *testing.T) {
	s := dev.Postgres(t, "wal_level=replica")
	source := s.URL("postgres")
	dev.MustExec(t, source, "CREATE TABLE keyless (a int)")
	r := harness.Run(t, "doctor", source, dev.TargetDatabase(t))
	for _, want := range []string{"E3001", "ALTER SYSTEM SET wal_level", "E3006", "REPLICA IDENTITY FULL"} {
		if r.Code != 4 || !strings.Contains(r.Stdout, want) {
			t.Errorf("%s is missing, or exit code is not 4: %s", want, r)
		}
	}
	const nowhere = "postgres://postgres@127.0.0.1:1/x"
	if r := harness.Run(t, "doctor", nowhere, nowhere); r.Code != 4 || !strings.HasPrefix(r.Stdout, nowhere+" → "+nowhere+" ") {
		t.Errorf("it does not say which databases it was asked about: %s", r)
	}
	if r := harness.Run(t, "doctor", source, dev.TargetDatabase(t), "--sql", "source"); r.Code != 4 || !strings.HasPrefix(r.Stdout, "ALTER SYSTEM SET wal_level") {
		t.Errorf("the fixes alone: %s", r)
	}
}

// Tables that are not empty are emptied by one statement, which the doctor prints once, and then has nothing to say.
func TestDoctor_PrintsAScriptThatMends(t *testing.T) {
	source, target := pair(t)
	harness.MustRun(t, "copy", source, target, "--data", t.TempDir())
	args := []string{"doctor", source, target, "--tables", "public.parent,public.child,public.part", "--data", t.TempDir()}
	r := harness.Run(t, append(args, "--sql", "target")...)
	if r.Code != 4 || strings.Count(r.Stdout, "TRUNCATE") != 1 || strings.Contains(r.Stdout, "CASCADE") {
		t.Fatal(r)
	}
	if said := harness.Run(t, args...).Stdout; strings.Count(said, "emptied by the statement for") != 1 || strings.Count(said, "--truncate") != 1 {
		t.Errorf("a remark is repeated, or missing: %s", said)
	}
	dev.MustExec(t, target, r.Stdout)
	if r := harness.Run(t, args...); strings.Contains(r.Stdout, "E5001") {
		t.Error(r)
	}
}
