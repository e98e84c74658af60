package sdk

import (
	"context"
	"log/slog"

	"google.golang.org/grpc/mem"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk/arena"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// PayloadBytes is the most that a buffer of Payloads holds.
const PayloadBytes = arena.SlotBytes

type payloadsKey struct{}

// Payloads is where a ReadChunks call should take the buffers of its payloads from (PayloadBytes each, one per
// frame), so that the sink reads them where they are; fallback when nothing is shared. Its buffers must not be touched
// after the call has returned.
func Payloads(ctx context.Context, fallback mem.BufferPool) mem.BufferPool {
	if p, ok := ctx.Value(payloadsKey{}).(arena.Pool); ok {
		return p
	}
	return fallback
}

// lend makes a source put payloads into the arena. Payloads that lie elsewhere travel in their frames as ever, and
// all of them do when the arena cannot be opened: then the sink cannot open it either, and says so.
func lend(ctx context.Context, path string, send func(*Frame) error) (context.Context, func(*Frame) error, func()) {
	if path == "" {
		return ctx, send, func() {}
	}
	a, err := arena.Open(path)
	if err != nil {
		slog.Debug("rows go over the socket", "err", err)
		return ctx, send, func() {}
	}
	emit := func(f *Frame) error {
		if len(f.Payload) == 1 {
			if slot, ok := a.Slot(f.Payload[0].ReadOnlyData()); ok {
				f.Header.Shared = &rowv1.SharedPayload{Slot: slot, Bytes: uint32(f.Payload.Len())}
				f.Payload = nil // not freed: the sink does that
			}
		}
		return send(f)
	}
	return context.WithValue(ctx, payloadsKey{}, a.Pool(ctx)), emit, func() { _ = a.Close() }
}

// borrow gives a sink the payloads that lie in the arena which the first frame names.
func borrow(next func() (*Frame, error)) (_ func() (*Frame, error), end func()) {
	var a *arena.Arena
	shared := func() (*Frame, error) {
		f, err := next()
		if err != nil {
			return nil, err
		}
		if path := f.Header.GetWriteOpen().GetArena(); path != "" && a == nil {
			if a, err = arena.Open(path); err != nil {
				return nil, diag.NoSharedMemory.New("target", err, "")
			}
		}
		s := f.Header.GetShared()
		if s == nil {
			return f, nil
		}
		if a == nil {
			return nil, diag.Internal.New("target", nil, "a payload in shared memory that nobody named")
		}
		b, err := a.Payload(s.Slot, s.Bytes)
		if err != nil {
			return nil, diag.Internal.New("target", err, "")
		}
		f.Payload = mem.BufferSlice{b}
		return f, nil
	}
	return shared, func() {
		if a != nil {
			_ = a.Close()
		}
	}
}
