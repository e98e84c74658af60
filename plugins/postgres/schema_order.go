package postgres

import (
	"cmp"
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

// group puts heavy steps alone, biggest first, and light ones together. Steps of one table stay in one group: two
// groups that run side by side must not wait for each other.
func group(steps []*connectorv1.SchemaStep) [][]*connectorv1.SchemaStep {
	var out, light [][]*connectorv1.SchemaStep
	var small []*connectorv1.SchemaStep
	for _, st := range steps {
		if st.Phase != inTables && st.Weight >= heavy || len(st.Sql) > schemaGroup {
			out = append(out, []*connectorv1.SchemaStep{st})
			continue
		}
		small = append(small, st)
	}
	slices.SortStableFunc(out, func(a, b []*connectorv1.SchemaStep) int { return cmp.Compare(b[0].Weight, a[0].Weight) })
	slices.SortStableFunc(small, func(a, b *connectorv1.SchemaStep) int { return cmp.Compare(a.Table, b.Table) })
	for i, st := range small {
		last := len(light) - 1
		if i == 0 || len(light[last]) >= schemaGroup && (st.Table == 0 || st.Table != small[i-1].Table) {
			light, last = append(light, nil), last+1
		}
		light[last] = append(light[last], st)
	}
	return append(out, light...)
}
