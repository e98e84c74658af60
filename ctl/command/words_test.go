package command

import (
	"context"
	"strings"
	"testing"
	"time"
)

// run executes a command line as Main does, without a process of its own.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out, err strings.Builder
	e := &env{out: &out, err: &err, data: &out}
	code = e.execute(ctx, args)
	return code, out.String(), err.String()
}

// Whoever types something wrong reads what was meant, or what there is.
func TestWords_WrongOnesAreAnsweredWithRightOnes(t *testing.T) {
	for line, want := range map[string]string{
		"cpoy":                                   `it has no verb "cpoy"; did you mean copy?`,
		"lsit -o json":                           "did you mean list?",
		"cpoy SRC DST --follow":                  "did you mean copy?",
		"frobnicate":                             `it has no verb "frobnicate"` + "\n",
		"coordinator rn":                         "did you mean run?",
		"agents rum":                             "did you mean run?",
		"copy SRC DST --folow":                   "unknown flag: --folow; did you mean --follow?",
		"status shop --wtach":                    "did you mean --watch?",
		"list -x":                                "unknown shorthand flag: 'x' in -x",
		"list -o jsno":                           `"jsno" is none of table, wide, json, yaml, jsonl, name; did you mean json?`,
		"list -o xml":                            "is none of table, wide, json, yaml, jsonl, name",
		"list --progress plian":                  "did you mean plain?",
		"status shop -w -o name":                 "there are table, wide, json, yaml, jsonl",
		"help cpoy":                              "did you mean copy?",
		"completion bsh":                         "did you mean bash?",
		"list --coordinator here":                `"here" is neither host:port nor unix:PATH`,
		"copy":                                   "missing: SRC, DST",
		"copy postgres://a/b":                    "missing: DST",
		"copy postgres://a/b postgres://c/d e f": "there is no place for e f",
		"list shop":                              "there is no place for shop",
		"tables":                                 "missing: PIPELINE",
		"apply":                                  "missing: -f FILE",
		"explain":                                "missing: CODE|FIELD",
		"explain E301":                           "did you mean E3001?",
		"explain load.parralel":                  "did you mean load.parallel?",
		"copy a postgres://c/d":                  "it is not a URL such as postgres://",
		"copy host=a postgres://c/d":             "it is a key=value string; write it as a URL",
		"copy postgres://a:b c@d/e postgres://x": "quote an address for the shell",
		"copy postgres://a:b@c@d/e@f postgres://x":              "percent-encode",
		"copy postgres://a/b?sslmod=disable postgres://x":       "parameter 1 behind the ? is none of application_name",
		"doctor postgres://a/b?sslpassword=secret postgres://x": "set PGSSLPASSWORD where the agent runs",
		"copy postgres://a:secret/b postgres://x":               "it cannot be read as a URL",
		"copy postgres://a:99999/b postgres://x":                "its port is not a number",
		"copy postgres://a postgres://b --name A":               "lower-case letters",
		"copy postgres://a postgres://b --name ../..":           "lower-case letters",
		"copy postgres://a postgres://b --verify chksum":        "did you mean checksum?",
		"copy postgres://a postgres://b --lane arow":            "did you mean arrow?",
		"copy postgres://a postgres://b --parallel -1":          "--parallel",
		"copy postgres://a postgres://b --parallel 300":         "300 is not 0 to 256",
		"copy postgres://a postgres://b --parallel many":        `invalid argument "many"`,
		"doctor postgres://a postgres://b --sql trget":          "did you mean target?",
	} {
		code, _, stderr := run(t, append(strings.Fields(line), "--data", t.TempDir())...)
		if code != exitUsage || !strings.Contains(stderr, want) || !strings.Contains(stderr, "error E1001") || !strings.Contains(stderr, "  fix ") {
			t.Errorf("drover %s: exit code %d, no %q in:\n%s", line, code, want, stderr)
		}
	}
}

func TestWords_ANounAloneHelps(t *testing.T) {
	for _, line := range []string{"", "agent", "agents", "coordinator", "--help", "copy --help", "help copy", "help", "help agent run", "completion"} {
		if code, stdout, stderr := run(t, strings.Fields(line)...); code != exitOK || !strings.Contains(stdout, "Usage:") || stderr != "" {
			t.Errorf("drover %s: %d %s%s", line, code, stdout, stderr)
		}
	}
}

func TestNearest_IsCarefulWithShortWords(t *testing.T) {
	names := []string{"up", "copy", "checksum"}
	for word, want := range map[string]string{"pu": "up", "x": "", "zz": "", "cop": "copy", "yocp": "", "chekcsum": "checksum", "checksumm": "checksum", "": ""} {
		if got := nearest(word, names); got != want {
			t.Errorf("%q: %q, not %q", word, got, want)
		}
	}
}

func TestArguments_AreReadFromTheUsage(t *testing.T) {
	for use, want := range map[string]int{"status [PIPELINE]": 1, "copy SRC DST": 2, "apply -f FILE": 0, "list": 0} {
		if _, most := arguments(use); most != want {
			t.Errorf("%s: %d", use, most)
		}
	}
	if wanted, _ := arguments("status [PIPELINE]"); len(wanted) != 0 {
		t.Error(wanted)
	}
}
