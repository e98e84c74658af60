package sdk

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

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

// Bytes returns the payload in one piece; valid until Free. It copies only when the payload is in several pieces.
func (f *Frame) Bytes() []byte {
	switch len(f.Payload) {
	case 0:
		return nil
	case 1:
		return f.Payload[0].ReadOnlyData()
	}
	return f.Payload.Materialize()
}

// Size is what the frame costs in memory, in bytes: what credits and budgets count.
func (f *Frame) Size() int { return f.Payload.Len() + proto.Size(f.Header) + 64 }
