package command

import (
	"encoding/json"
	"strings"
	"testing"
)

// Whoever asks for JSON reads one document with errors from every verb, also when the flag that asks was not reached.
func TestJSON_EveryVerbAnswersOnce(t *testing.T) {
	for line, code := range map[string]int{
		"list -o json": exitUnreachable, "status --json": exitUnreachable, "status shop -ojson": exitUnreachable, "tables shop --output=json": exitUnreachable,
		"logs shop -o json": exitUnreachable, "pause shop -o json": exitUnreachable, "delete shop -o json --yes --confirm shop": exitUnreachable,
		"cpoy -o json": exitUsage, "copy SRC DST --folow -o json": exitUsage, "copy -o json": exitUsage, "copy a postgres://b -o json": exitUsage,
		"doctor a b -o json": exitUsage, "apply -f /nonexistent -o json": exitUsage, "explain nothing -o json": exitUsage, "list -o json -x": exitUsage,
		"explain E3001 -o json": exitOK, "version -o json": exitOK,
	} {
		got, stdout, stderr := run(t, append(strings.Fields(line), "--data", t.TempDir())...)
		var answer struct {
			Version int
			Errors  []struct {
				Code, Where, Why string
				Fix              []string
			}
		}
		err := json.Unmarshal([]byte(stdout), &answer)
		if err != nil || got != code || answer.Version != 1 || answer.Errors == nil || (code == exitOK) != (len(answer.Errors) == 0) {
			t.Errorf("drover %s: exit code %d, %v: %s%s", line, got, err, stdout, stderr)
			continue
		}
		for _, e := range answer.Errors {
			if e.Code == "" || e.Where == "" || e.Why == "" || len(e.Fix) == 0 || !strings.Contains(stderr, "error "+e.Code) {
				t.Errorf("drover %s: %+v\n%s", line, e, stderr)
			}
		}
	}
	if _, stdout, _ := run(t, "list", "--data", t.TempDir()); stdout != "" {
		t.Errorf("people read stderr: %s", stdout)
	}
}
