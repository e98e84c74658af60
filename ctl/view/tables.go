package view

import (
	"fmt"
	"strings"

	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// Table is one table of a pipeline. Rows, bytes and chunks are acknowledged by the target; what is in flight is apart.
type Table struct {
	Table         string   `json:"table"`
	Target        string   `json:"target"`
	State         string   `json:"state"`
	Progress      float64  `json:"progress"`
	Chunks        int64    `json:"chunks"`
	ChunksTotal   int64    `json:"chunks_total"`
	Rows          int64    `json:"rows"`
	RowsEstimate  int64    `json:"rows_estimate"`
	RowsInFlight  int64    `json:"rows_in_flight"`
	Bytes         int64    `json:"bytes"`
	BytesEstimate int64    `json:"bytes_estimate"`
	BytesInFlight int64    `json:"bytes_in_flight"`
	Gate          string   `json:"gate"`
	GateReason    string   `json:"gate_reason,omitempty"`
	Lane          string   `json:"lane"`
	Compared      string   `json:"compared,omitempty"`
	ComparedAt    string   `json:"compared_at,omitempty"`
	NotFollowed   bool     `json:"not_followed,omitempty"`
	Failure       *Failure `json:"failure,omitempty"`
}

// TableList lists the tables of a pipeline.
func TableList(pipeline string, all []*controlv1.TableStatus) Listing {
	l := Listing{Columns: []Column{{Head: "TABLE"}, {Head: "STATE"}, {Head: "DONE", Right: true}, {Head: "CHUNKS", Right: true}, {Head: "ROWS", Right: true},
		{Head: "BYTES", Right: true}, {Head: "GATE"}, {Head: "COMPARED"}, {Head: "TARGET", Wide: true}, {Head: "IN FLIGHT", Wide: true, Right: true},
		{Head: "ROWS ABOUT", Wide: true, Right: true}, {Head: "SIZE ABOUT", Wide: true, Right: true}, {Head: "LANE", Wide: true}, {Head: "REASON", Wide: true}}}
	views := []Table{}
	for _, t := range all {
		v := fromTable(t)
		views, l.Items = append(views, v), append(l.Items, v)
		reason, compared := v.GateReason, v.Compared
		if v.NotFollowed {
			compared = "not followed"
		}
		if v.Failure != nil {
			reason = v.Failure.Code + " " + v.Failure.Why
		}
		l.Rows = append(l.Rows, []string{v.Table, v.State, fmt.Sprintf("%d %%", percent(v.Progress)), fmt.Sprintf("%d/%d", v.Chunks, v.ChunksTotal), Count64(v.Rows),
			Bytes(v.Bytes), v.Gate, compared, v.Target, Bytes(v.BytesInFlight), Count64(v.RowsEstimate), Bytes(v.BytesEstimate), v.Lane, reason})
	}
	l.Value = struct {
		Version  int     `json:"version"`
		Pipeline string  `json:"pipeline"`
		Tables   []Table `json:"tables"`
	}{Version, pipeline, views}
	return l
}

func fromTable(t *controlv1.TableStatus) Table {
	v := Table{t.Source, t.Target, t.State, fraction(t.Fraction), t.ChunksDone, t.ChunksTotal, t.Rows, t.RowsEstimate, t.RowsInFlight, t.Bytes, t.BytesEstimate,
		t.BytesInFlight, strings.ReplaceAll(enumName(t.Gate, "GATE_MODE_"), "_", " "), t.GateReason, t.Lane, t.Compared, stamp(t.ComparedMicros), t.NotFollowed, nil}
	if t.Failure != nil {
		f := FromFailure(t.Failure)
		v.Failure = &f
	}
	return v
}

// Chunk is one entry of the ledger: not written yet, or written and still of use to the change stream.
type Chunk struct {
	// Chunk is the number of the table and that of the chunk in it.
	Chunk         string `json:"chunk"`
	Table         string `json:"table"`
	State         string `json:"state"`
	Rows          int64  `json:"rows"`
	RowsInFlight  int64  `json:"rows_in_flight"`
	Bytes         int64  `json:"bytes"`
	BytesInFlight int64  `json:"bytes_in_flight"`
	BytesEstimate int64  `json:"bytes_estimate"`
	Agent         string `json:"agent,omitempty"`
	Epoch         uint64 `json:"epoch"`
	Attempts      int32  `json:"attempts"`
	// Floor is what its read has to see, Coverage up to where it saw everything.
	Floor    string `json:"floor,omitempty"`
	Coverage string `json:"coverage,omitempty"`
	// Of the newest attempt, if it was in the time of the coordinator that answers.
	Started string `json:"started,omitempty"`
	Ended   string `json:"ended,omitempty"`
}

// ChunkList lists the chunks of a pipeline.
func ChunkList(pipeline string, all []*controlv1.ChunkStatus) Listing {
	l := Listing{Columns: []Column{{Head: "CHUNK"}, {Head: "TABLE"}, {Head: "STATE"}, {Head: "ROWS", Right: true}, {Head: "BYTES", Right: true},
		{Head: "IN FLIGHT", Right: true}, {Head: "SIZE ABOUT", Wide: true, Right: true}, {Head: "AGENT", Wide: true}, {Head: "EPOCH", Wide: true, Right: true},
		{Head: "ATTEMPTS", Wide: true, Right: true}, {Head: "FLOOR", Wide: true}, {Head: "COVERAGE", Wide: true}, {Head: "STARTED", Wide: true}, {Head: "ENDED", Wide: true}}}
	views := []Chunk{}
	for _, k := range all {
		v := Chunk{fmt.Sprintf("%d/%d", k.Id>>32, uint32(k.Id)), k.Table, k.State, k.Rows, k.RowsInFlight, k.Bytes, k.BytesInFlight, k.BytesEstimate, k.Agent, k.Epoch,
			k.Attempts, k.Floor, k.Coverage, moment(k.StartedMicros), moment(k.EndedMicros)}
		views, l.Items = append(views, v), append(l.Items, v)
		l.Rows = append(l.Rows, []string{v.Chunk, v.Table, v.State, Count64(v.Rows), Bytes(v.Bytes), Bytes(v.BytesInFlight), Bytes(v.BytesEstimate), v.Agent,
			fmt.Sprint(v.Epoch), fmt.Sprint(v.Attempts), v.Floor, v.Coverage, v.Started, v.Ended})
	}
	l.Value = struct {
		Version  int     `json:"version"`
		Pipeline string  `json:"pipeline"`
		Chunks   []Chunk `json:"chunks"`
	}{Version, pipeline, views}
	return l
}
