package agent_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/droverdb/drover/agent"
	"github.com/droverdb/drover/agent/apply"
	"github.com/droverdb/drover/agent/snapshot"
	"github.com/droverdb/drover/agent/transfer"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/tlstest"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func TestTwoAgents_LoadAndStreamOverMutualTLS(t *testing.T) {
	c, address := startCoordinator(t)
	// The unix socket needs no TLS, so only the transfer listener gets it; both ends use one certificate.
	cert := tlstest.New(t).Config(tlstest.Leaf{})
	writer := startAgent(t, agent.Config{Name: "writer", Coordinator: address, NoSource: true, TransferListen: "127.0.0.1:0", TransferTLS: cert})
	if h := c.await(t); h.TransferAddress == "" || h.Source {
		t.Fatalf("%v", h)
	}
	var granted []*fleetv1.Grant
	grant := func(to *fleetv1.Endpoint) []byte {
		granted = append(granted, &fleetv1.Grant{Secret: []byte(fmt.Sprintf("%032d", len(granted))), Pipeline: "p", Sink: to})
		return granted[len(granted)-1].Secret
	}
	plain, failing := grant(sink()), grant(sink("fail=1"))
	c.send(t, &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Grants{Grants: &fleetv1.Grants{All: granted}}})
	startAgent(t, agent.Config{Name: "reader", Coordinator: address, NoSink: true, TransferTLS: cert})
	c.await(t) // the reader dialled last: tasks go to it
	task := func(id uint64, grant []byte) *fleetv1.Task {
		return &fleetv1.Task{Id: id, Epoch: 1, Pipeline: "p", Source: source("frames=40", "size=1048576"), Grant: grant,
			SinkAgent: "writer", SinkAddress: writer.TransferAddress()}
	}
	load := task(1, plain)
	load.Work = &fleetv1.Task_Load{Load: oneChunk()} // 40 MiB: more than the window of credits
	c.task(t, load)
	if r := c.result(t, 1); r.Failure != nil || r.GetLoad().Results[0].Rows != 40 {
		t.Fatalf("%v", r)
	}
	load = task(2, failing)
	load.Work = &fleetv1.Task_Load{Load: oneChunk()}
	c.task(t, load)
	if r := c.result(t, 2); r.Failure.GetCode() != diag.WalLevel.ID || len(r.Failure.Fix) != 2 {
		t.Fatalf("%v", r)
	}
	stream := task(3, plain)
	stream.Work = &fleetv1.Task_Stream{Stream: &fleetv1.StreamTask{InitialPosition: make([]byte, 8)}}
	c.task(t, stream)
	if c.next(t).GetEvent().GetStreamStarted() == nil {
		t.Fatal("the stream does not start")
	}
	c.send(t, &fleetv1.SessionResponse{Kind: &fleetv1.SessionResponse_Cancel{Cancel: &fleetv1.Cancel{Task: 3}}})
	if r := c.result(t, 3); r.GetStream() == nil {
		t.Fatalf("%v", r)
	}
}

// serve runs a sink agent's listener until the test ends.
func serve(t *testing.T, c *tls.Config, open apply.Open) *apply.Server {
	t.Helper()
	s, err := apply.Listen("127.0.0.1:0", c, open)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run() }()
	t.Cleanup(func() { s.Stop(); <-done })
	return s
}

func recoverAt(t *testing.T, address string, c *tls.Config, grant []byte, pipeline string) error {
	t.Helper()
	conn, err := transfer.Dial(address, c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Sink(grant).Recover(t.Context(), &connectorv1.RecoverRequest{Pipeline: pipeline})
	return err
}

// Every way in which certificates do not fit is named, with its own cause and fix.
func TestTransfer_RefusesWrongCertificates(t *testing.T) {
	ours, theirs := tlstest.New(t), tlstest.New(t)
	good := ours.Config(tlstest.Leaf{})
	bare := good.Clone()
	bare.Certificates = nil
	stranger := theirs.Config(tlstest.Leaf{})
	stranger.RootCAs = good.RootCAs
	for _, c := range []struct {
		name           string
		server, client *tls.Config
		why, fix       string
	}{
		{"no client certificate", good, bare, "this one shows none", "--tls-cert"},
		{"client of another CA", good, stranger, "the certificate shown here", "CA of the other end"},
		{"client expired", good, ours.Config(tlstest.Leaf{Expired: true}), "the certificate shown here", "--tls-cert"},
		{"server of another CA", theirs.Config(tlstest.Leaf{}), good, "not signed by the CA given here", "--tls-ca"},
		{"server expired", ours.Config(tlstest.Leaf{Expired: true}), good, "has expired", "Renew"},
		{"server of another name", ours.Config(tlstest.Leaf{Names: []string{"db.example"}}), good, "does not hold the IP address", "subjectAltName"},
		{"server of another address", ours.Config(tlstest.Leaf{Names: []string{"10.1.2.3"}}), good, "for another name", "subjectAltName"},
		{"server in plaintext", nil, good, "plaintext", "--tls-cert"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, c.server, nil)
			e := diag.Find(recoverAt(t, s.Address(), c.client, nil, "p"))
			if e == nil || e.Code.ID != diag.TLSRefused.ID || !strings.Contains(e.Why, c.why) || !strings.Contains(strings.Join(e.Fix(), " "), c.fix) {
				t.Fatalf("%v %v", e, e.Fix())
			}
		})
	}
}

