package engine

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// sequencesEvery is how often the values of sequences, which are in no log, are carried over while changes stream.
const sequencesEvery = 10 * time.Second

// Kinds of steps that belong to the rows: they set the value of a sequence, or fill a materialised view.
const (
	sequenceValue = "sequence value"
	viewRows      = "materialised view rows"
)

// sequences puts the values that sequences have by now into the catalog; tables and other steps stay as they were.
func (p *Pipeline) sequences(ctx context.Context) error {
	moved, err := p.movedSequences(ctx)
	if err != nil || len(moved) == 0 {
		return err
	}
	if err := p.rememberValues(moved); err != nil {
		return err
	}
	return p.save(ctx, p.catalog.put(p.name)...)
}

// movedSequences reads the values of sequences and returns the steps of those that have others than the catalog says.
func (p *Pipeline) movedSequences(ctx context.Context) (moved []*connectorv1.SchemaStep, err error) {
	if p.catalog.count.values == 0 {
		return nil, nil
	}
	known := map[string]*connectorv1.SchemaStep{}
	err = p.catalog.eachStep(func(s *connectorv1.SchemaStep) {
		if s.Kind == sequenceValue {
			known[s.Object] = s
		}
	})
	if err != nil {
		return nil, err
	}
	found, err := p.readCatalog(ctx, &connectorv1.DiscoverRequest{Include: p.spec.Include, Exclude: p.spec.Exclude, ValuesOnly: true})
	if err != nil {
		return nil, err
	}
	values, err := newCatalog(found)
	if err != nil {
		return nil, err
	}
	err = values.eachStep(func(fresh *connectorv1.SchemaStep) {
		if s := known[fresh.Object]; fresh.Kind == sequenceValue && s != nil && !slices.Equal(s.Sql, fresh.Sql) {
			n := proto.Clone(s).(*connectorv1.SchemaStep)
			n.Sql = fresh.Sql
			moved = append(moved, n)
		}
	})
	return moved, err
}

func (p *Pipeline) rememberValues(moved []*connectorv1.SchemaStep) error {
	fresh := map[uint32][]string{}
	for _, n := range moved {
		fresh[n.Id] = n.Sql
	}
	return p.catalog.change(func(s *connectorv1.SchemaStep) bool {
		if sql := fresh[s.Id]; sql != nil {
			s.Sql = sql
		}
		return true
	})
}

// carrySequences gives the target's sequences the source's values. The stream does not depend on it: what fails is noted, and tried
// again the next time.
func (p *Pipeline) carrySequences(ctx context.Context) error {
	moved, err := p.movedSequences(ctx)
	if err == nil && len(moved) > 0 {
		_, err = p.call(ctx, p.run.writer, p.onSink(&fleetv1.Task{Work: &fleetv1.Task_Schema{
			Schema: &connectorv1.ApplySchemaRequest{Pipeline: p.name, Epoch: p.state.Epoch, Steps: moved, Parallel: 1}}}), nil)
	}
	if err == nil && len(moved) > 0 {
		return p.rememberValues(moved)
	}
	return p.bear("values of sequences", err)
}

// bear notes what has failed beside the stream, which does not depend on it. An error without a code ends the attempt.
func (p *Pipeline) bear(what string, err error) error {
	if err == nil || diag.Find(err) == nil {
		return err
	}
	p.note("warn", what+": "+err.Error())
	return nil
}
