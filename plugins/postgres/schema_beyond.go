package postgres

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// novelty is what statements can say only from some version on.
type novelty struct {
	since int
	kinds string // of steps, parted by |; empty: all but functions, whose bodies are text
	says  *regexp.Regexp
	what  string
}

// novelties begin with the newest: the first that a statement holds and a server lacks is told.
var novelties = []novelty{
	{18, "table|foreign table|partitioned table", regexp.MustCompile(`\) VIRTUAL\b`), "virtual generated columns"},
	{18, "", regexp.MustCompile(`\bWITHOUT OVERLAPS\b`), "keys WITHOUT OVERLAPS"},
	{18, "foreign key", regexp.MustCompile(`\bPERIOD ""`), "foreign keys of periods"},
	{18, "foreign key|check|foreign table check", regexp.MustCompile(`\bNOT ENFORCED\b`), "constraints that are NOT ENFORCED"},
	{18, "not null", regexp.MustCompile(`\bNOT VALID\b`), "NOT NULL that is NOT VALID"},
	{18, "table|foreign table|partitioned table", regexp.MustCompile(`\bNOT NULL ("" )?NO INHERIT\b`), "NOT NULL that is not inherited"},
	{18, "publication", regexp.MustCompile(`\bpublish_generated_columns\b`), "publications of generated columns"},
	{18, "", regexp.MustCompile(`\b(uuidv4|uuidv7|casefold|array_sort|array_reverse)\(`), "functions of PostgreSQL 18"},
	{17, "", regexp.MustCompile(`\bJSON_(TABLE|QUERY|VALUE|EXISTS|SCALAR|SERIALIZE)\(`), "functions of SQL/JSON"},
	{17, "collation", regexp.MustCompile(`\bprovider = builtin\b`), "collations of the provider builtin"},
	{17, "event trigger", regexp.MustCompile(` ON login\b`), "event triggers on login"},
	{16, "", regexp.MustCompile(`\bIS (NOT )?JSON\b|\bJSON_(OBJECT|ARRAY|OBJECTAGG|ARRAYAGG)\(`), "constructors and predicates of SQL/JSON"},
	{16, "collation", regexp.MustCompile(`, rules = `), "collations with rules"},
	{15, "unique constraint|index", regexp.MustCompile(`\bNULLS NOT DISTINCT\b`), "unique indexes with NULLS NOT DISTINCT"},
	{15, "foreign key", regexp.MustCompile(`\bSET (NULL|DEFAULT) \(`), "foreign keys that set some of their columns"},
	{15, "view", regexp.MustCompile(`\bsecurity_invoker\b`), "views with security_invoker"},
	{15, "sequence", regexp.MustCompile(`^CREATE UNLOGGED `), "unlogged sequences"},
	{15, "publication", regexp.MustCompile(`\bTABLES IN SCHEMA\b|\bONLY \S+ (\(|WHERE \()`), "publications of columns, rows or schemas"},
	{14, "", regexp.MustCompile(`\bmultirange_type_name\b|\b\w+multirange\b`), "multiranges"},
	{14, "", regexp.MustCompile(`\bCOMPRESSION\b`), "columns with a compression of their own"},
}

// namedOrWritten is what people named or wrote, in which words mean nothing.
var namedOrWritten = regexp.MustCompile(`"(?:[^"]|"")*"|'(?:[^']|'')*'`)

// beyond names what a step says that a server of that version does not know, and since when others do.
func beyond(st *connectorv1.SchemaStep, major int) string {
	if major == 0 || major >= newestMajor || len(st.Sql) == 0 || strings.HasSuffix(st.Kind, "function") || st.Kind == "procedure" {
		return ""
	}
	sql := namedOrWritten.ReplaceAllString(strings.Join(st.Sql, ";\n"), `""`)
	for _, n := range novelties {
		if n.since > major && (n.kinds == "" || strings.Contains("|"+n.kinds+"|", "|"+st.Kind+"|")) && n.says.MatchString(sql) {
			return fmt.Sprintf("%s exist since PostgreSQL %d, and the target is %d", n.what, n.since, major)
		}
	}
	return ""
}

// keepsRows: without it there is no place for rows, or none to find them again.
func keepsRows(st *connectorv1.SchemaStep) bool {
	return st.Kind == "table" || st.Kind == "partitioned table" || st.Phase == inKeys
}

// beyondTarget tells beforehand what the target's version has no words for.
func (f *findings) beyondTarget(major int, a *stepsAhead) {
	for _, st := range a.steps {
		why := beyond(st, major)
		switch object := st.Kind + " " + st.Object; {
		case why == "":
		case a.needed[st.Id] || keepsRows(st):
			f.check(true, diag.MissingObject, object, why, "Use a target of a newer version, change the table at the source, or exclude it.")
		default:
			f.check(true, diag.NotCarried, object, why+a.without(st), "Use a target of a newer version, or do without it there.")
		}
	}
}

// ofTable is NOT NULL as a constraint of a table, which names the column. SET NOT NULL follows in any case.
var ofTable = regexp.MustCompile(`CONSTRAINT "(?:[^"]|"")+" NOT NULL "(?:[^"]|"")+"(, |(\)))|, CONSTRAINT "(?:[^"]|"")+" NOT NULL "(?:[^"]|"")+"`)

// forMajor are the steps in words that a server of that version knows, where it can say the same in others.
func forMajor(major int, steps []*connectorv1.SchemaStep) []*connectorv1.SchemaStep {
	if major == 0 || major >= 18 {
		return steps
	}
	out := slices.Clone(steps)
	for i, st := range out {
		if !holdsParts[st.Kind] || len(st.Sql) == 0 {
			continue
		}
		out[i] = proto.CloneOf(st)
		if !strings.Contains(st.Sql[0], " NO INHERIT") {
			out[i].Sql[0] = ofTable.ReplaceAllString(st.Sql[0], "$2")
		}
		if major < 15 { // where every sequence is in the log
			out[i].Sql = slices.DeleteFunc(out[i].Sql, ofSequence.MatchString)
		}
	}
	return out
}

// ofSequence makes the sequence of an identity column logged, though its table is not, or the other way round.
var ofSequence = regexp.MustCompile(`^ALTER SEQUENCE .* SET (UN)?LOGGED$`)