func TestListen_OffThisMachineNeedsCertificatesOfBothSides(t *testing.T) {
	open := tlstest.New(t).Config(tlstest.Leaf{})
	open.ClientAuth = tls.NoClientCert
	for name, c := range map[string]*tls.Config{"plaintext": nil, "no client certificate asked": open} {
		if _, err := apply.Listen("0.0.0.0:0", c, nil); diag.Find(err) == nil || diag.Find(err).Code.ID != diag.TLSRequired.ID {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := transfer.Dial("192.0.2.1:1", nil); diag.Find(err) == nil || diag.Find(err).Code.ID != diag.TLSRequired.ID {
		t.Errorf("dialled in plaintext: %v", err)
	}
}

// A peer with a good certificate still writes only what the coordinator has granted.
func TestTransfer_TakesOnlyWhatWasGranted(t *testing.T) {
	cert := tlstest.New(t).Config(tlstest.Leaf{})
	opened := make(chan *fleetv1.Endpoint, 8)
	s := serve(t, cert, func(_ context.Context, ep *fleetv1.Endpoint) (sdk.Sink, func(), error) {
		opened <- ep
		return &slowSink{}, func() {}, nil
	})
	secret, late := []byte(strings.Repeat("s", 32)), []byte(strings.Repeat("l", 32))
	grant := &fleetv1.Grant{Secret: secret, Pipeline: "p", Sink: sink("granted=1")}
	s.Grant([]*fleetv1.Grant{grant})
	var wg sync.WaitGroup
	for name, shown := range map[string][]byte{"a guess": []byte(strings.Repeat("g", 32)), "nothing": nil, "a part of a secret": secret[:31],
		"another pipeline": secret} {
		pipeline := "p"
		if name == "another pipeline" {
			pipeline = "q"
		}
		wg.Go(func() {
			if e := diag.Find(recoverAt(t, s.Address(), cert, shown, pipeline)); e == nil || e.Code.ID != diag.NotGranted.ID {
				t.Errorf("%s: %v", name, e)
			}
		})
	}
	wg.Wait()
	conn, err := transfer.Dial(s.Address(), cert)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	opening := sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_WriteOpen{WriteOpen: &rowv1.WriteOpen{Pipeline: "q"}}}, nil)
	_, err = conn.Sink(secret).WriteChunks(t.Context(), func() (*sdk.Frame, error) { return opening, nil })
	if e := diag.Find(err); e == nil || e.Code.ID != diag.NotGranted.ID {
		t.Errorf("rows of another pipeline: %v", err)
	}
	// A grant may come after the call; then it is the coordinator's endpoint that is opened, whatever the caller wants.
	go func() {
		time.Sleep(100 * time.Millisecond)
		s.Grant([]*fleetv1.Grant{{Secret: late, Pipeline: "p", Sink: sink("granted=2")}})
	}()
	for len(opened) > 0 { // what the calls above had opened
		<-opened
	}
	if err := recoverAt(t, s.Address(), cert, late, "p"); err != nil {
		t.Error(err)
	}
	if ep := <-opened; ep.Options["granted"] != "2" {
		t.Errorf("opened %v", ep)
	}
}

// slowSink takes a few frames, then waits: credits must stop the sender.
type slowSink struct {
	sdk.Sink
	taken  chan struct{}
	resume chan struct{}
}

func (s *slowSink) Recover(context.Context, *connectorv1.RecoverRequest) (*connectorv1.RecoverResponse, error) {
	return &connectorv1.RecoverResponse{}, nil
}

func (s *slowSink) WriteChunks(_ context.Context, next func() (*sdk.Frame, error)) (*connectorv1.WriteChunksResponse, error) {
	resp := &connectorv1.WriteChunksResponse{}
	for n := 0; ; n++ {
		if n == 2 {
			close(s.taken)
			<-s.resume
		}
		f, err := next()
		if errors.Is(err, io.EOF) {
			return resp, nil
		}
		if err != nil {
			return nil, err
		}
		if end := f.Header.GetChunkEnd(); end != nil {
			resp.Results = append(resp.Results, end.Result)
		}
		f.Free()
	}
}

// endless emits more than any window until it has sent all its frames.
type endless struct {
	frames int
	sent   atomic.Int64
}

func (e *endless) ReadChunks(_ context.Context, req *connectorv1.ReadChunksRequest, emit func(*sdk.Frame) error) error {
	for range e.frames {
		e.sent.Add(1)
		h := &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkData{ChunkData: &rowv1.ChunkData{}}}
		if err := emit(sdk.NewFrame(h, make([]byte, 1<<20))); err != nil {
			return err
		}
	}
	end := &rowv1.ChunkEnd{Result: &rowv1.ChunkResult{Chunk: req.Chunks[0].Id}}
	return emit(sdk.NewFrame(&rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkEnd{ChunkEnd: end}}, nil))
}

func TestTransfer_CreditsBoundWhatIsUnderWay(t *testing.T) {
	slow := &slowSink{taken: make(chan struct{}), resume: make(chan struct{})}
	s := serve(t, nil, func(context.Context, *fleetv1.Endpoint) (sdk.Sink, func(), error) { return slow, func() {}, nil })
	conn, err := transfer.Dial(s.Address(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	secret := []byte(strings.Repeat("s", 32))
	s.Grant([]*fleetv1.Grant{{Secret: secret, Pipeline: "p", Sink: sink()}})
	to := conn.Sink(secret)
	from := &endless{frames: 100}
	result := make(chan error, 1)
	go func() {
		_, err := snapshot.Run(t.Context(), snapshot.Task{Pipeline: "p", Work: oneChunk(), Budget: 4 << 20}, from, to)
		result <- err
	}()
	<-slow.taken
	select {
	case err := <-result:
		t.Fatalf("the load ended while the sink waits: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if n := from.sent.Load(); n > 32 { // window 16, pipe 4, one taken, one in each hand
		t.Fatalf("%d MiB left the source while the sink waits", n)
	}
	close(slow.resume)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if n := from.sent.Load(); n != 100 {
		t.Fatalf("%d frames sent", n)
	}
}
