// Package plan decides how tables are cut and in which order they are loaded. Pure.
package plan

import (
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	// DefaultChunkBytes is how much a chunk holds unless the spec says otherwise. It is small, so that a load over a slow
	// line is over in time; over a fast one a load takes several (schedule.View.Speed).
	DefaultChunkBytes = 16 << 20
	// fineChunks is how many chunks of that size a table has at most. Those of a larger table are larger, up to
	// mostGrowth times: what the coordinator holds must not grow with each row.
	fineChunks = 4096
	mostGrowth = 4
)

// ChunkBytes is how much each chunk of a table should hold.
func ChunkBytes(t *rowv1.Table, chunkBytes int64) int64 {
	return max(chunkBytes, min(mostGrowth*chunkBytes, t.EstimatedBytes/fineChunks))
}

// ChunkID numbers a chunk in its table.
func ChunkID(table, n uint32) uint64 { return uint64(table)<<32 | uint64(n) }

// TableOf is the table of a chunk.
func TableOf(chunk uint64) uint32 { return uint32(chunk >> 32) }

// Whole is the only chunk of a table that need not be split; nil when it has to be.
func Whole(t *rowv1.Table, chunkBytes int64) *rowv1.Chunk {
	if !Fits(t, chunkBytes) {
		return nil
	}
	return &rowv1.Chunk{Id: ChunkID(t.Index, 0), Table: t.Index, Keys: &rowv1.KeyRange{},
		EstimatedRows: t.EstimatedRows, EstimatedBytes: t.EstimatedBytes}
}

// Fits reports whether a table is one chunk: two halves are not worth asking for.
func Fits(t *rowv1.Table, chunkBytes int64) bool { return t.EstimatedBytes <= 2*chunkBytes }

// Unit reports whether all chunks of a table must be read under one snapshot.
func Unit(t *rowv1.Table) bool { return t.Gate != rowv1.GateMode_GATE_MODE_KEYED }

// Groups packs unit tables that share one snapshot and one floor: the stream is held while a group loads, so
// groups are kept small.
func Groups(units []*rowv1.Table, most int, bytes int64) [][]uint32 {
	var out [][]uint32
	var group []uint32
	var size int64
	for _, t := range units {
		if len(group) > 0 && (len(group) == most || size+t.EstimatedBytes > bytes) {
			out, group, size = append(out, group), nil, 0
		}
		group, size = append(group, t.Index), size+t.EstimatedBytes
	}
	if len(group) > 0 {
		out = append(out, group)
	}
	return out
}

// AddSum adds two row sums: 16 bytes, big endian, modulo 2^128. nil is zero.
func AddSum(a, b []byte) []byte {
	out := make([]byte, 16)
	carry := 0
	for i := 15; i >= 0; i-- {
		n := carry
		if len(a) == 16 {
			n += int(a[i])
		}
		if len(b) == 16 {
			n += int(b[i])
		}
		out[i], carry = byte(n), n>>8
	}
	return out
}
