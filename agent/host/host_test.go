package host_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/droverdb/drover/agent/agenttest"
	"github.com/droverdb/drover/agent/host"
	"github.com/droverdb/drover/agent/secret"
	"github.com/droverdb/drover/agent/snapshot"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	"github.com/droverdb/drover/plugins/sdk/arena"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const source, sink = connectorv1.Role_ROLE_SOURCE, connectorv1.Role_ROLE_SINK

// hostVar makes the test binary a host that waits to be killed.
const hostVar = "DROVER_TEST_HOST"

func TestMain(m *testing.M) {
	agenttest.Main()
	if os.Getenv(hostVar) != "" {
		h := host.New(host.Config{BuiltIn: []string{agenttest.Name}})
		c, err := h.Open(context.Background(), agenttest.Endpoint(source, "p"))
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(strconv.Itoa(c.Pid()) + "\n")
		select {}
	}
	// The thread that starts connectors lives as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/droverdb/drover/plugins/sdk.init.func1.1"))
}

func newHost(t testing.TB) *host.Host {
	h := host.New(host.Config{BuiltIn: []string{agenttest.Name}})
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func open(t testing.TB, h *host.Host, ep *fleetv1.Endpoint) *host.Handle {
	t.Helper()
	c, err := h.Open(t.Context(), ep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func code(err error) string {
	if e := diag.Find(err); e != nil {
		return e.Code.ID
	}
	return ""
}

func TestOpen_SharesOneProcessPerEndpointAndPassesTheSecret(t *testing.T) {
	h := newHost(t)
	ep := agenttest.Endpoint(source, "p")
	ep.Secret = secret.Local("s3cret")
	one, two := open(t, h, ep), open(t, h, ep)
	if one.Pid() != two.Pid() || one.Opened.Identity != "s3cret" {
		t.Fatal("not one process, or the secret did not arrive")
	}
	if other := open(t, h, agenttest.Endpoint(source, "q")); other.Pid() == one.Pid() {
		t.Fatal("two pipelines share a process")
	}
}

// A pipeline that is deleted leaves no process behind that is kept for later, and no other one loses its own.
func TestReleased_EndsTheProcessAtOnce(t *testing.T) {
	h := newHost(t)
	ep := agenttest.Endpoint(source, "p")
	c, other := open(t, h, ep), open(t, h, agenttest.Endpoint(source, "q"))
	if err := errors.Join(c.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	h.Released(ep)
	select {
	case <-c.Done():
	default:
		t.Error("the process still runs")
	}
	if again := open(t, h, agenttest.Endpoint(source, "q")); again.Pid() != other.Pid() {
		t.Error("another pipeline's process was ended")
	}
}

func TestOpen_NamesWhatIsMissing(t *testing.T) {
	h := newHost(t)
	ep := agenttest.Endpoint(source, "p")
	ep.Connector = "nosuch"
	if _, err := h.Open(t.Context(), ep); code(err) != diag.NoConnector.ID {
		t.Fatal(err)
	}
	ep = agenttest.Endpoint(source, "p")
	ep.Secret = "env:DROVER_NO_SUCH_VARIABLE"
	if _, err := h.Open(t.Context(), ep); code(err) != diag.SecretAbsent.ID {
		t.Fatal(err)
	}
}

func TestEnvironment_IsNarrow(t *testing.T) {
	t.Setenv("DROVER_TEST_PRIVATE", "x")
	t.Setenv("PGSSLROOTCERT", "/ca.pem")
	c := open(t, newHost(t), agenttest.Endpoint(source, "p"))
	a, err := c.Check(t.Context(), &connectorv1.CheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	env := strings.Split(a.Problems[0].Object, "\n")
	if slices.Contains(env, "DROVER_TEST_PRIVATE=x") || !slices.Contains(env, "PGSSLROOTCERT=/ca.pem") {
		t.Fatalf("environment: %q", env)
	}
}

func TestErrors_KeepCodePlaceAndFix(t *testing.T) {
	c := open(t, newHost(t), agenttest.Endpoint(source, "p", "fail=1"))
	_, err := c.Check(t.Context(), &connectorv1.CheckRequest{})
	e := diag.Find(err)
	if e == nil || e.Code.ID != diag.WalLevel.ID || e.Where == "" || len(e.Fix()) != 2 || !strings.Contains(e.Why, "seen in a test: cause") {
		t.Fatalf("%#v", e)
	}
	if _, err := c.Recover(t.Context(), &connectorv1.RecoverRequest{}); code(err) != diag.Internal.ID {
		t.Fatalf("a source answered Recover: %v", err)
	}
}

func load(chunks int) *fleetv1.LoadTask {
	l := &fleetv1.LoadTask{}
	for i := range chunks {
		l.Chunks = append(l.Chunks, &rowv1.Chunk{Id: sdk.ChunkID(1, uint32(i))})
	}
	return l
}

func TestFrames_RoundTripWithSums(t *testing.T) {
	h := newHost(t)
	from, to := open(t, h, agenttest.Endpoint(source, "p")), open(t, h, agenttest.Endpoint(sink, "p"))
	r, err := snapshot.Run(t.Context(), snapshot.Task{Pipeline: "p", Work: load(3), Budget: 256 << 10}, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Results) != 3 || r.Results[2].Rows != 20 || r.Results[2].Bytes != 20*64<<10 {
		t.Fatalf("%v", r)
	}
}

// watched counts the payload bytes that pass in frames.
type watched struct {
	snapshot.Reader
	bytes int
}

func (w *watched) ReadChunks(ctx context.Context, req *connectorv1.ReadChunksRequest, emit func(*sdk.Frame) error) error {
	return w.Reader.ReadChunks(ctx, req, func(f *sdk.Frame) error {
		w.bytes += f.Payload.Len()
		return emit(f)
	})
}

// The sink compares the digest of what it finds in shared memory with what the source put there.
func TestFrames_PassThroughSharedMemory(t *testing.T) {
	h := newHost(t)
	from, to := open(t, h, agenttest.Endpoint(source, "p", "frames=50")), open(t, h, agenttest.Endpoint(sink, "p"))
	shared, err := arena.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	var moved int64
	for range 2 { // a second load finds all slots free again
		w := &watched{Reader: from}
		tally := &snapshot.Tally{}
		r, err := snapshot.Run(t.Context(), snapshot.Task{Pipeline: "p", Work: load(2), Arena: shared.Path(), Used: shared.Used, Tally: tally}, w, to)
		if err != nil {
			t.Fatal(err)
		}
		moved += tally.Bytes()
		if w.bytes != 0 || r.Results[1].Rows != 50 {
			t.Errorf("%d bytes passed in frames, %v", w.bytes, r)
		}
	}
	if moved != 2*2*50*64<<10 {
		t.Errorf("%d bytes were counted", moved)
	}
	_, err = snapshot.Run(t.Context(), snapshot.Task{Pipeline: "p", Work: load(1), Arena: "/nowhere"}, from, to)
	if code(err) != diag.NoSharedMemory.ID {
		t.Errorf("memory that cannot be opened: %v", err)
	}
}

func TestSinkFailure_IsWhatTheLoadReports(t *testing.T) {
	h := newHost(t)
	from, to := open(t, h, agenttest.Endpoint(source, "p", "frames=2000")), open(t, h, agenttest.Endpoint(sink, "p", "fail=1"))
	_, err := snapshot.Run(t.Context(), snapshot.Task{Pipeline: "p", Work: load(1)}, from, to)
	if code(err) != diag.WalLevel.ID {
		t.Fatal(err)
	}
}

func TestDeath_IsReportedAndTheNextOpenStartsAnew(t *testing.T) {
	h := newHost(t)
	ep := agenttest.Endpoint(source, "p", "die=1")
	c := open(t, h, ep)
	_, err := snapshot.Run(t.Context(), snapshot.Task{Pipeline: "p", Work: load(1)}, c, open(t, h, agenttest.Endpoint(sink, "p")))
	if code(err) != diag.ConnectorDied.ID {
		t.Fatal(err)
	}
	<-c.Done()
	again := open(t, h, ep)
	if again.Pid() == c.Pid() {
		t.Fatal("no new process")
	}
	if err := syscall.Kill(again.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-again.Done()
	if _, err := again.Check(t.Context(), &connectorv1.CheckRequest{}); code(err) != diag.ConnectorDied.ID {
		t.Fatal(err)
	}
	if third := open(t, h, ep); third.Pid() == again.Pid() {
		t.Fatal("no new process")
	}
}

func TestClose_EndsAStoppedConnector(t *testing.T) {
	h := host.New(host.Config{BuiltIn: []string{agenttest.Name}})
	c, err := h.Open(t.Context(), agenttest.Endpoint(source, "p"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(c.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 15*time.Second || gone(c.Pid()) != nil {
		t.Fatalf("closing took %s", took)
	}
}

// gone waits for a process to end.
func gone(pid int) error {
	for range 200 {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(b), ") Z ") {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("it still runs")
}

func TestKilledHost_LeavesNoConnector(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), hostVar+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 32)
	n, err := out.Read(line)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := gone(pid); err != nil {
		t.Fatal(err)
	}
}

func TestStream_CarriesAcksBothWays(t *testing.T) {
	c := open(t, newHost(t), agenttest.Endpoint(source, "p"))
	ctx, cancel := context.WithCancel(t.Context())
	acks := make(chan []byte, 1)
	var seen []string
	err := c.Stream(ctx, &connectorv1.StreamRequest_Start{From: []byte("a")}, acks, func(f *sdk.Frame) error {
		seen = append(seen, string(f.Header.GetIdle().GetPosition()))
		if len(seen) == 3 {
			cancel()
			return nil
		}
		acks <- []byte(strings.Repeat("b", len(seen)))
		return nil
	})
	if !errors.Is(err, context.Canceled) || !slices.Equal(seen, []string{"a", "b", "bb"}) {
		t.Fatal(err, seen)
	}
}

func TestApply_FailsAtOnceEvenIfNextBlocks(t *testing.T) {
	h := newHost(t)
	c := open(t, h, agenttest.Endpoint(sink, "p", "fail=1"))
	release := make(chan struct{})
	err := c.Apply(t.Context(), func() (*sdk.Frame, error) { <-release; return nil, io.EOF }, nil)
	close(release)
	if code(err) != diag.WalLevel.ID {
		t.Fatal(err)
	}
	ok := open(t, h, agenttest.Endpoint(sink, "p"))
	want := errors.New("next failed")
	if err := ok.Apply(t.Context(), func() (*sdk.Frame, error) { return nil, want }, nil); !errors.Is(err, want) {
		t.Fatal(err)
	}
}

// BenchmarkHop moves 1 MiB frames over both hops: source process → agent → sink process. cpu-s/GB is that of all three.
func BenchmarkHop(b *testing.B) {
	h := newHost(b)
	from := open(b, h, agenttest.Endpoint(source, "p", "sums=no", "size=1048576", "frames=512"))
	to := open(b, h, agenttest.Endpoint(sink, "p", "sums=no"))
	pids := []int{os.Getpid(), from.Pid(), to.Pid()}
	b.SetBytes(512 << 20)
	before := cpu(b, pids)
	for b.Loop() {
		if _, err := snapshot.Run(b.Context(), snapshot.Task{Pipeline: "p", Work: load(1)}, from, to); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpu(b, pids)-before)/(float64(b.N)*0.536870912), "cpu-s/GB")
}

// cpu is what processes have used, in seconds.
func cpu(b *testing.B, pids []int) float64 {
	total := 0
	for _, pid := range pids {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			b.Fatal(err)
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		total += user + system
	}
	return float64(total) / 100
}
