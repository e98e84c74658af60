package engine

import (
	"fmt"
	"testing"

	"github.com/droverdb/drover/coordinator/schedule"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// mixed is a pipeline of tables of every kind: small and large ones, keyed ones and units.
func mixed(t testing.TB, mode controlv1.Mode) *Pipeline {
	d := shop(12)
	for i, x := range d.Tables {
		if i%2 == 0 {
			x.Gate = rowv1.GateMode_GATE_MODE_UNIT
		}
		if i < 4 {
			x.EstimatedBytes = int64(i+1) << 30
		}
	}
	p := discovered(t, d)
	p.spec.Mode = mode
	p.listLeft()
	return p
}

func TestLeft_EveryTableHasItsPlace(t *testing.T) {
	p := mixed(t, controlv1.Mode_MODE_FULL_LOAD)
	if l := &p.run.left; len(l.near) != 0 || len(l.far) != 8 || len(l.uncut) != 4 || len(l.units) != 12 || l.nextUncut() != p.tables[3] {
		t.Errorf("a plain copy has %d near, %d far, %d to be cut, %d under a snapshot", len(l.near), len(l.far), len(l.uncut), len(l.units))
	}
	p = mixed(t, controlv1.Mode_MODE_FULL_LOAD_AND_CDC)
	if l := &p.run.left; len(l.near) != 0 || len(l.far) != 4 || len(l.uncut) != 4 || len(l.units) != 6 || l.nextUncut() != p.tables[3] {
		t.Errorf("a followed one has %d near, %d far, %d to be cut, %d under a snapshot", len(l.near), len(l.far), len(l.uncut), len(l.units))
	}
	p.group(p.run.left.units[:3]) // two large ones and a small one
	if l := &p.run.left; len(p.run.group) != 3 || len(l.near) != 1 {
		t.Errorf("%d are in a group, %d of them may be granted", len(p.run.group), len(l.near))
	}
	for _, x := range p.tables {
		x.Loaded = true
	}
	p.listLeft()
	if p.run.left.some() || !p.allLoaded() {
		t.Error("something is left when all is loaded")
	}
}

// What is cut or fails while small tables wait goes before them, until it is loaded or set aside.
func TestLeft_BiggestFirst(t *testing.T) {
	p := mixed(t, controlv1.Mode_MODE_FULL_LOAD)
	l := &p.run.left
	all := l.farBytes
	first := l.approach()
	l.approach()
	large := p.tables[3]
	large.Split = true
	l.add(large)
	if l.near[0] != large || l.near[1] != first || l.nextUncut() != p.tables[2] || l.farBytes >= all {
		t.Errorf("%d near, %d bytes far, next to be cut is %s", len(l.near), l.farBytes, l.nextUncut().name())
	}
	large.Loaded, first.Aside = true, true
	if l.forget(); len(l.near) != 1 {
		t.Errorf("%d are near", len(l.near))
	}
}

// underWay is a pipeline of n tables that all agents are busy with.
func underWay(b *testing.B, n int) *Pipeline {
	p := discovered(b, shop(n))
	p.spec.Mode = controlv1.Mode_MODE_FULL_LOAD_AND_CDC
	p.listLeft()
	for slot := range 2 {
		l := &load{Pair: schedule.Pair{Reader: fmt.Sprint(slot), Writer: fmt.Sprint(slot)}}
		for range 64 {
			t := p.run.left.approach()
			p.enterWhole(t)
			for id := range t.chunks {
				l.chunks = append(l.chunks, id)
			}
		}
		p.fly(l)
	}
	return p
}

// BenchmarkDrive is what the actor does after every message while tables load: the same however many there are.
func BenchmarkDrive(b *testing.B) {
	for _, n := range []int{200, 20_000} {
		b.Run(fmt.Sprint("tables=", n), func(b *testing.B) {
			p := underWay(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if err := p.drive(b.Context()); err != nil || p.allLoaded() {
					b.Fatal("it ended", err)
				}
			}
		})
	}
}
