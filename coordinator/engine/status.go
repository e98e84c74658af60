package engine

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/coordinator/store"
	"github.com/droverdb/drover/internal/position"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// rate remembers counters of the last seconds.
type rate struct{ samples []sample }

type sample struct {
	at                   time.Time
	rows, bytes, changes int64
}

const window = 5 * time.Second

func (r *rate) add(s sample) (rows, bytes, changes float64) {
	r.samples = append(r.samples, s)
	for len(r.samples) > 2 && s.at.Sub(r.samples[0].at) > window {
		r.samples = r.samples[1:]
	}
	first := r.samples[0]
	d := s.at.Sub(first.at).Seconds()
	if d <= 0 {
		return 0, 0, 0
	}
	return float64(max(s.rows-first.rows, 0)) / d, float64(max(s.bytes-first.bytes, 0)) / d, float64(max(s.changes-first.changes, 0)) / d
}

func (p *Pipeline) publishSoon() {
	if time.Since(p.shown) > 500*time.Millisecond {
		p.publish()
	}
}

// publish makes a status others may read and wakes watchers.
func (p *Pipeline) publish() {
	p.shown = time.Now()
	s := &controlv1.Status{Pipeline: p.name, Phase: p.state.Phase, Desired: p.state.Desired, Mode: p.spec.Mode, Source: p.state.Source,
		Target: p.state.Target, CreatedMicros: p.state.Created, UpdatedMicros: p.shown.UnixMicro(), Waiting: p.waiting, TraceId: p.state.TraceID}
	tables, chunks := p.count(s)
	s.StepsDone = int64(p.state.StepsDone)
	for _, x := range p.state.Phases {
		s.Phases = append(s.Phases, &controlv1.PhaseTime{Phase: x.Phase, StartedMicros: x.Start, EndedMicros: x.End})
	}
	p.catalogStatus(s)
	if st := p.run.progress; st != nil {
		s.Stream = proto.CloneOf(st)
		s.Stream.AppliedPrintable = position.Print(p.state.PositionFormat, st.Applied)
		s.LagSeconds = float64(st.LagMicros) / 1e6
	}
	s.RowsPerSecond, s.BytesPerSecond, s.ChangesPerSecond = p.rate.add(sample{p.shown, s.RowsLoaded, s.BytesLoaded, s.Stream.GetChanges()})
	p.health(s)
	p.mu.Lock()
	p.status, p.detail, p.ledger = proto.Clone(s).(*controlv1.Status), tables, chunks
	close(p.news)
	p.news = make(chan struct{})
	p.mu.Unlock()
}

func (p *Pipeline) catalogStatus(s *controlv1.Status) {
	s.Problems = slices.Clone(p.found)
	if p.catalog == nil {
		return
	}
	s.NotCarried, s.Problems = slices.Clone(p.catalog.NotCarried), append(s.Problems, p.catalog.Problems...)
	if p.spec.Schema {
		s.StepsTotal = int64(len(p.catalog.Steps))
	}
	for _, x := range p.atCutover() {
		s.StepsTotal--
		s.NotCarried = append(s.NotCarried, &connectorv1.NotCarried{Kind: x.Kind, Object: x.Object,
			Reason: "it would act while changes are applied, so it waits for the cutover", Todo: strings.Join(x.Sql, ";\n") + ";"})
	}
	if p.state.Finished {
		s.StepsDone = s.StepsTotal
	}
	for _, x := range p.catalog.Steps {
		switch {
		case x.Kind == "foreign key":
			s.ForeignKeys++
		case x.Kind == "sequence" && x.Phase == connectorv1.Phase_PHASE_TABLES:
			s.Sequences++
		case x.Phase == connectorv1.Phase_PHASE_INDEXES || x.Phase == connectorv1.Phase_PHASE_KEYS:
			s.Indexes++
		}
	}
}

