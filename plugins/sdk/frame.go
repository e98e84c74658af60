package sdk

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

// Buffers are pooled payloads. gRPC's own pool keeps what is larger than 1 MiB in one heap of all sizes, where a large
// payload seldom finds a buffer again.
var Buffers = mem.NewTieredBufferPool(4<<10, 32<<10, 256<<10, 1<<20, 2<<20, 4<<20, 8<<20, 16<<20)

// Frame is a rowv1.Frame whose payload is never copied into a message. Whoever holds a frame owns its
// payload: pass it on, or call Free. On the wire it is exactly the protobuf message drover.row.v1.Frame.
type Frame struct {
	Header  *rowv1.FrameHeader
	Payload mem.BufferSlice
}

// NewFrame makes a frame that owns payload; payload is not pooled and must not change any more.
func NewFrame(h *rowv1.FrameHeader, payload []byte) *Frame {
	f := &Frame{Header: h}
	if len(payload) > 0 {
		f.Payload = mem.BufferSlice{mem.SliceBuffer(payload)}
	}
	return f
}

// Free gives the payload back. It may be called more than once by the owner.
func (f *Frame) Free() {
	f.Payload.Free()
	f.Payload = nil
}

// NewPooledFrame makes a frame that owns payload, and gives it back to its pool when the last holder frees it.
func NewPooledFrame(h *rowv1.FrameHeader, payload mem.Buffer) *Frame {
	return &Frame{Header: h, Payload: mem.BufferSlice{payload}}
}

// Bytes returns the payload in one piece; valid until Free. A payload in several pieces is put together once, in pooled
// memory, and the pieces are given back.
func (f *Frame) Bytes() []byte {
	switch len(f.Payload) {
	case 0:
		return nil
	case 1:
		return f.Payload[0].ReadOnlyData()
	}
	whole := f.Payload.MaterializeToBuffer(Buffers)
	f.Payload.Free()
	f.Payload = mem.BufferSlice{whole}
	return whole.ReadOnlyData()
}

// Moves is how many bytes of payload the frame stands for, wherever they lie.
func (f *Frame) Moves() int { return f.Payload.Len() + int(f.Header.GetShared().GetBytes()) }

// Size is what the frame costs in memory, in bytes: what credits and budgets count.
func (f *Frame) Size() int { return f.Payload.Len() + proto.Size(f.Header) + 64 }
