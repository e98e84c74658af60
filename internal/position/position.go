// Package position prints log positions for people. A position is opaque bytes that only its connector understands;
// the connector says once, in Describe, how its positions look, so that whoever holds one can print it.
package position

import (
	"fmt"
	"strconv"
	"strings"
)

// Print formats a position. The format is text with verbs %[a:b]X, %[a:b]d and %[a:b]s: bytes a to b (both optional)
// of the position as a big-endian number in hex or decimal, or as text. %% is a percent sign. PostgreSQL's is
// "%[8:12]X/%[12:16]X". An empty position or format prints as "", one that does not fit as plain hex.
func Print(format string, p []byte) string {
	if len(p) == 0 || format == "" {
		return ""
	}
	var b strings.Builder
	for rest := format; rest != ""; {
		text, after, found := strings.Cut(rest, "%")
		b.WriteString(text)
		if !found {
			break
		}
		if strings.HasPrefix(after, "%") {
			b.WriteByte('%')
			rest = after[1:]
			continue
		}
		var ok bool
		if rest, ok = verb(&b, after, p); !ok {
			return fmt.Sprintf("%x", p)
		}
	}
	return b.String()
}

// verb prints one "[a:b]X" and returns what follows it.
func verb(b *strings.Builder, s string, p []byte) (rest string, ok bool) {
	body, rest, found := strings.Cut(strings.TrimPrefix(s, "["), "]")
	from, to, colon := strings.Cut(body, ":")
	if !strings.HasPrefix(s, "[") || !found || !colon || rest == "" {
		return "", false
	}
	i, j := bound(from, 0), bound(to, len(p))
	if i < 0 || j > len(p) || i > j {
		return "", false
	}
	field := p[i:j]
	switch rest[0] {
	case 's':
		b.Write(field)
		return rest[1:], true
	case 'X', 'd':
		if len(field) > 8 {
			return "", false
		}
		n := uint64(0)
		for _, x := range field {
			n = n<<8 | uint64(x)
		}
		base := 10
		if rest[0] == 'X' {
			base = 16
		}
		b.WriteString(strings.ToUpper(strconv.FormatUint(n, base)))
		return rest[1:], true
	}
	return "", false
}

// bound reads a bound; an empty one is def, a malformed one -1.
func bound(s string, def int) int {
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}
