package stop

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errWork = errors.New("work failed")

// mustGo runs f in g or fails the test.
func mustGo(t *testing.T, g *Group, f func(ctx context.Context) error) {
	t.Helper()
	if err := g.Go(f); err != nil {
		t.Fatal(err)
	}
}

func untilDrained(ctx context.Context) error {
	select {
	case <-Draining(ctx):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func untilAborted(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestStop_DrainsWorkThatListens(t *testing.T) {
	g := New(t.Context())
	mustGo(t, g, untilDrained)
	mustGo(t, g, untilDrained)
	for range 2 {
		if err := g.Stop(time.Minute); err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
	if err := g.Go(untilDrained); !errors.Is(err, ErrStopped) {
		t.Errorf("Go after Stop: %v", err)
	}
}

func TestStop_AbortsWorkThatDoesNotDrain(t *testing.T) {
	g := New(t.Context())
	mustGo(t, g, untilAborted)
	if err := g.Stop(time.Millisecond); !errors.Is(err, ErrAborted) {
		t.Errorf("Stop: %v, want ErrAborted", err)
	}
}

func TestStop_WaitsForWorkThatIsAborted(t *testing.T) {
	g := New(t.Context())
	ended := false
	mustGo(t, g, func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(20 * time.Millisecond)
		ended = true
		return nil
	})
	_ = g.Stop(0)
	if !ended {
		t.Error("Stop returned before its work")
	}
}

func TestGroup_AnErrorAbortsTheOthersAndIsReported(t *testing.T) {
	g := New(t.Context())
	mustGo(t, g, untilAborted)
	mustGo(t, g, func(context.Context) error { return errWork })
	if err := g.Wait(); !errors.Is(err, errWork) {
		t.Errorf("Wait: %v", err)
	}
	if cause := context.Cause(g.Context()); !errors.Is(cause, errWork) {
		t.Errorf("cause: %v", cause)
	}
}

func TestGroup_APanicIsAnErrorWithItsStack(t *testing.T) {
	g := New(t.Context())
	mustGo(t, g, func(context.Context) error { panic("boom") })
	if err := g.Wait(); err == nil || !strings.Contains(err.Error(), "boom") || !strings.Contains(err.Error(), "stop_test.go") {
		t.Errorf("Wait: %v", err)
	}
}

func TestGroup_CancelledFromOutsideReportsTheCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	g := New(ctx)
	mustGo(t, g, untilAborted)
	cancel(os.ErrDeadlineExceeded)
	if err := g.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Wait: %v", err)
	}
}

func TestGroup_AnErrorWhileAbortingStillCounts(t *testing.T) {
	g := New(t.Context())
	mustGo(t, g, func(ctx context.Context) error {
		<-ctx.Done()
		return errWork
	})
	if err := g.Stop(0); !errors.Is(err, errWork) {
		t.Errorf("Stop: %v", err)
	}
}

func TestGroup_InnerDrainsWithOuter(t *testing.T) {
	outer := New(t.Context())
	mustGo(t, outer, func(ctx context.Context) error {
		inner := New(ctx)
		if err := inner.Go(untilDrained); err != nil {
			return err
		}
		return inner.Wait()
	})
	if err := outer.Stop(time.Minute); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

func TestDraining_OutsideAnyGroupNeverComes(t *testing.T) {
	if Draining(t.Context()) != nil || IsDraining(t.Context()) {
		t.Error("draining without a group")
	}
	g := New(t.Context())
	if IsDraining(g.Context()) {
		t.Error("draining from the start")
	}
	g.Drain()
	if !IsDraining(g.Context()) {
		t.Error("not draining after Drain")
	}
	_ = g.Wait()
}

func TestWait_OfAnEmptyGroupReturns(t *testing.T) {
	g := New(t.Context())
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if err := g.Go(untilDrained); !errors.Is(err, ErrStopped) {
		t.Errorf("Go after Wait: %v", err)
	}
}
