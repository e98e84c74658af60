package view

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// listings are answers of every verb, with names and texts that a format could trip over.
func listings() map[string]Listing {
	now := time.UnixMicro(started + 60_000000)
	done := &controlv1.Status{Pipeline: "1e3", Phase: controlv1.Phase_PHASE_DONE, Health: controlv1.Health_HEALTH_OK, Mode: controlv1.Mode_MODE_FULL_LOAD, LoadFraction: 1}
	tables := []*controlv1.TableStatus{
		{Source: "shop.orders", Target: "app.orders", State: "loading", RowsEstimate: 606_118_204, Rows: 412_000_000, RowsInFlight: 7, Bytes: 90 << 20, BytesEstimate: 120 << 20,
			BytesInFlight: 5 << 20, ChunksTotal: 10, ChunksDone: 7, Fraction: 0.78, FractionAcknowledged: 0.68, Gate: "GATE_MODE_KEYED", Lane: "pgcopy-binary"},
		{Source: "shop.\x1b[2J\"évil\": 長い\n", Target: "shop.x", State: "failed", Gate: "GATE_MODE_UNIT_FULL_ROW", GateReason: "it has no key", Lane: "arrow", Compared: "differs",
			Failure: &fleetv1.Failure{Code: "E3006", Where: "source › table", Why: "no key: # none", Fix: []string{"ALTER TABLE x REPLICA IDENTITY FULL;"}, Class: fleetv1.FailureClass_FAILURE_CLASS_HOLD}},
	}
	chunks := []*controlv1.ChunkStatus{
		{Id: 7, Table: "shop.orders", State: "in flight", Agent: "dc1-a", Epoch: 12, Attempts: 2, BytesEstimate: 64 << 20, BytesInFlight: 5 << 20, Floor: "0/1A2B3C", StartedMicros: started},
		{Id: 3<<32 | 1, Table: "shop.items", State: "written", Agent: "dc1-a", Epoch: 9, Attempts: 1, Rows: 1_200_000, Bytes: 63 << 20, BytesEstimate: 64 << 20, Coverage: "0/FF00",
			StartedMicros: started, EndedMicros: started + 1_500000},
		{Id: 3<<32 | 2, Table: "shop.items", State: "pending"},
	}
	var events []Event
	for i, l := range []string{"phase load", "E2008: \"a lock\" - is in the way: # try <again> & again"} {
		events = append(events, FromLog("shop", &controlv1.LogsResponse{Micros: started + int64(i)*1_234567, Level: []string{"info", "warn"}[i], Text: l}))
	}
	problems := []*connectorv1.Problem{
		{Code: "W3012", Warning: true, Side: "source", Object: "max_slot_wal_keep_size", Reason: "it is 1GB", Fix: []string{"ALTER SYSTEM SET max_slot_wal_keep_size = -1;"}},
		{Code: "E3001", Side: "source", Object: "wal_level", Reason: "it is replica", Fix: []string{"ALTER SYSTEM SET wal_level = 'logical';  -- then restart the server"}},
	}
	return map[string]Listing{
		"list":     Pipelines([]*controlv1.Status{loading(), done}),
		"status":   OneStatus(loading(), nil, now),
		"screen":   OneStatus(loading(), &Style{Width: 100}, now),
		"tables":   TableList("shop", tables),
		"chunks":   ChunkList("shop", chunks),
		"logs":     LogList("shop", events),
		"doctor":   Diagnosis(&controlv1.DoctorResponse{Source: "old:5432/shop", Target: "new:5432/shop", Checks: 33, Problems: problems}, []string{"drover doctor a b --sql source > fix-source.sql"}),
		"nothing":  TableList("shop", nil),
		"failed":   Failed([]Failure{{Code: "E5001", Where: "target › table a", Why: "it has rows", Fix: []string{"TRUNCATE a;"}}}, []string{"drover explain E5001"}),
		"answered": Answer("shop", map[string]any{"pipeline": "shop", "removed": []string{"slot drover_shop"}}, func(w io.Writer, wide bool) { fmt.Fprintln(w, "removed", wide) }),
	}
}

// Every verb answers in every form; the files are what people and programs read.
func TestListing_KeepsEveryFormat(t *testing.T) {
	for name, l := range listings() {
		for _, format := range Formats {
			var out, data strings.Builder
			if err := l.Write(&out, &data, format); err != nil {
				t.Errorf("%s as %s: %v", name, format, err)
			}
			if (format == "table" || format == "wide") == (out.Len() == 0) && name != "nothing" && name != "failed" {
				t.Errorf("%s as %s: %d bytes of text, %d of data", name, format, out.Len(), data.Len())
			}
			if strings.Contains(out.String()+data.String(), "\x1b") {
				t.Errorf("%s as %s: a name moves the cursor", name, format)
			}
			if format == "json" && !strings.HasPrefix(data.String(), "{\n  \"version\": 1,") {
				t.Errorf("%s tells no version: %s", name, data.String())
			}
			golden(t, "formats/"+name+"."+format, out.String()+data.String())
		}
	}
}

