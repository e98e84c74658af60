package postgres

import (
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// spared are kinds that a copy can do without: when the target may or can not have one, and no rows need it, it is named with its
// SQL, and the rest goes on.
var spared = map[string]bool{
	"extension": true, "function": true, "C function": true, "procedure": true, "aggregate": true, "language": true, "transform": true,
	"cast": true, "operator": true, "operator family": true, "operator family members": true, "operator class": true, "access method": true,
	"shell type": true, "base type": true, "collation": true, "conversion": true, "text search parser": true, "text search template": true,
	"text search dictionary": true, "text search configuration": true, "foreign data wrapper": true, "foreign server": true,
	"foreign table": true, "user mapping": true, "comment": true, "security label": true, "setting": true,
}

// holdsRows are steps that make a place for rows, or make sure of something about them.
func holdsRows(st *connectorv1.SchemaStep) bool {
	switch st.Kind {
	case "table", "partitioned table", "default", "primary key", "unique constraint", "exclusion constraint", "foreign key", "check", "not null", "domain check":
		return true
	}
	return st.Phase == inKeys
}

// neededByRows are the steps that tables and their constraints need, directly or not.
func neededByRows(steps []*connectorv1.SchemaStep) map[uint32]bool {
	byID := make(map[uint32]*connectorv1.SchemaStep, len(steps))
	for _, st := range steps {
		byID[st.Id] = st
	}
	needed := map[uint32]bool{}
	var mark func(*connectorv1.SchemaStep)
	mark = func(st *connectorv1.SchemaStep) {
		for _, a := range st.After {
			if b := byID[a]; b != nil && !needed[a] {
				needed[a] = true
				mark(b)
			}
		}
	}
	for _, st := range steps {
		if holdsRows(st) {
			mark(st)
		}
	}
	return needed
}

// lacking reports a refusal for what the target is, not for what the statement says: the role has no right, or the server no such
// library, file, module or locale.
func lacking(st *connectorv1.SchemaStep, pe *pgconn.PgError) bool {
	switch {
	case pe.Code == "42501", pe.Code == "58P01", pe.Code == "F0000", strings.HasPrefix(pe.Code, "HV"):
		return true
	case st.Kind == "comment", st.Kind == "security label", st.Kind == "setting":
		return true
	case pe.Code == "0A000":
		return st.Kind == "extension" || st.Kind == "collation"
	case pe.Code == "42883": // the library has no such function
		return st.Kind == "C function"
	case pe.Code == "42704": // a locale, a role
		return st.Kind == "collation" || st.Kind == "user mapping"
	}
	return false
}

// spare is the warning for a step that is not carried though everything else is.
func spare(st *connectorv1.SchemaStep, why string) *connectorv1.Problem {
	return problem(diag.NotCarried, "target", st.Kind+" "+st.Object, why, byHand(st))
}

// byHand is what somebody who may can run at the target.
func byHand(st *connectorv1.SchemaStep) string {
	return strings.TrimRight(strings.Join(st.Sql, ";\n"), "\n") + ";"
}
