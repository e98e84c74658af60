// Package wire carries coded errors between processes: as a Failure in messages, as the details of a gRPC status.
// Code, where, why and fix arrive as they were sent; secrets in URLs are taken out before.
package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/telemetry"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

// maxWhy keeps a failure well below what gRPC carries in its trailers.
const maxWhy = 4 << 10

var classes = map[diag.Class]fleetv1.FailureClass{
	diag.Retry:    fleetv1.FailureClass_FAILURE_CLASS_RETRY,
	diag.Fenced:   fleetv1.FailureClass_FAILURE_CLASS_FENCED,
	diag.Hold:     fleetv1.FailureClass_FAILURE_CLASS_HOLD,
	diag.Fatal:    fleetv1.FailureClass_FAILURE_CLASS_FATAL,
	diag.BadUsage: fleetv1.FailureClass_FAILURE_CLASS_FATAL,
	diag.Ended:    fleetv1.FailureClass_FAILURE_CLASS_FATAL,
}

// Failure turns an error into what travels: code, where, why, fix. An error without a code becomes
// Internal, a cancellation CallCancelled. nil stays nil.
func Failure(err error) *fleetv1.Failure {
	if err == nil {
		return nil
	}
	e := diag.Find(err)
	switch {
	case e != nil:
	case cancelled(err):
		e = diag.CallCancelled.New("", err, "")
	default:
		e = diag.Internal.New("", err, "")
	}
	why := e.Why
	if e.Cause != nil {
		why = strings.TrimPrefix(why+": "+e.Cause.Error(), ": ")
	}
	return &fleetv1.Failure{
		Code: e.Code.ID, Where: telemetry.Redact(e.Where), Why: shorten(telemetry.Redact(why)),
		Fix: e.Fix(), Class: classes[e.Code.Class], Table: e.Table, Also: e.Also,
	}
}

// Error is the way back: a *diag.Error with the same code and fixes. nil stays nil.
func Error(f *fleetv1.Failure) error {
	if f == nil {
		return nil
	}
	code, ok := diag.Lookup(f.Code)
	if !ok { // a newer peer
		code = diag.Internal
		return &diag.Error{Code: code, Where: f.Where, Why: f.Code + ": " + f.Why, Fixes: f.Fix, Table: f.Table, Also: f.Also}
	}
	return &diag.Error{Code: code, Where: f.Where, Why: f.Why, Fixes: f.Fix, Table: f.Table, Also: f.Also}
}

// Status makes the error a gRPC handler returns: a status whose details are the Failure.
func Status(err error) error {
	if err == nil {
		return nil
	}
	code := codes.Unknown
	if cancelled(err) && diag.Find(err) == nil {
		code = codes.Canceled
	}
	f := Failure(err)
	st, detailErr := status.New(code, f.Code+": "+f.Why).WithDetails(f)
	if detailErr != nil {
		return status.Error(code, f.Code+": "+f.Why)
	}
	return st.Err()
}

// Call turns what a gRPC call returned into a coded error. A peer that vanished gives gone, so that callers
// of a connector and callers of an agent hear who it was. io.EOF and the context's own end pass unchanged.
func Call(ctx context.Context, err error, where string, gone diag.Code) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range st.Details() {
		if f, ok := d.(*fleetv1.Failure); ok {
			return Error(f)
		}
	}
	switch st.Code() {
	case codes.Unavailable, codes.Canceled:
		return gone.New(where, nil, "%s", st.Message())
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Unimplemented:
		return diag.Internal.New(where, nil, "the peer does not know this call: %s", st.Message())
	}
	return diag.Internal.New(where, nil, "%s: %s", st.Code(), telemetry.Redact(st.Message()))
}

func cancelled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func shorten(s string) string {
	if len(s) <= maxWhy {
		return s
	}
	return strings.ToValidUTF8(fmt.Sprintf("%s… (%d bytes)", s[:maxWhy], len(s)), "")
}
