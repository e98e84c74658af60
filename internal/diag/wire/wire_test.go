package wire

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/droverdb/drover/internal/diag"
	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

func TestFailure_ArrivesAsItWasSent(t *testing.T) {
	sent := diag.NoRight.New("target › table a.b", errors.New("permission denied"), "role %s may not write", "bob").WithFix("GRANT INSERT ON a.b TO bob;")
	got := diag.Find(Error(Failure(sent)))
	if got == nil || got.Code.ID != diag.NoRight.ID || got.Where != sent.Where || got.Fix()[0] != sent.Fixes[0] ||
		got.Why != "role bob may not write: permission denied" {
		t.Errorf("arrived: %+v", got)
	}
	if Failure(nil) != nil || Error(nil) != nil || Status(nil) != nil {
		t.Error("nil became an error")
	}
}

func TestFailure_EveryCodeArrivesWithAFixAndAClass(t *testing.T) {
	for _, c := range diag.All() {
		f := Failure(c.New("x", nil, "y"))
		if f.Code != c.ID || len(f.Fix) == 0 || f.Fix[0] == "" || f.Class == fleetv1.FailureClass_FAILURE_CLASS_UNSPECIFIED {
			t.Errorf("%s: %v", c.ID, f)
		}
	}
}

func TestFailure_ErrorsWithoutACodeGetOne(t *testing.T) {
	if f := Failure(errors.New("odd")); f.Code != diag.Internal.ID || !strings.Contains(f.Why, "odd") {
		t.Errorf("plain: %v", f)
	}
	if f := Failure(context.Canceled); f.Code != diag.CallCancelled.ID {
		t.Errorf("cancelled: %v", f)
	}
}

func TestFailure_HoldsNoPasswordAndStaysShort(t *testing.T) {
	f := Failure(diag.Unreachable.New("postgres://me:hunter2@h/d", errors.New("dial postgres://me:hunter2@h/d"), "%s", strings.Repeat("é", maxWhy)))
	if strings.Contains(f.String(), "hunter2") {
		t.Errorf("password on the wire: %v", f)
	}
	if len(f.Why) > maxWhy+40 {
		t.Errorf("%d bytes of why", len(f.Why))
	}
}

func TestError_OfANewerPeerKeepsItsCodeAndFix(t *testing.T) {
	got := diag.Find(Error(&fleetv1.Failure{Code: "E9999", Why: "new thing", Fix: []string{"do this"}}))
	if got.Code.ID != diag.Internal.ID || !strings.Contains(got.Why, "E9999") || got.Fix()[0] != "do this" {
		t.Errorf("%+v", got)
	}
}

func TestCall_TellsWhoIsGone(t *testing.T) {
	ctx := t.Context()
	if got := diag.Find(Call(ctx, Status(diag.NotEmpty.New("t", nil, "")), "x", diag.NoCoord)); got == nil || got.Code.ID != diag.NotEmpty.ID {
		t.Errorf("coded: %v", got)
	}
	if got := diag.Find(Call(ctx, status.Error(codes.Unavailable, "refused"), "x", diag.NoCoord)); got == nil || got.Code.ID != diag.NoCoord.ID {
		t.Errorf("gone: %v", got)
	}
	if !errors.Is(Call(ctx, io.EOF, "x", diag.NoCoord), io.EOF) {
		t.Error("io.EOF changed")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if !errors.Is(Call(ended, status.Error(codes.Unavailable, "refused"), "x", diag.NoCoord), context.Canceled) {
		t.Error("the context's own end was taken for a lost peer")
	}
}
