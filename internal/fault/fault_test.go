package fault

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// helperEnv makes this test binary pass a point three times and say so after each.
const helperEnv = "DROVER_FAULT_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) == "" {
		os.Exit(m.Run())
	}
	for n := range 3 {
		fmt.Println(n+1, Point("test.here"))
	}
}

// helper prepares a run of this binary with the given faults.
func helper(spec string) (*exec.Cmd, *strings.Builder) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"=1", EnvVar+"="+spec)
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

func TestPoint_KillEndsTheProcessAtThatPass(t *testing.T) {
	cmd, out := helper("test.here=kill@2")
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("ended with %v", err)
	}
	if got := out.String(); !strings.HasPrefix(got, "1 <nil>\n") || strings.Contains(got, "\n2 ") {
		t.Errorf("said %q", got)
	}
}

func TestPoint_ErrorIsReturnedAtEveryPass(t *testing.T) {
	cmd, out := helper("test.here=error")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), ErrInjected.Error()); n != 3 {
		t.Errorf("%d errors, want 3: %s", n, out)
	}
}

func TestPoint_PauseWaitsForCont(t *testing.T) {
	cmd, out := helper("test.here=pause@1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("not stopped: %v %v", status, err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "3 <nil>") {
		t.Errorf("said %q", out)
	}
}

func TestPoint_FiresOnceInAllProcesses(t *testing.T) {
	dir := t.TempDir()
	for run, want := range []int{1, 0} {
		cmd, out := helper("test.here=error")
		cmd.Env = append(cmd.Env, OnceVar+"="+dir)
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), ErrInjected.Error()); n != want {
			t.Errorf("run %d: %d errors, want %d: %s", run, n, want, out)
		}
	}
	cmd, out := helper("test.here=error")
	cmd.Env = append(cmd.Env, OnceVar+"="+dir+"/missing")
	if err := cmd.Run(); err == nil {
		t.Errorf("a directory that does not exist is accepted: %s", out)
	}
}

func TestPoint_SleepWaits(t *testing.T) {
	t.Cleanup(func() { _ = Arm("") })
	if err := Arm("test.here=sleep:30ms@1"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := Point("test.here"); err != nil || time.Since(begin) < 30*time.Millisecond {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
}

func TestPoint_FiresFromTheNthPassOn(t *testing.T) {
	t.Cleanup(func() { _ = Arm("") })
	if err := Arm("test.here=error@3+,test.there=error@2"); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 5; n++ {
		if fired := Point("test.here") != nil; fired != (n >= 3) {
			t.Errorf("pass %d of @3+: fired is %v", n, fired)
		}
		if fired := Point("test.there") != nil; fired != (n == 2) {
			t.Errorf("pass %d of @2: fired is %v", n, fired)
		}
	}
}

func TestInit_AMistypedFaultStopsTheProcess(t *testing.T) {
	cmd, out := helper("no.such-point=kill")
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(out.String(), "no such point") {
		t.Errorf("ended with %v, said %q", err, out)
	}
}

func TestArm_RefusesWhatItDoesNotUnderstand(t *testing.T) {
	t.Cleanup(func() { _ = Arm("") })
	for _, spec := range []string{"x", "=kill", "test.a=", "test.a=die", "test.a=kill@0", "test.a=kill@x", "test.a=kill@+", "test.a=kill@2++", "test.a=sleep",
		"test.a=sleep:x", "test.a=sleep:-1s", "test.a=kill:1s", "test.a=kill,", "typo=kill"} {
		if err := Arm(spec); err == nil {
			t.Errorf("%q: no error", spec)
		}
	}
	if err := Arm("test.a=error, test.b=sleep:1ms@7"); err != nil {
		t.Error(err)
	}
}

func BenchmarkPoint_Unarmed(b *testing.B) {
	for b.Loop() {
		_ = Point("test.here")
	}
}
