package trace_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

const (
	rowMarker    = "Zq7RowMarker3xYk"
	secretMarker = "Wv9SecretMarker5tLp"
)

// commands gathers the command lines of all processes until the returned function is called.
func commands(t *testing.T) (gathered func() []byte) {
	t.Helper()
	var all bytes.Buffer
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, p := range paths {
				line, _ := os.ReadFile(p) // it may have ended
				all.Write(append(line, '\n'))
			}
			select {
			case <-quit:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	stop := sync.OnceFunc(func() { close(quit); wg.Wait() })
	t.Cleanup(stop)
	return func() []byte { stop(); return all.Bytes() }
}

// files is the content of every file below a directory, names included.
func files(t *testing.T, dir string) []byte {
	t.Helper()
	var all bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Type()&os.ModeSocket != 0 {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintln(&all, path)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.Bytes()
}

// Values of rows and passwords show up nowhere: not in spans, metrics, logs, output, errors, the coordinator's state or
// command lines, not even when the target refuses a row in words that hold it.
func TestLeak_NeitherRowsNorSecretsShowUpAnywhere(t *testing.T) {
	source, target := dev.Database(t), dev.Database(t)
	dev.MustExec(t, source, fmt.Sprintf(`CREATE TABLE a (id int PRIMARY KEY, v text, j jsonb);
		INSERT INTO a SELECT i, '%[1]s' || i, jsonb_build_object('k', '%[1]s') FROM generate_series(1, 3000) i;
		CREATE TABLE k (v text COLLATE "C" PRIMARY KEY); INSERT INTO k SELECT '%[1]s' || i FROM generate_series(1, 50) i;
		CREATE TABLE u (v text); ALTER TABLE u REPLICA IDENTITY FULL; INSERT INTO u VALUES ('%[1]s')`, rowMarker))
	r, env := listen(t)
	data := t.TempDir()
	seen := commands(t)
	p := harness.Start(t, harness.Command{Args: []string{"up", "-v", "--data", data},
		Env: append(env, "DROVER_LOG_LEVEL=debug", "OTEL_METRIC_EXPORT_INTERVAL=500", "LEAK_TEST_PASSWORD="+secretMarker)})
	p.WaitForOutput(t, "drover is up", 40*time.Second)
	file := filepath.Join(t.TempDir(), "p.yaml")
	text := fmt.Sprintf("version: 1\nname: leak\nsource: {url: %q, password: env:LEAK_TEST_PASSWORD}\ntarget: {url: %q, password: env:LEAK_TEST_PASSWORD}\n", source, target)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.MustRun(t, "apply", "-f", file, "--data", data)
	show := func(want string) (out string) {
		harness.Eventually(t, 40*time.Second, func() error {
			out = harness.Run(t, "status", "leak", "--data", data).String()
			if !strings.Contains(out, want) {
				return fmt.Errorf("no %q in the status: %s", want, out)
			}
			return nil
		})
		return out
	}
	show("phase=streaming")
	dev.MustExec(t, source, fmt.Sprintf(`UPDATE a SET v = '%[1]s new' WHERE id %% 3 = 0; UPDATE k SET v = v || '%[1]s' WHERE v LIKE '%%7';
		DELETE FROM u; INSERT INTO u VALUES ('%[1]s-2')`, rowMarker))
	harness.RequireRowsEqual(t, source, target)
	if n := dev.MustQuery(t, target, "SELECT count(*) FROM a WHERE v LIKE '"+rowMarker+"%'"); strings.TrimSpace(n) != "3000" {
		t.Fatalf("%s rows with the marker arrived", n)
	}
	// From here on the target refuses rows, in its own words.
	dev.MustExec(t, target, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no %', NEW.v; END $$;
		CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON a FOR EACH ROW EXECUTE FUNCTION refuse(); ALTER TABLE a ENABLE ALWAYS TRIGGER refuse`)
	dev.MustExec(t, source, "INSERT INTO a VALUES (0, '"+rowMarker+"')")
	status := show("E5005")
	status += harness.Run(t, "status", "leak", "--data", data, "-o", "json").String() + harness.Run(t, "logs", "leak", "--data", data).String()
	state := files(t, data)
	res := p.Stop(10 * time.Second)
	r.mu.Lock()
	spans := bytes.Clone(r.raw)
	r.mu.Unlock()
	for where, b := range map[string][]byte{"spans": spans, "state": append(state, files(t, data)...), "output": []byte(res.Stdout + res.Stderr),
		"status and logs": []byte(status), "command lines": seen()} {
		if len(b) == 0 {
			t.Errorf("%s: nothing was gathered", where)
		}
		for _, marker := range []string{rowMarker, secretMarker} {
			if i := bytes.Index(b, []byte(marker)); i >= 0 {
				t.Errorf("%s holds %s: %q", where, marker, b[max(0, i-200):min(len(b), i+100)])
			}
		}
	}
}
