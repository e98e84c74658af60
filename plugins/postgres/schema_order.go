package postgres

import (
	"cmp"
	"maps"
	"slices"

	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// phases splits steps by phase, in order. Where keys are built too, light indexes join them: a small table is then
// locked, described and committed once for all its indexes.
func phases(steps []*connectorv1.SchemaStep) [][]*connectorv1.SchemaStep {
	by := map[connectorv1.Phase][]*connectorv1.SchemaStep{}
	var order []connectorv1.Phase
	keys, indexes := false, map[uint32]bool{}
	for _, st := range steps {
		keys = keys || st.Phase == inKeys
		indexes[st.Id] = st.Phase == inIndexes
	}
	for _, st := range steps {
		phase := st.Phase
		early := !slices.ContainsFunc(st.After, func(a uint32) bool { return indexes[a] })
		if keys && phase == inIndexes && st.Table > 0 && st.Weight < heavy && early {
			phase = inKeys
		}
		if by[phase] == nil {
			order = append(order, phase)
		}
		by[phase] = append(by[phase], st)
	}
	slices.Sort(order)
	out := make([][]*connectorv1.SchemaStep, len(order))
	for i, p := range order {
		out[i] = by[p]
	}
	return out
}

// waves puts every step one wave after the last of those it needs; steps of one wave may run side by side.
func waves(steps []*connectorv1.SchemaStep) [][]*connectorv1.SchemaStep {
	byID := map[uint32]*connectorv1.SchemaStep{}
	for _, st := range steps {
		byID[st.Id] = st
	}
	level := map[uint32]int{}
	var find func(*connectorv1.SchemaStep) int
	find = func(st *connectorv1.SchemaStep) int {
		if l, ok := level[st.Id]; ok {
			return l
		}
		level[st.Id] = 0 // cuts a cycle
		l := 0
		for _, a := range st.After {
			if b := byID[a]; b != nil {
				l = max(l, find(b)+1)
			}
		}
		level[st.Id] = l
		return l
	}
	var out [][]*connectorv1.SchemaStep
	for _, st := range steps {
		l := find(st)
		for len(out) <= l {
			out = append(out, nil)
		}
		out[l] = append(out[l], st)
	}
	return out
}

// heavy is the size from which an index is built in a transaction of its own.
const heavy = 8 << 20

// locking are kinds that keep changes of a table waiting, or everybody.
var locking = map[string]bool{
	"index": true, "index attachment": true, "primary key": true, "unique constraint": true, "exclusion constraint": true, "foreign key": true,
	"check": true, "trigger": true, "trigger mode": true, "rule": true, "rule mode": true, "policy": true, "row security": true,
}

// job is the work of one session: groups of steps, each a transaction, one after the other.
type job struct {
	groups [][]*connectorv1.SchemaStep
	weight int64
}

// jobs divides steps among sessions, the most work first. Heavy steps are transactions of their own, light ones share some. Beside
// the stream a transaction holds one table only, and not for the time that it takes to get at the next one.
func jobs(steps []*connectorv1.SchemaStep, beside bool) []job {
	alone := func(st *connectorv1.SchemaStep) bool {
		return st.Phase != inTables && st.Weight >= heavy || len(st.Sql) > schemaGroup || beside && (locking[st.Kind] || manyObjects(st))
	}
	chained := oneAfterTheOther(steps, alone)
	chains := map[uint32]*job{}
	var out []job
	var light []*connectorv1.SchemaStep
	for _, st := range steps {
		switch {
		case chained[st.Table]:
			if chains[st.Table] == nil {
				chains[st.Table] = &job{}
			}
			c := chains[st.Table]
			c.groups, c.weight = append(c.groups, []*connectorv1.SchemaStep{st}), c.weight+st.Weight
		case alone(st):
			out = append(out, job{[][]*connectorv1.SchemaStep{{st}}, st.Weight})
		default:
			light = append(light, st)
		}
	}
	for _, table := range slices.Sorted(maps.Keys(chains)) {
		out = append(out, *chains[table])
	}
	slices.SortStableFunc(out, func(a, b job) int { return cmp.Compare(b.weight, a.weight) })
	for _, g := range lightGroups(light) {
		out = append(out, job{groups: [][]*connectorv1.SchemaStep{g}})
	}
	return out
}

// oneAfterTheOther finds tables whose steps would only wait for each other: some take long, and not all are indexes, which
// can be built side by side.
func oneAfterTheOther(steps []*connectorv1.SchemaStep, alone func(*connectorv1.SchemaStep) bool) map[uint32]bool {
	long, others, out := map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}
	for _, st := range steps {
		long[st.Table] = long[st.Table] || alone(st)
		others[st.Table] = others[st.Table] || st.Kind != "index"
	}
	for table := range long {
		out[table] = table > 0 && long[table] && others[table]
	}
	return out
}

// lightGroups puts light steps together. Steps of one table stay in one group: two groups that run side by side must not wait
// for each other.
func lightGroups(small []*connectorv1.SchemaStep) (light [][]*connectorv1.SchemaStep) {
	slices.SortStableFunc(small, func(a, b *connectorv1.SchemaStep) int { return cmp.Compare(a.Table, b.Table) })
	for i, st := range small {
		last := len(light) - 1
		if i == 0 || len(light[last]) >= schemaGroup && (st.Table == 0 || st.Table != small[i-1].Table) {
			light, last = append(light, nil), last+1
		}
		light[last] = append(light[last], st)
	}
	return light
}
