package stream

import "testing"

// sweep runs the model up to n times and counts outcomes, until more than enough runs have failed.
func sweep(n, enough int, r rules) (runs, failed int, first string, stats map[string]int) {
	stats = map[string]int{}
	for seed := 0; seed < n && failed <= enough; seed++ {
		runs++
		m := newModel(uint64(seed), r)
		if err := m.run(); err != nil {
			if failed == 0 {
				first = err.Error()
			}
			failed++
		}
		for k, v := range m.stats {
			stats[k] += v
		}
	}
	return runs, failed, first, stats
}

// histories is how many are tried of each kind: enough for every ablation to be seen, in a time that every change can pay.
const histories = 500

// TestModel_Converges: with all rules on every run ends with the target equal to the source (Invariants 1 to 9).
func TestModel_Converges(t *testing.T) {
	for name, r := range map[string]rules{
		"exact coverage, partial images": {},
		"commits that stay invisible":    {slow: true},
		"large rows":                     {large: true, truncates: true},
		"one unit, large rows":           {unit: true, large: true},
		"no key":                         {unit: true, fullRow: true, fullImages: true},
		"floors only, full images":       {noExact: true, fullImages: true},
		"set aside, loaded again":        {asides: true, slow: true},
		"a unit set aside":               {asides: true, unit: true, slow: true},
		"no key, set aside":              {asides: true, unit: true, fullRow: true, fullImages: true, slow: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, failed, first, stats := sweep(histories, histories, r)
			t.Log(stats)
			if !r.noExact && stats["compared"] == 0 {
				t.Error("no run compares while it goes on")
			}
			if r.large && stats["renewed"] == 0 {
				t.Error("no row was read again for its size")
			}
			if r.asides && stats["reloads"] < histories {
				t.Errorf("a table is loaded again %d times only", stats["reloads"])
			}
			if failed > 0 {
				t.Errorf("%d of %d runs failed, the first with: %s", failed, histories, first)
			}
			for _, what := range []string{"dropped", "truncates", "done"} {
				if stats[what] == 0 {
					t.Errorf("no run has %s: the model tests nothing", what)
				}
			}
		})
	}
}

// TestModel_EveryRuleIsNeeded: without any one of the rules runs fail.
func TestModel_EveryRuleIsNeeded(t *testing.T) {
	for name, r := range map[string]rules{
		"floor without visibility check": {noVisibility: true, slow: true},
		"release before visible":         {noWait: true, slow: true},
		"no hold":                        {noHold: true},
		"no drop":                        {noDrop: true},
		"no re-read":                     {noReread: true},
		"re-read not kept as a chunk":    {noKeyCoverage: true},
		"no coverage, partial images":    {noExact: true},
		"multiplicity ignored":           {unit: true, fullRow: true, fullImages: true, oneEach: true},
		"no key and no coverage":         {unit: true, fullRow: true, fullImages: true, noExact: true},
		"hold without ids":               {noHeldIDs: true, slow: true},
		"truncates empty everything":     {noOutlive: true, truncates: true},
		"set aside, the target not told": {asides: true, volatileAside: true},
		"set aside, not in rounds":       {asides: true, unmentioned: true, slow: true},
		"set aside, not waited for":      {asides: true, asideUnseen: true, slow: true},
		"loaded again on top of rows":    {asides: true, keepStale: true},
		"loaded again too early":         {asides: true, hasty: true, slow: true, unit: true},
	} {
		t.Run(name, func(t *testing.T) {
			runs, failed, first, _ := sweep(2000, 2, r)
			t.Logf("%d of %d runs failed, the first with: %s", failed, runs, first)
			if failed == 0 {
				t.Error("every run converged: the rule is not needed, or the model does not test it")
			}
		})
	}
}
