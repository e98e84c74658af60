package postgres

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

const (
	microsPerSecond = 1_000_000
	microsPerDay    = 24 * 60 * 60 * microsPerSecond
)

// Infinite dates and times are the extreme values on both sides.
var (
	dateCodec = scalar[arrow.Date32]{"date", 4,
		func(v []byte) (arrow.Date32, error) {
			d := int32(binary.BigEndian.Uint32(v))
			switch {
			case d == math.MaxInt32 || d == math.MinInt32:
				return arrow.Date32(d), nil
			case d > math.MaxInt32-pgEpochDays-1:
				return 0, outOfRange("date")
			}
			return arrow.Date32(d + pgEpochDays), nil
		},
		func(s string) (arrow.Date32, error) {
			switch s {
			case "infinity":
				return math.MaxInt32, nil
			case "-infinity":
				return math.MinInt32, nil
			}
			s, bc := strings.CutSuffix(s, " BC")
			d, err := parseDate(s, bc)
			return arrow.Date32(d), err
		},
		func(dst []byte, x arrow.Date32) []byte {
			if x != math.MaxInt32 && x != math.MinInt32 {
				x -= pgEpochDays
			}
			return binary.BigEndian.AppendUint32(dst, uint32(x))
		}}
	timeCodec = scalar[arrow.Time64]{"time", 8,
		func(v []byte) (arrow.Time64, error) { return arrow.Time64(binary.BigEndian.Uint64(v)), nil },
		func(s string) (arrow.Time64, error) { x, err := parseClock(s); return arrow.Time64(x), err },
		func(dst []byte, x arrow.Time64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(x)) }}
	timestampCodec = scalar[arrow.Timestamp]{"timestamp", 8,
		func(v []byte) (arrow.Timestamp, error) {
			x := int64(binary.BigEndian.Uint64(v))
			switch {
			case x == math.MaxInt64 || x == math.MinInt64:
				return arrow.Timestamp(x), nil
			case x > math.MaxInt64-pgEpochMicros-1:
				return 0, outOfRange("timestamp")
			}
			return arrow.Timestamp(x + pgEpochMicros), nil
		}, parseTimestamp,
		func(dst []byte, x arrow.Timestamp) []byte {
			if x != math.MaxInt64 && x != math.MinInt64 {
				x -= pgEpochMicros
			}
			return binary.BigEndian.AppendUint64(dst, uint64(x))
		}}
)

// parseDate reads YYYY-MM-DD as days since 1970; years before the first are written with BC.
func parseDate(s string, bc bool) (int64, error) {
	y, rest, ok := strings.Cut(s, "-")
	m, d, ok2 := strings.Cut(rest, "-")
	year, err1 := strconv.ParseInt(y, 10, 64)
	month, err2 := strconv.ParseInt(m, 10, 64)
	day, err3 := strconv.ParseInt(d, 10, 64)
	if !ok || !ok2 || err1 != nil || err2 != nil || err3 != nil {
		return 0, malformed("date")
	}
	if bc {
		year = 1 - year
	}
	return civilDays(year, month, day), nil
}

// civilDays counts days since 1970-01-01 in the proleptic Gregorian calendar (eras of 400 years from March on).
func civilDays(y, m, d int64) int64 {
	if m <= 2 {
		y--
		m += 12
	}
	era := y / 400
	if y < 0 {
		era = (y - 399) / 400
	}
	yoe := y - era*400
	doy := (153*(m-3)+2)/5 + d - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

// parseClock reads HH:MM:SS[.ffffff] as microseconds.
func parseClock(s string) (int64, error) {
	h, rest, ok := strings.Cut(s, ":")
	m, sec, ok2 := strings.Cut(rest, ":")
	sec, frac, _ := strings.Cut(sec, ".")
	hour, err1 := strconv.ParseInt(h, 10, 64)
	minute, err2 := strconv.ParseInt(m, 10, 64)
	second, err3 := strconv.ParseInt(sec, 10, 64)
	part, err4 := strconv.ParseInt((frac + "000000")[:6], 10, 64)
	if !ok || !ok2 || err1 != nil || err2 != nil || err3 != nil || err4 != nil || len(frac) > 6 {
		return 0, malformed("time")
	}
	return ((hour*60+minute)*60+second)*microsPerSecond + part, nil
}

// parseTimestamp reads YYYY-MM-DD HH:MM:SS[.ffffff][+00][ BC]: sessions are pinned to UTC.
func parseTimestamp(s string) (arrow.Timestamp, error) {
	switch s {
	case "infinity":
		return math.MaxInt64, nil
	case "-infinity":
		return math.MinInt64, nil
	}
	s, bc := strings.CutSuffix(s, " BC")
	s = strings.TrimSuffix(s, "+00")
	date, clock, _ := strings.Cut(s, " ")
	days, err := parseDate(date, bc)
	if err != nil {
		return 0, err
	}
	micros, err := parseClock(clock)
	if err != nil {
		return 0, err
	}
	if days > (math.MaxInt64-microsPerDay)/microsPerDay {
		return 0, outOfRange("timestamp")
	}
	return arrow.Timestamp(days*microsPerDay + micros), nil
}

// intervalCodec keeps months, days and time apart, as both sides do.
type intervalCodec struct{}

func (intervalCodec) add(b array.Builder, months, days int32, micros int64) error {
	to, ok := b.(*array.MonthDayNanoIntervalBuilder)
	if !ok {
		return wrongArrow(b.Type())
	}
	if micros > math.MaxInt64/1000 || micros < math.MinInt64/1000 {
		return outOfRange("interval")
	}
	to.Append(arrow.MonthDayNanoInterval{Months: months, Days: days, Nanoseconds: micros * 1000})
	return nil
}

func (c intervalCodec) AppendBinary(b array.Builder, v []byte) error {
	if len(v) != 16 {
		return malformed("interval")
	}
	return c.add(b, int32(binary.BigEndian.Uint32(v[12:])), int32(binary.BigEndian.Uint32(v[8:])), int64(binary.BigEndian.Uint64(v)))
}

// AppendText reads IntervalStyle postgres: 1 year 2 mons -3 days +04:05:06.789.
func (c intervalCodec) AppendText(b array.Builder, v []byte) error {
	var months, days, micros int64
	words := strings.Fields(string(v))
	for len(words) > 0 {
		w := words[0]
		if strings.Contains(w, ":") {
			rest, neg := strings.CutPrefix(w, "-")
			x, err := parseClock(strings.TrimPrefix(rest, "+"))
			if err != nil || len(words) > 1 {
				return malformed("interval")
			}
			if micros = x; neg {
				micros = -x
			}
			break
		}
		n, err := strconv.ParseInt(w, 10, 32)
		if err != nil || len(words) < 2 {
			return malformed("interval")
		}
		switch strings.TrimSuffix(words[1], "s") {
		case "year":
			months += n * 12
		case "mon":
			months += n
		case "day":
			days += n
		default:
			return malformed("interval")
		}
		words = words[2:]
	}
	return c.add(b, int32(months), int32(days), micros)
}

func (intervalCodec) WriteBinary(dst []byte, a arrow.Array, i int) ([]byte, error) {
	from, ok := a.(*array.MonthDayNanoInterval)
	if !ok {
		return dst, wrongArrow(a.DataType())
	}
	x := from.Value(i)
	dst = binary.BigEndian.AppendUint64(dst, uint64(x.Nanoseconds/1000))
	dst = binary.BigEndian.AppendUint32(dst, uint32(x.Days))
	return binary.BigEndian.AppendUint32(dst, uint32(x.Months)), nil
}