// YAML holds what JSON holds, whatever is in the names; a line of JSONL is read alone.
func TestListing_FormatsHoldTheSame(t *testing.T) {
	for name, l := range listings() {
		var asJSON, asYAML, asLines strings.Builder
		for format, to := range map[string]io.Writer{"json": &asJSON, "yaml": &asYAML, "jsonl": &asLines} {
			if err := l.Write(io.Discard, to, format); err != nil {
				t.Fatal(err)
			}
		}
		var want, got any
		if err := json.Unmarshal([]byte(asJSON.String()), &want); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(asYAML.String()), &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := json.Marshal(got)
		if err == nil {
			err = json.Unmarshal(again, &got)
		}
		if err != nil || !reflect.DeepEqual(want, got) {
			t.Errorf("%s: %v\n%s\nis not\n%s", name, err, asYAML.String(), asJSON.String())
		}
		for _, line := range strings.Split(strings.TrimSpace(asLines.String()), "\n") {
			var item struct{ Version int }
			if line != "" && (json.Unmarshal([]byte(line), &item) != nil || item.Version != Version) {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}

// Every one of these is something else than text to some reader of YAML.
func TestYAML_TextStaysText(t *testing.T) {
	for _, s := range []string{"no", "y", "NULL", "~", "", "1e3", "0x1f", "012", "12:30", "1_000", ".inf", ".nan", "=", "<<", "-", "- a", "a: b", "a #b", "*x", "&x", "!x", "%x",
		"@x", "`x", "{a}", "[a]", " lead", "trail ", "2026-01-02", "two\nlines", "| x", "> x", "? x", "a:", "tab\tin", "nbsp\u00a0", "\u2028", "quote\"s'", "\x1b"} {
		var b strings.Builder
		if err := writeYAML(&b, map[string]any{"k": s, "l": []string{s}}); err != nil {
			t.Fatal(err)
		}
		var got struct {
			K string
			L []string
		}
		if err := yaml.Unmarshal([]byte(b.String()), &got); err != nil || got.K != s || len(got.L) != 1 || got.L[0] != s {
			t.Errorf("%q became %q, %v: %s", s, got.K, err, b.String())
		}
		switch text := strings.TrimPrefix(strings.Split(b.String(), "\n")[0], "k: "); {
		case strings.HasPrefix(text, `"`), strings.HasPrefix(text, "'"):
		case s == "quote\"s'": // plain in every version of YAML
		default:
			t.Errorf("%q is not quoted: %s", s, text)
		}
	}
}

// An answer without an end is one document after another.
func TestWriteItem_OneAfterAnother(t *testing.T) {
	var out, data strings.Builder
	e := FromLog("shop", &controlv1.LogsResponse{Micros: started, Level: "info", Text: "phase load"})
	for _, format := range append([]string{"yaml", "json"}, Formats...) {
		data.WriteString(format + ":\n")
		if err := WriteEvent(&data, &data, e, format); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "formats/followed.txt", out.String()+data.String())
}

// A script runs: advice and what has gaps are comments in it.
func TestScript_IsSQLOnly(t *testing.T) {
	problems := []*connectorv1.Problem{
		{Side: "source", Object: "wal_level", Fix: []string{"ALTER SYSTEM SET wal_level = 'logical';  -- then restart the server"}},
		{Side: "source", Object: "table a", Fix: []string{"ALTER TABLE a ADD PRIMARY KEY (…);", "Look for text, such as: SELECT 1;"}},
		{Side: "target", Object: "server", Fix: []string{"Use the address of the primary.", "-- emptied by the statement for table a", "TRUNCATE a;"}},
		{Side: "target", Object: "table b", Fix: []string{"-- emptied by the statement for table a", "Decide about\nDROP TABLE b;"}},
	}
	for side, want := range map[string][]string{
		"source": {"ALTER SYSTEM SET wal_level = 'logical';  -- then restart the server", "-- table a: ALTER TABLE a ADD PRIMARY KEY (…);", "-- table a: Look for text, such as: SELECT 1;"},
		"target": {"-- server: Use the address of the primary.", "-- server: emptied by the statement for table a", "TRUNCATE a;", "-- table b: Decide about\n-- DROP TABLE b;"},
	} {
		if got := Script(problems, side); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q", side, got)
		}
	}
}
