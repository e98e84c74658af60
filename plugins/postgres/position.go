package postgres

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/droverdb/drover/internal/diag"
)

// positionSize is the width of a position: LSN of the commit record, then LSN of its end, big endian, so
// that bytes compare as the log is ordered. The slot is moved to the second half.
const positionSize = 16

// positionFormat prints the end of the transaction as the server writes an LSN.
const positionFormat = "%[8:12]X/%[12:16]X"

// position makes the position of a transaction.
func position(commit, end uint64) []byte {
	return appendPosition(make([]byte, 0, positionSize), commit, end)
}

func appendPosition(dst []byte, commit, end uint64) []byte {
	dst = binary.BigEndian.AppendUint64(dst, commit)
	return binary.BigEndian.AppendUint64(dst, end)
}

// readPosition takes a position apart; an empty one is the beginning of the log.
func readPosition(p []byte) (commit, end uint64, err error) {
	switch len(p) {
	case 0:
		return 0, 0, nil
	case positionSize:
		return binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:]), nil
	}
	return 0, 0, diag.PositionForeign.New("source", nil, "a position of %d bytes is not one of PostgreSQL's", len(p))
}

// printable shows the end of the position the way PostgreSQL writes it.
func printable(p []byte) string {
	_, end, err := readPosition(p)
	if err != nil {
		return "?"
	}
	return formatLSN(end)
}

// formatLSN writes an LSN as the server does.
func formatLSN(lsn uint64) string { return fmt.Sprintf("%X/%X", lsn>>32, uint32(lsn)) }

// parseLSN reads the server's form of an LSN.
func parseLSN(s string) (uint64, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if ok {
		h, errH := strconv.ParseUint(hi, 16, 32)
		l, errL := strconv.ParseUint(lo, 16, 32)
		if errH == nil && errL == nil {
			return h<<32 | l, nil
		}
	}
	return 0, diag.Internal.New("source", nil, "the server sent an LSN of unknown form")
}
