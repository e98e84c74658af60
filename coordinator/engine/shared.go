package engine

import (
	"slices"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// withShared adds to what the target's check has found the tables that another pipeline follows into. With one of them, that tables
// are not empty is no matter of emptying them: the rows are the other one's.
func withShared(r *connectorv1.CheckResponse, ours *catalog) ([]*connectorv1.Problem, error) {
	theirs, err := neighbours(r)
	if err != nil || len(theirs) == 0 {
		return r.GetProblems(), err
	}
	var shared []*connectorv1.Problem
	err = ours.eachTable(func(t *rowv1.Table) error {
		name := targetName(t)
		if other := theirs[name]; other != "" && len(shared) < mostOthers {
			shared = append(shared, &connectorv1.Problem{Code: diag.SharedTarget.ID, Side: "target", Object: "table " + name,
				Reason: "pipeline " + other + " follows into it",
				Fix: []string{"Leave it out here: tables: {exclude: ['" + name + "']}, or use another target.",
					"Or end the other one, which leaves its rows: drover delete " + other}})
		}
		return nil
	})
	if len(shared) == 0 || err != nil {
		return r.GetProblems(), err
	}
	rest := slices.DeleteFunc(slices.Clone(r.GetProblems()), func(x *connectorv1.Problem) bool { return x.Code == diag.NotEmpty.ID })
	return append(shared, rest...), nil
}

// neighbours are the target's tables that other pipelines follow into, by name.
func neighbours(r *connectorv1.CheckResponse) (map[string]string, error) {
	theirs := map[string]string{}
	for _, n := range r.GetNeighbours() {
		memo, err := readMemo(n.Memo)
		if err != nil {
			return nil, err
		}
		if memo.GetSpec().GetMode() != controlv1.Mode_MODE_FULL_LOAD_AND_CDC {
			continue
		}
		c, err := newCatalog(memo.GetCatalog())
		if err != nil {
			return nil, err
		}
		_ = c.eachTable(func(t *rowv1.Table) error {
			theirs[targetName(t)] = n.Pipeline
			return nil
		})
	}
	return theirs, nil
}

func targetName(t *rowv1.Table) string {
	return t.GetTarget().GetSchema() + "." + t.GetTarget().GetName()
}
