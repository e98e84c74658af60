package scratch

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The test binary, started again with this variable, makes a folder, names it and waits to be killed.
const childVar = "SCRATCH_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVar) != "" {
		f, err := New("test")
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(f.Path + "\n")
		select {}
	}
	os.Exit(m.Run())
}

func TestSweep_RemovesWhatAKilledProcessLeft(t *testing.T) {
	tmp := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"=1", "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimSpace(line)
	foreign := filepath.Join(tmp, prefix+"foreign") // looks alike, was not made here
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(2 * staleAfter)
	sweep(tmp, later)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the folder of a living process was removed: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	sweep(tmp, time.Now())
	if _, err := os.Stat(path); err != nil {
		t.Errorf("a folder that may be about to be locked was removed: %v", err)
	}
	sweep(tmp, later)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the folder of a killed process stayed: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("somebody else's folder was removed: %v", err)
	}
}

func TestFolder_CloseRemovesIt(t *testing.T) {
	f, err := New("test")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.Path, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.Path); !os.IsNotExist(err) {
		t.Errorf("it stayed: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}
