package keys

// Classes of numbers in their order; PostgreSQL sorts NaN last. Every number starts with one of them.
const (
	classNegInf = 0x10
	classNeg    = 0x20
	classZero   = 0x30
	classPos    = 0x40
	classPosInf = 0x50
	classNaN    = 0x60
)

// decimal appends ±0.D1D2D3… × 10000^(weight+1) in base 10000, digit by digit: first the weight, then each digit
// plus one, then a zero. Negative numbers are the complement. Leading and trailing zero digits never get in,
// so 1, 1.0 and 1.00 are the same bytes.
type decimal struct {
	dst    []byte
	mask   byte
	zeros  int // zero digits held back: they count only if another digit follows
	opened bool
	neg    bool
}

func (d *decimal) digit(v, weight int) {
	if v == 0 {
		if d.opened {
			d.zeros++
		}
		return
	}
	if !d.opened {
		d.opened = true
		class := byte(classPos)
		if d.neg {
			class, d.mask = classNeg, 0xff
		}
		d.dst = append(d.dst, class)
		d.put(uint32(weight) ^ 1<<31)
	}
	for ; d.zeros > 0; d.zeros-- {
		d.dst = append(d.dst, d.mask, 1^d.mask)
	}
	v++
	d.dst = append(d.dst, byte(v>>8)^d.mask, byte(v)^d.mask)
}

func (d *decimal) put(v uint32) {
	d.dst = append(d.dst, byte(v>>24)^d.mask, byte(v>>16)^d.mask, byte(v>>8)^d.mask, byte(v)^d.mask)
}

func (d *decimal) finish() []byte {
	if !d.opened {
		return append(d.dst, classZero)
	}
	return append(d.dst, d.mask, d.mask)
}

// AppendDecimal takes a decimal number in plain notation ("-12.50"), "NaN", "Infinity" or "-Infinity".
func AppendDecimal[T ~string | ~[]byte](dst []byte, v T) ([]byte, error) {
	switch string(v) {
	case "NaN":
		return append(dst, classNaN), nil
	case "Infinity":
		return append(dst, classPosInf), nil
	case "-Infinity":
		return append(dst, classNegInf), nil
	}
	d := decimal{dst: dst}
	if len(v) > 0 && (v[0] == '-' || v[0] == '+') {
		d.neg = v[0] == '-'
		v = v[1:]
	}
	whole, some := len(v), false
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] == '.' && whole == len(v):
			whole = i
		case v[i] < '0' || v[i] > '9':
			return dst, malformed("numeric")
		default:
			some = true
		}
	}
	if !some {
		return dst, malformed("numeric")
	}
	group(&d, v, whole)
	return d.finish(), nil
}

// group feeds v, whose decimal point is at index whole, in groups of four digits around the point.
func group[T ~string | ~[]byte](d *decimal, v T, whole int) {
	weight := (whole+3)/4 - 1
	for i := -((4 - whole%4) % 4); i < whole; i += 4 {
		n := 0
		for j := i; j < i+4; j++ {
			n *= 10
			if j >= 0 {
				n += int(v[j] - '0')
			}
		}
		d.digit(n, weight)
		weight--
	}
	weight = -1
	for i := whole + 1; i < len(v); i += 4 {
		n := 0
		for j := i; j < i+4; j++ {
			n *= 10
			if j < len(v) {
				n += int(v[j] - '0')
			}
		}
		d.digit(n, weight)
		weight--
	}
}