func (p *Pipeline) health(s *controlv1.Status) {
	switch {
	case p.failure != nil:
		s.Health = controlv1.Health_HEALTH_FAILED
		f := proto.Clone(p.failure).(*fleetv1.Failure)
		f.Class = fleetv1.FailureClass_FAILURE_CLASS_FATAL // nothing goes on before somebody resumes
		s.Failures = append([]*fleetv1.Failure{f}, s.Failures...)
		s.NextSteps = append(s.NextSteps, "Correct what the failure names, then: drover resume "+p.name)
	case s.TablesFailed > 0:
		s.Health = controlv1.Health_HEALTH_HELD
	case p.waiting != "":
		s.Health = controlv1.Health_HEALTH_WAITING
	default:
		s.Health = controlv1.Health_HEALTH_OK
	}
	for _, n := range s.NotCarried {
		if n.Todo != "" && s.Phase >= controlv1.Phase_PHASE_STREAMING {
			s.NextSteps = append(s.NextSteps, n.Todo)
		}
	}
	if s.Phase == controlv1.Phase_PHASE_LOAD && p.run.splitting != 0 && len(p.run.loads) == 0 {
		s.Bottleneck = "splitting a table at the source"
	}
}

// fraction adds up how much of the load is done: tables weigh by their size, each counts by its acknowledged rows.
type fraction struct{ done, total float64 }

func (f *fraction) add(bytes int64, t *controlv1.TableStatus) {
	const page = 8192 // an empty table is work, too
	weight, part := float64(max(bytes, page)), 0.0
	switch {
	case t.State == "loaded":
		part = 1
	case t.RowsEstimate > 0:
		part = min(0.99, float64(t.Rows)/float64(t.RowsEstimate))
	case t.ChunksTotal > 0:
		part = float64(t.ChunksDone) / float64(t.ChunksTotal)
	}
	f.done, f.total = f.done+weight*part, f.total+weight
}

func (f *fraction) value() float64 {
	if f.total == 0 {
		return 0
	}
	return f.done / f.total
}

// count adds up tables and chunks.
func (p *Pipeline) count(s *controlv1.Status) ([]*controlv1.TableStatus, []*controlv1.ChunkStatus) {
	var tables []*controlv1.TableStatus
	var chunks []*controlv1.ChunkStatus
	var done fraction
	defer func() { s.LoadFraction = done.value() }()
	for _, t := range p.ordered() {
		v := &controlv1.TableStatus{Source: t.name(), Target: t.row.Target.GetSchema() + "." + t.row.Target.GetName(), State: "queued",
			RowsEstimate: max(t.row.EstimatedRows, 0), Rows: t.Rows, Bytes: t.Bytes, ChunksTotal: int64(t.Chunks), Gate: t.row.Gate.String(),
			GateReason: t.row.GateReason, Lane: t.row.Lane, Compared: t.Compared, Failure: t.failure}
		for _, c := range t.chunks {
			st := &controlv1.ChunkStatus{Id: c.row.Id, Table: t.name(), State: "pending", Agent: c.Agent, Epoch: c.Epoch, Attempts: int32(c.Attempts)}
			if len(c.Floor) > 0 && !c.Written {
				st.Floor = position.Print(p.state.PositionFormat, store.ReadFloor(c.Floor).GetPosition())
			}
			switch {
			case c.Written:
				st.State, st.Rows, st.Bytes = "written", c.result.GetRows(), c.result.GetBytes()
				v.Rows, v.Bytes, v.ChunksDone = v.Rows+st.Rows, v.Bytes+st.Bytes, v.ChunksDone+1
			case c.inFlight:
				st.State, v.State = "in flight", "loading"
			}
			chunks = append(chunks, st)
		}
		switch {
		case t.failure != nil:
			v.State = "held"
			s.TablesFailed++
			s.Failures = append(s.Failures, t.failure)
		case t.Loaded:
			v.State, v.ChunksDone = "loaded", v.ChunksTotal
			s.TablesDone++
		}
		if t.Compared != "" {
			s.TablesCompared++
		}
		if t.Compared == "equal" {
			s.TablesEqual++
		}
		s.TablesTotal++
		s.RowsTotalEstimate += v.RowsEstimate
		s.BytesTotalEstimate += max(t.row.EstimatedBytes, 0)
		s.RowsLoaded, s.BytesLoaded = s.RowsLoaded+v.Rows, s.BytesLoaded+v.Bytes
		s.ChunksTotal, s.ChunksDone = s.ChunksTotal+v.ChunksTotal, s.ChunksDone+v.ChunksDone
		tables = append(tables, v)
		done.add(t.row.EstimatedBytes, v)
		if len(s.TopTables) < 8 && (v.State == "loading" || v.State == "held") {
			s.TopTables = append(s.TopTables, v)
		}
	}
	return tables, chunks
}
