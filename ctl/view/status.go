// Package view is the one view model behind tables, plain lines and JSON, so that they cannot disagree.
package view

import (
	"fmt"
	"math"
	"strings"
	"time"

	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// Version of the JSON layout; it changes only when a field changes its meaning or goes away.
const Version = 1

// Status is what people and scripts see of a pipeline. Times are RFC 3339 UTC, sizes bytes, durations seconds.
type Status struct {
	Version    int       `json:"version"`
	Pipeline   string    `json:"pipeline"`
	Phase      string    `json:"phase"`
	Health     string    `json:"health"`
	Desired    string    `json:"desired"`
	Mode       string    `json:"mode"`
	Source     string    `json:"source"`
	Target     string    `json:"target"`
	Tables     Tables    `json:"tables"`
	Load       Load      `json:"load"`
	Steps      Count     `json:"schema_steps"`
	Stream     *Stream   `json:"stream,omitempty"`
	Waiting    string    `json:"waiting,omitempty"`
	Bottleneck string    `json:"bottleneck,omitempty"`
	TraceID    string    `json:"trace_id,omitempty"`
	Phases     []Phase   `json:"phases"`
	Failures   []Failure `json:"failures"`
	NotCopied  []Left    `json:"not_carried"`
	Warnings   []Problem `json:"warnings"`
	Next       []string  `json:"next_steps"`
	Created    string    `json:"created"`
	Updated    string    `json:"updated"`
}

// Tables counts tables by what became of them.
type Tables struct {
	Total    int64 `json:"total"`
	Done     int64 `json:"done"`
	Failed   int64 `json:"failed"`
	Compared int64 `json:"compared"`
	Equal    int64 `json:"equal"`
	// EqualAt is when the first of them was found equal.
	EqualAt string `json:"equal_at,omitempty"`
	// NotFollowed are loaded once: the source does not log their changes.
	NotFollowed int64 `json:"not_followed"`
}

// Load is the progress of the full load. Rows, bytes and chunks are those that the target has acknowledged; what is in
// flight is told apart.
type Load struct {
	Rows           int64   `json:"rows"`
	RowsEstimate   int64   `json:"rows_estimate"`
	Bytes          int64   `json:"bytes"`
	BytesEstimate  int64   `json:"bytes_estimate"`
	Chunks         int64   `json:"chunks"`
	ChunksTotal    int64   `json:"chunks_total"`
	RowsPerSecond  float64 `json:"rows_per_second"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	// Progress is 0 to 1. A chunk in flight counts by what has moved of it, but as less than written until it is; what a
	// lost attempt has moved goes back.
	Progress      float64 `json:"progress"`
	RowsInFlight  int64   `json:"rows_in_flight"`
	BytesInFlight int64   `json:"bytes_in_flight"`
	// ETA is the time left in seconds, at least and at most; absent while it is not known.
	ETA []float64 `json:"eta_seconds,omitempty"`
}

// Count is done out of total.
type Count struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// Stream is the state of change data capture.
type Stream struct {
	Position string `json:"position"`
	// LagSeconds is null until the end of the source's log was compared with what was read.
	LagSeconds       *float64 `json:"lag_seconds"`
	ChangesPerSecond float64  `json:"changes_per_second"`
	Transactions     int64    `json:"transactions"`
	Changes          int64    `json:"changes"`
	HeldBytes        int64    `json:"held_bytes"`
	RetainedLogBytes int64    `json:"source_log_retained_bytes"`
	Overlapping      int32    `json:"overlapping_chunks"`
	// Where the lag is: in the source's log and not read, received and held back, sent and not committed at the target.
	Read     Lag `json:"read_lag"`
	Transfer Lag `json:"transfer_lag"`
	Apply    Lag `json:"apply_lag"`
}

// Lag is how long the oldest change has waited in one place, and how much waits there.
type Lag struct {
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes"`
}

// Phase is one phase with its times; Seconds is 0 while it has not ended.
type Phase struct {
	Phase   string  `json:"phase"`
	Started string  `json:"started,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Failure is an error in its four parts.
type Failure struct {
	Code  string   `json:"code"`
	Where string   `json:"where"`
	Why   string   `json:"why"`
	Fix   []string `json:"fix"`
	Class string   `json:"class,omitempty"`
}

// Changes is the kind of what is left of a table that is loaded once, and not followed.
const Changes = "changes"

// Left is an object that was not carried over.
type Left struct {
	Kind   string `json:"kind"`
	Object string `json:"object"`
	Reason string `json:"reason"`
	Todo   string `json:"todo"`
}

// FromStatus builds the view of a control status.
func FromStatus(s *controlv1.Status) Status {
	v := Status{
		Version: Version, Pipeline: s.Pipeline, Phase: PhaseName(s.Phase), Health: enumName(s.Health.String(), "HEALTH_"),
		Desired: enumName(s.Desired.String(), "DESIRED_"), Mode: ModeName(s.Mode), Source: s.Source, Target: s.Target,
		Tables: Tables{s.TablesTotal, s.TablesDone, s.TablesFailed, s.TablesCompared, s.TablesEqual, stamp(s.EqualAtMicros), s.TablesNotFollowed},
		Load: Load{s.RowsLoaded, s.RowsTotalEstimate, s.BytesLoaded, s.BytesTotalEstimate, s.ChunksDone, s.ChunksTotal,
			tenth(s.RowsPerSecond), tenth(s.BytesPerSecond), fraction(s.LoadFraction), s.RowsInFlight, s.BytesInFlight, eta(s, time.UnixMicro(s.UpdatedMicros))},
		Steps: Count{s.StepsDone, s.StepsTotal}, Waiting: s.Waiting, Bottleneck: s.Bottleneck, TraceID: s.TraceId,
		Phases: []Phase{}, Failures: []Failure{}, NotCopied: []Left{}, Warnings: []Problem{}, Next: append([]string{}, s.NextSteps...),
		Created: stamp(s.CreatedMicros), Updated: stamp(s.UpdatedMicros),
	}
	if t := s.Stream; t != nil {
		v.Stream = &Stream{t.AppliedPrintable, knownLag(s), tenth(s.ChangesPerSecond), t.Transactions, t.Changes, t.HeldBytes, t.RetainedLogBytes, t.OverlappingChunks,
			lag(t.ReadLagMicros, t.ReadLagBytes), lag(t.TransferLagMicros, t.TransferLagBytes), lag(t.ApplyLagMicros, t.ApplyLagBytes)}
	}
	for _, p := range s.Phases {
		v.Phases = append(v.Phases, Phase{PhaseName(p.Phase), stamp(p.StartedMicros), PhaseSeconds(p)})
	}
	for _, f := range s.Failures {
		v.Failures = append(v.Failures, FromFailure(f))
	}
	for _, p := range s.Problems {
		if p.Warning {
			v.Warnings = append(v.Warnings, fromProblem(p))
		}
	}
	for _, n := range s.NotCarried {
		v.NotCopied = append(v.NotCopied, Left{n.Kind, n.Object, n.Reason, n.Todo})
	}
	return v
}

func knownLag(s *controlv1.Status) *float64 {
	if !s.Stream.LagKnown {
		return nil
	}
	return &s.LagSeconds
}

// LagText is a lag for people, in seconds; unit stands behind a number.
func (s *Stream) LagText(unit string) string {
	if s.LagSeconds == nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f", *s.LagSeconds) + unit
}

func lag(micros, bytes int64) Lag { return Lag{float64(micros) / 1e6, bytes} }

// FromFailure builds the view of a failure.
func FromFailure(f *fleetv1.Failure) Failure {
	return Failure{f.Code, f.Where, f.Why, append([]string{}, f.Fix...), enumName(f.Class.String(), "FAILURE_CLASS_")}
}

// PhaseName is the phase in the words of the documentation.
func PhaseName(p controlv1.Phase) string {
	return strings.ReplaceAll(enumName(p.String(), "PHASE_"), "_", "-")
}

// ModeName is the mode as the pipeline file writes it.
func ModeName(m controlv1.Mode) string {
	switch m {
	case controlv1.Mode_MODE_FULL_LOAD:
		return "full-load"
	case controlv1.Mode_MODE_FULL_LOAD_AND_CDC:
		return "full-load-and-cdc"
	}
	return ""
}

// PhaseSeconds is how long an ended phase took, else 0.
func PhaseSeconds(p *controlv1.PhaseTime) float64 {
	if p.EndedMicros == 0 || p.StartedMicros == 0 {
		return 0
	}
	return float64(p.EndedMicros-p.StartedMicros) / 1e6
}

// fraction rounds down to four digits: only all of it is 1.
func fraction(f float64) float64 { return math.Floor(f*1e4) / 1e4 }

// tenth rounds what was measured to as many digits as it has.
func tenth(f float64) float64 { return math.Round(f*10) / 10 }

// percent rounds down, too; 0.29 is 29 though no float is exactly that.
func percent(f float64) int { return int(100*f + 1e-9) }

func enumName(s, prefix string) string { return strings.ToLower(strings.TrimPrefix(s, prefix)) }

func stamp(micros int64) string {
	if micros == 0 {
		return ""
	}
	return time.UnixMicro(micros).UTC().Format(time.RFC3339)
}
