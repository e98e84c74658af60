package sdk

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

func header(chunk uint64) *rowv1.FrameHeader {
	return &rowv1.FrameHeader{Kind: &rowv1.FrameHeader_ChunkData{ChunkData: &rowv1.ChunkData{Chunk: chunk}}}
}

// cut copies b into buffers of the given sizes, as the transport may deliver it.
func cut(b []byte, size int) mem.BufferSlice {
	var out mem.BufferSlice
	for len(b) > 0 {
		n := min(size, len(b))
		out = append(out, mem.SliceBuffer(bytes.Clone(b[:n])))
		b = b[n:]
	}
	return out
}

func TestCodec_IsPlainProtobufHoweverItIsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload")
		chunk := rapid.Uint64().Draw(t, "chunk")
		data, err := Codec{}.Marshal(NewFrame(header(chunk), payload))
		if err != nil {
			t.Fatal(err)
		}
		wire := data.Materialize()
		var plain rowv1.Frame
		if err := proto.Unmarshal(wire, &plain); err != nil {
			t.Fatalf("not protobuf: %v", err)
		}
		if !bytes.Equal(plain.Payload, payload) || plain.Header.GetChunkData().GetChunk() != chunk {
			t.Fatal("protobuf peer reads something else")
		}
		var f Frame
		if err := (Codec{}).Unmarshal(cut(wire, rapid.IntRange(1, 64).Draw(t, "cut")), &f); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(f.Payload.Materialize(), payload) || f.Header.GetChunkData().GetChunk() != chunk {
			t.Fatal("frame does not round-trip")
		}
	})
}

func FuzzCodecUnmarshal(f *testing.F) {
	f.Add([]byte{0x0a, 0x00, 0x12, 0x01, 0x41}, 3)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		var fr Frame
		_ = (Codec{}).Unmarshal(cut(b, max(1, size%64)), &fr)
	})
}

func BenchmarkCodec_1MiB(b *testing.B) {
	payload := make([]byte, 1<<20)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		data, _ := Codec{}.Marshal(NewFrame(header(1), payload))
		var f Frame
		if err := (Codec{}).Unmarshal(data, &f); err != nil {
			b.Fatal(err)
		}
		f.Free()
	}
}
