package engine

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

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
		Target: p.state.Target, CreatedMicros: p.state.Created, UpdatedMicros: p.shown.UnixMicro(), Waiting: p.waitsFor(), TraceId: p.state.TraceID}
	p.count(s)
	s.StepsDone = int64(p.state.StepsDone)
	for _, x := range p.state.Phases {
		s.Phases = append(s.Phases, &controlv1.PhaseTime{Phase: x.Phase, StartedMicros: x.Start, EndedMicros: x.End})
	}
	p.catalogStatus(s)
	if st := p.run.progress; st != nil {
		s.Stream = proto.CloneOf(st)
		s.Stream.AppliedPrintable = position.Print(p.state.PositionFormat, st.Applied)
		if st.LagKnown {
			s.LagSeconds = float64(st.LagMicros) / 1e6
		}
	}
	s.RowsPerSecond, s.BytesPerSecond, s.ChangesPerSecond = p.rate.add(sample{p.shown, s.RowsLoaded + s.RowsInFlight,
		s.BytesLoaded + s.BytesInFlight, s.Stream.GetChanges()})
	p.health(s)
	p.mu.Lock()
	p.status = proto.CloneOf(s)
	close(p.news)
	p.news = make(chan struct{})
	p.mu.Unlock()
}

func (p *Pipeline) catalogStatus(s *controlv1.Status) {
	s.Problems = slices.Clone(p.found)
	if p.catalog == nil {
		return
	}
	s.NotCarried, s.Problems = slices.Clone(p.catalog.notCarried), append(s.Problems, p.catalog.problems...)
	n := &p.catalog.count
	if p.spec.Schema {
		s.StepsTotal = int64(n.all)
		s.ForeignKeys, s.Indexes = int64(n.foreignKeys), int64(n.indexes)
	} else {
		s.StepsTotal = int64(n.values + n.fills)
	}
	for _, x := range p.atCutover() {
		s.StepsTotal--
		s.NotCarried = append(s.NotCarried, &connectorv1.NotCarried{Kind: x.Kind, Object: x.Object,
			Reason: "it would act while changes are applied, so it waits for the cutover", Todo: strings.Join(x.Sql, ";\n") + ";"})
	}
	s.NotCarried = append(append(s.NotCarried, p.notCopied()...), p.notFollowed()...)
	if p.state.Finished {
		s.StepsDone = s.StepsTotal
	}
	s.Sequences = int64(n.sequences)
}

func (p *Pipeline) health(s *controlv1.Status) {
	switch {
	case p.failure != nil:
		s.Health = controlv1.Health_HEALTH_FAILED
		f := proto.Clone(p.failure).(*fleetv1.Failure)
		f.Class = fleetv1.FailureClass_FAILURE_CLASS_FATAL // nothing goes on before somebody resumes
		s.Failures = append(append([]*fleetv1.Failure{f}, p.more...), s.Failures...)
		s.NextSteps = append(s.NextSteps, "Correct what the failure names, then: drover resume "+p.name)
	case s.TablesFailed > 0:
		s.Health = controlv1.Health_HEALTH_DEGRADED
		s.NextSteps = append(s.NextSteps, "Correct what the failures name, then: drover reload "+p.name)
	case s.Waiting != "":
		s.Health = controlv1.Health_HEALTH_WAITING
	default:
		s.Health = controlv1.Health_HEALTH_OK
	}
	if p.follow() && len(p.state.Start) > 0 && p.failure == nil {
		switch p.state.Desired {
		case controlv1.Desired_DESIRED_PAUSED:
			s.NextSteps = append(s.NextSteps, "drover resume "+p.name+"  # until then the source keeps its log")
		case controlv1.Desired_DESIRED_STOPPED:
			s.NextSteps = append(s.NextSteps, "drover start "+p.name+"  # until then the source keeps its log")
		}
	}
	for _, n := range s.NotCarried {
		if n.Todo != "" && s.Phase >= controlv1.Phase_PHASE_STREAMING && !slices.Contains(s.NextSteps, n.Todo) {
			s.NextSteps = append(s.NextSteps, n.Todo)
		}
	}
	s.Bottleneck = p.bottleneck(s)
}
