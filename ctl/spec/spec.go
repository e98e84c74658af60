// Package spec reads pipeline files. Decoding is strict: an unknown key, a wrong type or unit is an
// error with line and column.
package spec

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/telemetry"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// File is a pipeline file. Each comment is what `drover explain FIELD` prints.
type File struct {
	Version int               `yaml:"version" explain:"Version of the file format; 1."`
	Name    string            `yaml:"name" explain:"Name of the pipeline: lower-case letters, digits, - and _, at most 40. Slot, publication and tokens carry it."`
	Labels  map[string]string `yaml:"labels" explain:"Free labels, shown in lists."`
	Mode    string            `yaml:"mode" explain:"full-load-and-cdc (default) keeps the target in sync; full-load copies once. Drover never falls back from one to the other."`
	Source  Database          `yaml:"source" explain:"The database to read: a URL, or url and password."`
	Target  Database          `yaml:"target" explain:"The database to write: a URL, or url and password."`
	Tables  Tables            `yaml:"tables" explain:"Which tables: a list of globs, or include and exclude. \"*\" is everything; \"shop.*\" one schema."`
	Schema  Schema            `yaml:"schema" explain:"What is created at the target."`
	Load    Load              `yaml:"load" explain:"How the full load is done."`
	CDC     CDC               `yaml:"cdc" explain:"How changes are read and applied."`
	Verify  Verify            `yaml:"verify" explain:"How the result is compared."`
}

// Database is one end of the pipeline.
type Database struct {
	Type     string            `yaml:"type" explain:"Connector; by default from the URL's scheme."`
	URL      string            `yaml:"url" explain:"Connection URL without a password, e.g. postgres://user@host:5432/db."`
	Password string            `yaml:"password" explain:"Secret reference: env:NAME or file:PATH, resolved by the agent. Without one PGPASSWORD, .pgpass and service files are honoured."`
	Options  map[string]string `yaml:"options" explain:"Options of the connector."`
}

// Tables selects tables.
type Tables struct {
	Include []string `yaml:"include" explain:"Globs of tables to copy; a pattern that matches nothing is an error."`
	Exclude []string `yaml:"exclude" explain:"Globs of tables to leave out."`
}

// Schema says what is created at the target.
type Schema struct {
	Create *bool `yaml:"create" explain:"true (default): create schema objects at the target. false: you made the tables yourself."`
}

// Load tunes the full load.
type Load struct {
	WhenNotEmpty string `yaml:"when_not_empty" explain:"fail (default): refuse a target table that has rows. truncate: empty it first."`
	Chunk        Chunk  `yaml:"chunk" explain:"Size of chunks."`
	Parallel     string `yaml:"parallel" explain:"auto (default), or how many loads run at the same time, each of some chunks."`
	Lane         string `yaml:"lane" explain:"native (default): rows keep the database's own encoding where both ends share it. arrow: always decoded."`
}

// DefaultChunkBytes is the size of a chunk unless the file says otherwise.
const DefaultChunkBytes = 16 << 20

// Chunk tunes chunk sizes.
type Chunk struct {
	Target string `yaml:"target" explain:"Size of a chunk, e.g. 16MiB (default). One load takes as many as move in about 10 s, up to 128MiB."`
}

// CDC tunes change data capture.
type CDC struct {
	Apply     string `yaml:"apply" explain:"transactional (default): every commit at the target is a state the source had."`
	Heartbeat string `yaml:"heartbeat" explain:"How often a mark is written to the source's log so that an idle slot moves, e.g. 10s (default)."`
}

// Verify tunes the comparison after a full load.
type Verify struct {
	AfterLoad string `yaml:"after_load" explain:"checksum (default): compare row counts and row sums of every table. none: only what was counted while loading."`
}

// UnmarshalYAML takes a plain URL or a mapping.
func (d *Database) UnmarshalYAML(b []byte) error {
	var s string
	if err := yaml.Unmarshal(b, &s); err == nil {
		d.URL = s
		return nil
	}
	type plain Database
	return yaml.UnmarshalWithOptions(b, (*plain)(d), yaml.Strict())
}

// UnmarshalYAML takes a plain list of globs or a mapping.
func (t *Tables) UnmarshalYAML(b []byte) error {
	var l []string
	if err := yaml.Unmarshal(b, &l); err == nil {
		t.Include = l
		return nil
	}
	type plain Tables
	return yaml.UnmarshalWithOptions(b, (*plain)(t), yaml.Strict())
}

