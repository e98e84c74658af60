package transfer

import (
	"context"

	"github.com/droverdb/drover/internal/diag"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
)

// refused answers the calls that never cross from agent to agent: the coordinator gives them to the sink agent as tasks.
type refused struct{}

func (refused) no(call string) error {
	return diag.Internal.New("sink agent", nil, "%s is a task of the agent beside the target", call)
}

func (r refused) Describe(context.Context) (*connectorv1.DescribeResponse, error) {
	return nil, r.no("Describe")
}

func (r refused) Open(context.Context, *connectorv1.OpenRequest) (*connectorv1.OpenResponse, error) {
	return nil, r.no("Open")
}

func (r refused) Check(context.Context, *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error) {
	return nil, r.no("Check")
}

func (r refused) Sum(context.Context, *connectorv1.SumRequest) (*connectorv1.SumResponse, error) {
	return nil, r.no("Sum")
}

func (r refused) Release(context.Context, *connectorv1.ReleaseRequest) (*connectorv1.ReleaseResponse, error) {
	return nil, r.no("Release")
}

func (r refused) ApplySchema(context.Context, *connectorv1.ApplySchemaRequest, func(*connectorv1.ApplySchemaResponse) error) error {
	return r.no("ApplySchema")
}

func (r refused) Reset(context.Context, *connectorv1.ResetRequest) (*connectorv1.ResetResponse, error) {
	return nil, r.no("Reset")
}

// Close does nothing: the connection is shared.
func (refused) Close() error { return nil }
