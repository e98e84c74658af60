// Package control is the coordinator's API for people and scripts.
package control

import (
	"context"
	"strings"
	"time"

	"github.com/droverdb/drover/coordinator/engine"
	"github.com/droverdb/drover/coordinator/job"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/diag/wire"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// Server implements ControlService.
type Server struct {
	controlv1.UnimplementedControlServiceServer
	// Engine returns the engine of the leading coordinator, or an error while this one does not lead.
	Engine func(context.Context) (*engine.Engine, error)
}

func (s *Server) find(ctx context.Context, name string) (*engine.Pipeline, error) {
	e, err := s.Engine(ctx)
	if err != nil {
		return nil, err
	}
	return e.Find(name)
}

// Apply creates or changes a pipeline; all problems of a spec are reported at once.
func (s *Server) Apply(ctx context.Context, r *controlv1.ApplyRequest) (*controlv1.ApplyResponse, error) {
	x := r.GetSpec()
	problems := job.Problems(job.Spec{Version: x.GetVersion(), Name: x.GetName(), Mode: int32(x.GetMode()), SourceURL: x.GetSource().GetUrl(),
		TargetURL: x.GetTarget().GetUrl(), SourceKind: x.GetSource().GetConnector(), TargetKind: x.GetTarget().GetConnector(),
		WhenNotEmpty: x.GetWhenNotEmpty(), Verify: x.GetVerify(), Apply: x.GetApply(), Lane: x.GetLane(), ChunkBytes: x.GetChunkBytes(), Parallel: x.GetParallel()})
	if len(problems) > 0 {
		return nil, wire.Status(diag.SpecInvalid.New(x.GetName(), nil, "%s", strings.Join(problems, "; ")))
	}
	if x.GetSource().GetUrl() == x.GetTarget().GetUrl() {
		return nil, wire.Status(diag.SameDatabase.New("target", nil, "both have one address"))
	}
	e, err := s.Engine(ctx)
	if err != nil {
		return nil, wire.Status(err)
	}
	created, changed, p, err := e.Apply(ctx, x, r.Start, r.Retry, r.Anew)
	if err != nil {
		return nil, wire.Status(err)
	}
	st, _ := p.Status()
	return &controlv1.ApplyResponse{Created: created, Changed: changed, Status: st}, nil
}

// Get returns status and spec.
func (s *Server) Get(ctx context.Context, r *controlv1.GetRequest) (*controlv1.GetResponse, error) {
	p, err := s.find(ctx, r.Pipeline)
	if err != nil {
		return nil, wire.Status(err)
	}
	spec, err := p.Spec(ctx)
	st, _ := p.Status()
	return &controlv1.GetResponse{Status: st, Spec: spec}, wire.Status(err)
}

// List returns every pipeline.
func (s *Server) List(ctx context.Context, _ *controlv1.ListRequest) (*controlv1.ListResponse, error) {
	e, err := s.Engine(ctx)
	if err != nil {
		return nil, wire.Status(err)
	}
	out := &controlv1.ListResponse{}
	for _, p := range e.All() {
		st, _ := p.Status()
		out.Pipelines = append(out.Pipelines, st)
	}
	return out, nil
}

// Watch sends the status until the pipeline is done, has failed or is gone.
func (s *Server) Watch(r *controlv1.WatchRequest, w controlv1.ControlService_WatchServer) error {
	p, err := s.find(w.Context(), r.Pipeline)
	if err != nil {
		return wire.Status(err)
	}
	var phase controlv1.Phase
	var sent time.Time
	for {
		st, news := p.Status()
		end := st.Phase == controlv1.Phase_PHASE_DONE || st.Health == controlv1.Health_HEALTH_FAILED
		if end || st.Phase != phase || time.Since(sent) >= time.Second {
			if err := w.Send(&controlv1.WatchResponse{Status: st}); err != nil {
				return err
			}
			phase, sent = st.Phase, time.Now()
		}
		if end {
			return nil
		}
		select {
		case <-news:
		case <-time.After(time.Second):
		case <-p.Done():
			return nil
		case <-w.Context().Done():
			return w.Context().Err()
		}
	}
}

func (s *Server) want(ctx context.Context, name string, d controlv1.Desired) error {
	p, err := s.find(ctx, name)
	if err == nil {
		err = p.Want(ctx, d)
	}
	return wire.Status(err)
}

// Start lets a pipeline run.
func (s *Server) Start(ctx context.Context, r *controlv1.StartRequest) (*controlv1.StartResponse, error) {
	return &controlv1.StartResponse{}, s.want(ctx, r.Pipeline, controlv1.Desired_DESIRED_RUNNING)
}

// Pause ends its tasks and keeps its state.
func (s *Server) Pause(ctx context.Context, r *controlv1.PauseRequest) (*controlv1.PauseResponse, error) {
	return &controlv1.PauseResponse{}, s.want(ctx, r.Pipeline, controlv1.Desired_DESIRED_PAUSED)
}

// Resume lets it run again and forgets its failure.
func (s *Server) Resume(ctx context.Context, r *controlv1.ResumeRequest) (*controlv1.ResumeResponse, error) {
	return &controlv1.ResumeResponse{}, s.want(ctx, r.Pipeline, controlv1.Desired_DESIRED_RUNNING)
}

// Reload loads tables again while the rest goes on.
func (s *Server) Reload(ctx context.Context, r *controlv1.ReloadRequest) (*controlv1.ReloadResponse, error) {
	p, err := s.find(ctx, r.Pipeline)
	if err != nil {
		return nil, wire.Status(err)
	}
	tables, err := p.Reload(ctx, r.Tables, r.Force)
	return &controlv1.ReloadResponse{Tables: tables}, wire.Status(err)
}

// Stop ends its tasks; it starts again only when told to.
func (s *Server) Stop(ctx context.Context, r *controlv1.StopRequest) (*controlv1.StopResponse, error) {
	return &controlv1.StopResponse{}, s.want(ctx, r.Pipeline, controlv1.Desired_DESIRED_STOPPED)
}

// Delete releases what it holds at source and target, but for sides to forget, then its state.
func (s *Server) Delete(ctx context.Context, r *controlv1.DeleteRequest) (*controlv1.DeleteResponse, error) {
	e, err := s.Engine(ctx)
	if err != nil {
		return nil, wire.Status(err)
	}
	out, err := e.Delete(ctx, r.Pipeline, r.Forget)
	return out, wire.Status(err)
}

// Tables lists the tables of a pipeline, biggest first.
func (s *Server) Tables(ctx context.Context, r *controlv1.TablesRequest) (*controlv1.TablesResponse, error) {
	p, err := s.find(ctx, r.Pipeline)
	if err != nil {
		return nil, wire.Status(err)
	}
	t, err := p.Tables(ctx)
	return &controlv1.TablesResponse{Tables: t}, wire.Status(err)
}

// Chunks lists the ledger.
func (s *Server) Chunks(ctx context.Context, r *controlv1.ChunksRequest) (*controlv1.ChunksResponse, error) {
	p, err := s.find(ctx, r.Pipeline)
	if err != nil {
		return nil, wire.Status(err)
	}
	c, err := p.Chunks(ctx)
	return &controlv1.ChunksResponse{Chunks: c}, wire.Status(err)
}

// Logs sends the last events, and with follow those to come.
func (s *Server) Logs(r *controlv1.LogsRequest, w controlv1.ControlService_LogsServer) error {
	p, err := s.find(w.Context(), r.Pipeline)
	if err != nil {
		return wire.Status(err)
	}
	for next := int64(0); ; {
		lines, n, news := p.Logs(next)
		next = n
		for _, l := range lines {
			if err := w.Send(l); err != nil {
				return err
			}
		}
		if !r.Follow {
			return nil
		}
		select {
		case <-news:
		case <-p.Done():
			return nil
		case <-w.Context().Done():
			return w.Context().Err()
		}
	}
}

// Agents lists the agents.
func (s *Server) Agents(ctx context.Context, _ *controlv1.AgentsRequest) (*controlv1.AgentsResponse, error) {
	e, err := s.Engine(ctx)
	if err != nil {
		return nil, wire.Status(err)
	}
	out := &controlv1.AgentsResponse{}
	for _, a := range e.Fleet.Agents() {
		state := "lost"
		if a.Connected {
			state = "connected"
		}
		out.Agents = append(out.Agents, &controlv1.AgentStatus{Agent: a.Hello.Agent, State: state, Version: a.Hello.Version, Labels: a.Hello.Labels,
			Tasks: int32(a.Tasks), Streams: int32(a.Streams), Connectors: a.Hello.Connectors, LastSeenMicros: a.LastSeen.UnixMicro()})
	}
	return out, nil
}

// Doctor checks both databases.
func (s *Server) Doctor(ctx context.Context, r *controlv1.DoctorRequest) (*controlv1.DoctorResponse, error) {
	e, err := s.Engine(ctx)
	if err != nil {
		return nil, wire.Status(err)
	}
	out, err := e.Doctor(ctx, r)
	return out, wire.Status(err)
}
