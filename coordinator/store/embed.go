package store

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/scratch"
)

// Our records are small. etcd's segments of 64 MB, two of them, cost a pipeline's directory 128 MB and every start the
// time to lay them out.
func init() { wal.SegmentSizeBytes = 8 << 20 }

// Embed shapes the embedded etcd.
type Embed struct {
	// DataDir is made with mode 0700.
	DataDir string
	// Fast leaves out fsync: for tests only, a crash of the machine loses state.
	Fast bool
}

// Server is an embedded etcd and its one client.
type Server struct {
	Client *clientv3.Client
	etcd   *embed.Etcd
	lock   *os.File
	socket *scratch.Folder
}

// Start runs an etcd that only this process reaches, over a unix socket in a directory of its own.
func Start(ctx context.Context, e Embed) (_ *Server, err error) {
	if err := os.MkdirAll(e.DataDir, 0o700); err != nil {
		return nil, diag.StateUnusable.New(e.DataDir, err, "the directory cannot be made").
			WithFix(diag.WritableData)
	}
	s := &Server{}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.lock, err = lockDir(e.DataDir); err != nil {
		return nil, err
	}
	// A socket's path may have 107 bytes only, so it cannot lie in the data directory.
	if s.socket, err = scratch.New("etcd"); err != nil {
		return nil, diag.StateUnusable.New(e.DataDir, err, "no directory for a socket").
			WithFix(diag.WritableTemp)
	}
	if s.etcd, err = embed.StartEtcd(s.config(e)); err != nil {
		return nil, diag.StateUnusable.New(e.DataDir, err, "the embedded etcd does not start")
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(30 * time.Second):
		return nil, diag.StateUnusable.New(e.DataDir, nil, "the embedded etcd is not ready after 30 s")
	}
	s.Client, err = clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(s.socket.Path, "client")}, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		return nil, diag.StateUnusable.New(e.DataDir, err, "no client")
	}
	return s, nil
}

func (s *Server) config(e Embed) *embed.Config {
	unix := func(name string) []url.URL {
		return []url.URL{{Scheme: "unix", Path: filepath.Join(s.socket.Path, name)}}
	}
	c := embed.NewConfig()
	c.Name, c.Dir = "drover", filepath.Join(e.DataDir, "etcd")
	c.ListenClientUrls, c.AdvertiseClientUrls = unix("client"), unix("client")
	// The peer URL is stored with the member: it must not change, and nobody listens there.
	c.ListenPeerUrls = unix("peer")
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:0"}}
	c.InitialCluster = c.Name + "=http://localhost:0"
	c.TickMs, c.ElectionMs = 10, 100
	c.QuotaBackendBytes = 1 << 30
	c.SnapshotCatchUpEntries = 100 // kept in memory for slow followers, of which there are none; etcd's default is 5000
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, "5m"
	c.MaxTxnOps, c.EnableGRPCGateway = 512, false
	c.UnsafeNoFsync = e.Fast
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	return c
}

// Close ends the client first: a client left behind keeps Close of the server waiting. Idempotent.
func (s *Server) Close() error {
	var errs []error
	if s.Client != nil {
		errs = append(errs, s.Client.Close())
		s.Client = nil
	}
	if s.etcd != nil {
		s.etcd.Close()
		s.etcd = nil
	}
	errs = append(errs, s.socket.Close())
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}
