package keys

import (
	"bytes"
	"math"
)

const (
	microsPerDay = 24 * 60 * 60 * 1_000_000
	// epochJulian is 2000-01-01, day 0 of PostgreSQL's dates, as a Julian day.
	epochJulian = 2451545
)

var (
	infinity    = []byte("infinity")
	negInfinity = []byte("-infinity")
	suffixBC    = []byte(" BC")
)

func appendDateText(dst, v []byte) ([]byte, error) {
	switch {
	case bytes.Equal(v, infinity):
		return AppendInt32(dst, math.MaxInt32), nil
	case bytes.Equal(v, negInfinity):
		return AppendInt32(dst, math.MinInt32), nil
	}
	v, bc := bytes.CutSuffix(v, suffixBC)
	day, rest, err := parseDate(v, bc)
	if err != nil || len(rest) != 0 {
		return dst, malformed("date")
	}
	return AppendInt32(dst, int32(day)), nil
}

func appendTimestampText(dst, v []byte) ([]byte, error) {
	switch {
	case bytes.Equal(v, infinity):
		return AppendInt64(dst, math.MaxInt64), nil
	case bytes.Equal(v, negInfinity):
		return AppendInt64(dst, math.MinInt64), nil
	}
	v, bc := bytes.CutSuffix(v, suffixBC)
	v, _ = bytes.CutSuffix(v, []byte("+00")) // the session is pinned to UTC
	day, rest, err := parseDate(v, bc)
	if err != nil || len(rest) < 9 || rest[0] != ' ' {
		return dst, malformed("timestamp")
	}
	micros, ok := parseClock(rest[1:])
	if !ok {
		return dst, malformed("timestamp")
	}
	return AppendInt64(dst, day*microsPerDay+micros), nil
}

// parseDate reads YYYY-MM-DD, the year with four digits or more, and returns the day and what follows.
func parseDate(v []byte, bc bool) (int64, []byte, error) {
	dash := bytes.IndexByte(v, '-')
	if dash < 4 || len(v) < dash+6 || v[dash+3] != '-' {
		return 0, nil, malformed("date")
	}
	y, errY := parseInt(v[:dash])
	m, errM := parseInt(v[dash+1 : dash+3])
	d, errD := parseInt(v[dash+4 : dash+6])
	if errY != nil || errM != nil || errD != nil || m < 1 || m > 12 || d < 1 || d > 31 {
		return 0, nil, malformed("date")
	}
	if bc {
		y = 1 - y
	}
	return julian(y, m, d) - epochJulian, v[dash+6:], nil
}

// julian is date2j of PostgreSQL's src/backend/utils/adt/datetime.c.
func julian(y, m, d int64) int64 {
	if m > 2 {
		m, y = m+1, y+4800
	} else {
		m, y = m+13, y+4799
	}
	century := y / 100
	j := y*365 - 32167
	j += y/4 - century + century/4
	return j + 7834*m/256 + d
}

// parseClock reads HH:MM:SS[.ffffff].
func parseClock(v []byte) (int64, bool) {
	if len(v) < 8 || v[2] != ':' || v[5] != ':' {
		return 0, false
	}
	h, errH := parseInt(v[:2])
	m, errM := parseInt(v[3:5])
	s, errS := parseInt(v[6:8])
	if errH != nil || errM != nil || errS != nil {
		return 0, false
	}
	micros := ((h*60+m)*60 + s) * 1_000_000
	if len(v) == 8 {
		return micros, true
	}
	frac := v[9:]
	if v[8] != '.' || len(frac) == 0 || len(frac) > 6 {
		return 0, false
	}
	f, err := parseInt(frac)
	for range 6 - len(frac) {
		f *= 10
	}
	return micros + f, err == nil
}
