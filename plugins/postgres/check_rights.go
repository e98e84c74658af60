package postgres

import (
	"fmt"
	"strings"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// superuserOnly are kinds that no right lets another role make.
var superuserOnly = map[string]bool{
	"C function": true, "language": true, "shell type": true, "base type": true, "operator family": true, "operator family members": true, "operator class": true,
	"access method": true, "foreign data wrapper": true, "text search parser": true, "text search template": true, "event trigger": true,
}

// forSuperusers reports a step that only a superuser may do.
func forSuperusers(st *connectorv1.SchemaStep) bool {
	switch st.Kind {
	case "cast":
		return strings.Contains(st.Sql[0], " WITHOUT FUNCTION")
	case "publication":
		return strings.Contains(st.Sql[0], " FOR ALL TABLES") || strings.Contains(st.Sql[0], "TABLES IN SCHEMA")
	}
	return superuserOnly[st.Kind]
}

// stepsAhead is what steps mean to each other, before any of them is done.
type stepsAhead struct {
	steps  []*connectorv1.SchemaStep
	byID   map[uint32]*connectorv1.SchemaStep
	needed map[uint32]bool
}

func lookAhead(steps []*connectorv1.SchemaStep) *stepsAhead {
	a := &stepsAhead{steps: steps, byID: map[uint32]*connectorv1.SchemaStep{}, needed: neededByRows(steps)}
	for _, st := range steps {
		a.byID[st.Id] = st
	}
	return a
}

// without says what is lost with a step that nothing with rows needs.
func (a *stepsAhead) without(st *connectorv1.SchemaStep) string {
	gone, first, more := map[uint32]bool{st.Id: true}, "", 0
	for _, s := range a.steps { // every step comes after those it needs
		for _, id := range s.After {
			if !gone[id] || gone[s.Id] || manyObjects(s) {
				continue
			}
			gone[s.Id] = true
			if s.Kind == "comment" || s.Kind == "security label" { // nobody misses them without what they are on
				continue
			}
			if more++; first == "" {
				first = s.Kind + " " + s.Object
			}
		}
	}
	switch more {
	case 0:
		return ""
	case 1:
		return "; " + first + " needs it, and is left out too"
	}
	return fmt.Sprintf("; %s and %d more need it, and are left out too", first, more-1)
}

// lack is the finding for a step that cannot be done: an error only if tables or their constraints need it.
func (f *findings) lack(a *stepsAhead, st *connectorv1.SchemaStep, code diag.Code, object, reason, fix string) {
	if a.needed[st.Id] {
		f.check(true, code, object, reason+", and tables need it", fix)
		return
	}
	f.check(true, diag.NotCarried, object, reason+a.without(st), fix)
}

// rights tells beforehand what the role may not make. What is there already it need not make.
func (f *findings) rights(s *sinkFacts, a *stepsAhead, have theirs) {
	ofDatabase := 0
	for _, st := range a.steps {
		if st.Kind == "setting" || st.Object == "database" || strings.HasPrefix(st.Object, "database for ") {
			ofDatabase++
		}
		if s.SuperUser || !forSuperusers(st) {
			continue
		}
		if there, differs := have.differs(st); there && !differs {
			f.Checks++
			continue
		}
		f.lack(a, st, diag.TargetRights, st.Kind+" "+st.Object, "only a superuser may make it",
			a.schemaOf(st)+byHand(st)+"  -- as a superuser, in database "+s.Database)
	}
	f.check(ofDatabase > 0 && !s.OwnsDatabase, diag.NotCarried, "database "+s.Database,
		fmt.Sprintf("%d settings and comments of the database can only be made by its owner, which role %s is not", ofDatabase, s.Role),
		"ALTER DATABASE "+ident(s.Database)+" OWNER TO "+ident(s.Role)+";  -- or let its owner run what the summary lists")
}

// schemaOf makes the place for what somebody makes by hand before the copy.
func (a *stepsAhead) schemaOf(st *connectorv1.SchemaStep) string {
	for _, id := range st.After {
		if s := a.byID[id]; s != nil && s.Kind == "schema" && s.Object != "public" {
			return byHand(s) + " "
		}
	}
	return ""
}
