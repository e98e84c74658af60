package sdk

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that carries everything but frames
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	fieldHeader  = 1
	fieldPayload = 2
	// maxHeader bounds what is copied to read a frame's header.
	maxHeader = 16 << 20
)

// Codec is a gRPC codec that moves frames without copying their payload, and everything else as the
// standard protobuf codec does. Both ends use it with ForceCodecV2 / ForceServerCodecV2; what it writes
// is plain protobuf, so a peer without it still understands every message.
type Codec struct{}

var _ encoding.CodecV2 = Codec{}

var errFrame = errors.New("malformed frame")

// Name is that of the standard codec: the bytes are the same.
func (Codec) Name() string { return "proto" }

// Marshal hands over the frame's payload: the frame is empty afterwards.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*Frame)
	if !ok {
		return encoding.GetCodecV2("proto").Marshal(v)
	}
	size := proto.Size(f.Header)
	head := make([]byte, 0, size+16)
	head = protowire.AppendTag(head, fieldHeader, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(size))
	head, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(head, f.Header)
	if err != nil {
		return nil, fmt.Errorf("frame header: %w", err)
	}
	n := f.Payload.Len()
	if n > 0 {
		head = protowire.AppendTag(head, fieldPayload, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(n))
	}
	out := make(mem.BufferSlice, 0, len(f.Payload)+1)
	out = append(out, mem.SliceBuffer(head))
	out = append(out, f.Payload...)
	f.Payload = nil
	return out, nil
}

// Unmarshal gives a *Frame references to the received buffers.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*Frame)
	if !ok {
		return encoding.GetCodecV2("proto").Unmarshal(data, v)
	}
	f.Header, f.Payload = &rowv1.FrameHeader{}, nil
	for at, total := 0, data.Len(); at < total; {
		num, n, used, err := fieldAt(data, at)
		if err != nil {
			return err
		}
		at += used
		if n > total-at {
			return errFrame
		}
		switch num {
		case fieldHeader:
			if n > maxHeader {
				return errFrame
			}
			if err := proto.Unmarshal(peek(data, at, n), f.Header); err != nil {
				return fmt.Errorf("frame header: %w", err)
			}
		case fieldPayload:
			f.Payload.Free()
			f.Payload = section(data, at, n)
		}
		at += n
	}
	return nil
}

// fieldAt reads the tag and length of a length-delimited field.
func fieldAt(data mem.BufferSlice, at int) (protowire.Number, int, int, error) {
	b := peek(data, at, min(20, data.Len()-at))
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 || typ != protowire.BytesType {
		return 0, 0, 0, errFrame
	}
	size, m := protowire.ConsumeVarint(b[n:])
	if m < 0 || size > 1<<31 {
		return 0, 0, 0, errFrame
	}
	return num, int(size), n + m, nil
}

// peek returns n bytes at offset at, copying only across buffer boundaries.
func peek(data mem.BufferSlice, at, n int) []byte {
	var out []byte
	for _, b := range data {
		if at >= b.Len() {
			at -= b.Len()
			continue
		}
		d := b.ReadOnlyData()[at:]
		at = 0
		if out == nil && len(d) >= n {
			return d[:n]
		}
		out = append(out, d[:min(len(d), n-len(out))]...)
		if len(out) == n {
			break
		}
	}
	return out
}

// section returns references to n bytes at offset at.
func section(data mem.BufferSlice, at, n int) mem.BufferSlice {
	var out mem.BufferSlice
	for _, b := range data {
		if n == 0 {
			break
		}
		l := b.Len()
		if at >= l {
			at -= l
			continue
		}
		take := min(l-at, n)
		out = append(out, b.Slice(at, at+take))
		at, n = 0, n-take
	}
	return out
}
