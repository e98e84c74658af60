package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/plural"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// sinkVersion warns of a target that may not know what the source's statements say.
func (f *findings) sinkVersion(s *sinkFacts, source string) {
	from, to := majorIn(source), int(s.Version)/10000
	f.check(to < from, diag.OlderTarget, "server", fmt.Sprintf("the source is version %d, the target %d", from, to))
}

// sinkSchema looks ahead at what the steps need and what they would meet.
func (f *findings) sinkSchema(ctx context.Context, tx pgx.Tx, s *sinkFacts, req *connectorv1.CheckRequest) error {
	if len(req.Steps) == 0 {
		return nil
	}
	ahead := lookAhead(req.Steps)
	f.beyondTarget(int(s.Version)/10000, ahead)
	if err := f.extensions(ctx, tx, s, ahead); err != nil {
		return err
	}
	if err := f.settings(ctx, tx, s, req.Steps); err != nil {
		return err
	}
	if err := f.roles(ctx, tx, req.Steps); err != nil {
		return err
	}
	have, err := theirsIfAny(ctx, tx)
	if err != nil {
		return err
	}
	f.tablesTaken(have, req.Steps)
	if req.Resuming {
		return nil
	}
	f.rights(s, ahead, have)
	f.namesTaken(have, req.Steps)
	return nil
}

// extensions looks whether each extension is there or can be made.
func (f *findings) extensions(ctx context.Context, tx pgx.Tx, s *sinkFacts, ahead *stepsAhead) error {
	steps := map[string]*connectorv1.SchemaStep{}
	for _, st := range ahead.steps {
		if st.Kind == "extension" {
			steps[st.Object] = st
		}
	}
	found, err := list[struct {
		Name             string
		Known, There, OK bool
	}](ctx, tx, `
		SELECT w.name, EXISTS (SELECT FROM pg_available_extensions a WHERE a.name = w.name), EXISTS (SELECT FROM pg_extension e WHERE e.extname = w.name),
		       EXISTS (SELECT FROM pg_available_extension_versions v WHERE v.name = w.name AND (v.trusted OR NOT v.superuser))
		FROM unnest($1::text[]) w(name) ORDER BY 1`, slices.Collect(maps.Keys(steps)))
	if err != nil {
		return err
	}
	for _, e := range found {
		st := steps[e.Name]
		switch {
		case e.There, e.Known && (e.OK || s.SuperUser):
			f.Checks++
		case !e.Known:
			f.lack(ahead, st, diag.MissingObject, "extension "+e.Name, "the source has it and the target's server has not",
				"Install the package of extension "+e.Name+" on the target's server.")
		default:
			f.lack(ahead, st, diag.TargetRights, "extension "+e.Name, "only a superuser may make it",
				ahead.schemaOf(st)+byHand(st)+"  -- as a superuser, in database "+s.Database)
		}
	}
	return nil
}

// settings tells where the target has a setting of its own, which is kept, and the source another one.
func (f *findings) settings(ctx context.Context, tx pgx.Tx, s *sinkFacts, steps []*connectorv1.SchemaStep) error {
	carried := map[string]*connectorv1.SchemaStep{}
	for _, st := range steps {
		if st.Kind == "setting" {
			carried[strings.ToLower(st.Object)] = st
		}
	}
	if len(carried) == 0 {
		return nil
	}
	there, err := list[setting](ctx, tx, settingsSQL)
	for _, own := range there {
		st := carried[strings.ToLower(own.object())]
		if st == nil {
			continue
		}
		theirs := *own
		theirs.Value = st.Value
		f.check(own.Value != st.Value, diag.OwnSetting, "setting "+own.object(),
			fmt.Sprintf("it is %q here and %q at the source; it stays as it is here", own.Value, st.Value),
			theirs.sql(ident(s.Database))+";  -- to have the source's")
	}
	return err
}

// roles tells whose objects and rights cannot be carried because the role does not exist.
func (f *findings) roles(ctx context.Context, tx pgx.Tx, steps []*connectorv1.SchemaStep) error {
	uses := map[string][]string{}
	for _, st := range steps {
		switch {
		case st.Kind == "owner":
			uses[st.Object] = append(uses[st.Object], "it owns "+plural.Of(len(st.Sql), "object"))
		case st.Kind == "grant" && st.Object != "PUBLIC":
			uses[st.Object] = append(uses[st.Object], "it is named in "+plural.Of(len(st.Sql), "grant"))
		}
	}
	there, err := list[struct{ Name string }](ctx, tx, "SELECT rolname FROM pg_roles")
	if err != nil {
		return err
	}
	f.Checks += int32(len(uses))
	for _, r := range there {
		delete(uses, r.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		f.Problems = append(f.Problems, problem(diag.NotCarried, f.side, "role "+name,
			strings.Join(uses[name], ", ")+" at the source, and it does not exist here", "CREATE ROLE "+ident(name)+";  -- before the copy"))
	}
	return nil
}

// namesTaken finds objects that are there in another form than the steps would make them. Equal ones are accepted.
func (f *findings) namesTaken(have theirs, steps []*connectorv1.SchemaStep) {
	if len(have) == 0 {
		return
	}
	for _, st := range steps {
		if !compared[st.Kind] {
			continue
		}
		if there, differs := have.differs(st); there {
			f.check(differs, diag.NameTaken, st.Kind+" "+st.Object, "its definition is not that of the source",
				"-- drop it or rename it; the copy makes that of the source")
		}
	}
}

// tablesTaken compares tables that are there, whoever made them, with those that the steps would make.
func (f *findings) tablesTaken(have theirs, steps []*connectorv1.SchemaStep) {
	for _, st := range steps {
		sql, there := have.table(st)
		if !there || st.Kind != "table" && st.Kind != "partitioned table" {
			continue
		}
		object := st.Kind + " " + st.Object
		refused, named := sorted(tableDiffers(st, sql))
		f.check(len(refused) > 0, diag.NameTaken, object, said(refused), statements(refused)...)
		if len(named) > 0 {
			f.check(true, diag.TableDiffers, object, said(named), statements(named)...)
		}
	}
}

// theirsIfAny reads a database only if somebody has made something in it.
func theirsIfAny(ctx context.Context, tx pgx.Tx) (theirs, error) {
	var some bool
	if err := tx.QueryRow(ctx, anythingSQL).Scan(&some); err != nil || !some {
		return nil, err
	}
	return readTheirs(ctx, tx)
}