// Parse decodes and checks a pipeline file; name is used in messages only.
func Parse(name string, b []byte) (*controlv1.Spec, error) {
	var f File
	if err := yaml.UnmarshalWithOptions(b, &f, yaml.Strict()); err != nil {
		return nil, diag.SpecInvalid.New(name, nil, "%s", telemetry.Redact(yaml.FormatError(err, false, true)))
	}
	s, problems := f.spec()
	if len(problems) > 0 {
		return nil, diag.SpecInvalid.New(name, nil, "%s", strings.Join(problems, "\n"))
	}
	return s, nil
}

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,39}$`)

const nameWords = "must be 1 to 40 lower-case letters, digits, - or _, and not begin with a sign"

// CheckName says what is wrong with the name of a pipeline, which becomes part of a path and of names in databases.
func CheckName(where, name string) error {
	if nameRule.MatchString(name) {
		return nil
	}
	return diag.Usage.New(where, nil, "%q %s", name, nameWords)
}

// spec returns the decoded spec and all problems at once.
func (f *File) spec() (*controlv1.Spec, []string) {
	var p []string
	bad := func(format string, args ...any) { p = append(p, fmt.Sprintf(format, args...)) }
	if f.Version != 1 {
		bad("version: must be 1, not %d", f.Version)
	}
	if !nameRule.MatchString(f.Name) {
		bad("name: %q %s", f.Name, nameWords)
	}
	s := &controlv1.Spec{Version: 1, Name: f.Name, Labels: f.Labels, Include: f.Tables.Include, Exclude: f.Tables.Exclude,
		Schema: f.Schema.Create == nil || *f.Schema.Create}
	s.Mode = controlv1.Mode_MODE_FULL_LOAD_AND_CDC
	if choice(&p, "mode", f.Mode, "full-load-and-cdc", "full-load") == "full-load" {
		s.Mode = controlv1.Mode_MODE_FULL_LOAD
	}
	s.WhenNotEmpty = choice(&p, "load.when_not_empty", f.Load.WhenNotEmpty, "fail", "truncate")
	s.Lane = choice(&p, "load.lane", f.Load.Lane, "native", "arrow")
	s.Apply = choice(&p, "cdc.apply", f.CDC.Apply, "transactional")
	s.Verify = choice(&p, "verify.after_load", f.Verify.AfterLoad, "checksum", "none")
	var err error
	if s.ChunkBytes, err = size(f.Load.Chunk.Target, DefaultChunkBytes); err != nil {
		bad("load.chunk.target: %v", err)
	}
	if f.Load.Parallel != "" && f.Load.Parallel != "auto" {
		n, err := strconv.Atoi(f.Load.Parallel)
		if err != nil || n < 1 || n > 256 {
			bad("load.parallel: %q must be auto or 1 to 256", f.Load.Parallel)
		}
		s.Parallel = int32(n)
	}
	s.HeartbeatSeconds = 10
	if f.CDC.Heartbeat != "" {
		d, err := time.ParseDuration(f.CDC.Heartbeat)
		if err != nil || d < time.Second {
			bad("cdc.heartbeat: %q must be a duration of at least 1s", f.CDC.Heartbeat)
		}
		s.HeartbeatSeconds = int64(d / time.Second)
	}
	if s.Source, err = f.Source.endpoint("source", connectorv1.Role_ROLE_SOURCE, f.Name); err != nil {
		bad("source: %v", err)
	}
	if s.Source != nil && f.CDC.Heartbeat != "" {
		if s.Source.Options == nil {
			s.Source.Options = map[string]string{}
		}
		s.Source.Options["heartbeat"] = f.CDC.Heartbeat
	}
	if s.Target, err = f.Target.endpoint("target", connectorv1.Role_ROLE_SINK, f.Name); err != nil {
		bad("target: %v", err)
	}
	return s, p
}

// choice returns v, or the first allowed word when v is empty.
func choice(p *[]string, field, v string, allowed ...string) string {
	if v == "" {
		return allowed[0]
	}
	for _, a := range allowed {
		if v == a {
			return v
		}
	}
	*p = append(*p, fmt.Sprintf("%s: %q must be %s", field, v, strings.Join(allowed, " or ")))
	return v
}

var sizeRule = regexp.MustCompile(`^(\d+)\s*(B|KiB|MiB|GiB)$`)

func size(s string, def int64) (int64, error) {
	if s == "" {
		return def, nil
	}
	m := sizeRule.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%q is not a size such as 16MiB", s)
	}
	n, err := strconv.ParseInt(m[1], 10, 40)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is out of range", s)
	}
	return n << map[string]int{"B": 0, "KiB": 10, "MiB": 20, "GiB": 30}[m[2]], nil
}

func (d Database) endpoint(name string, role connectorv1.Role, pipeline string) (*fleetv1.Endpoint, error) {
	e, password, err := Endpoint(d.URL, name, role, pipeline)
	if err != nil {
		return nil, err
	}
	if password != "" {
		return nil, fmt.Errorf("the URL holds a password; use password: env:NAME or file:PATH")
	}
	if d.Password != "" && !strings.HasPrefix(d.Password, "env:") && !strings.HasPrefix(d.Password, "file:") {
		return nil, fmt.Errorf("password must be a reference env:NAME or file:PATH, not the secret itself")
	}
	if d.Type != "" {
		e.Connector = d.Type
	}
	e.Secret, e.Options = d.Password, d.Options
	return e, nil
}
