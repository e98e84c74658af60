package postgres

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzIdent: what is quoted is one identifier, and the parts that were put in.
func FuzzIdent(f *testing.F) {
	for _, s := range []string{"", "a", `a"b`, `"`, `""`, "a.b", "A b", "é", "a\x00b", `a";DROP TABLE x;--`, strings.Repeat("x", 70)} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, schema, name string) {
		rest := ident(schema, name)
		for i, part := range []string{schema, name} {
			if i > 0 {
				var ok bool
				if rest, ok = strings.CutPrefix(rest, "."); !ok {
					t.Fatalf("no dot before part %d of %q", i, ident(schema, name))
				}
			}
			var got string
			got, rest = unquote(t, rest, '"')
			if got != strings.ReplaceAll(part, "\x00", "") { // the server knows no zero byte
				t.Fatalf("%q came back as %q", part, got)
			}
		}
		if rest != "" {
			t.Fatalf("%q is left over", rest)
		}
	})
}

// FuzzLiteral: what is quoted is one constant, and the text that was put in, whatever standard_conforming_strings says.
func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"", "a", "'", "''", `\`, `\'`, `a\b'c`, "é", "'; DROP TABLE x; --", `\\`, "E'x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := strings.TrimPrefix(literal(s), " ")
		q, escaped := strings.CutPrefix(q, "E")
		if !escaped && strings.Contains(q, `\`) {
			t.Fatalf("%q depends on standard_conforming_strings", literal(s))
		}
		if escaped {
			q = strings.ReplaceAll(q, `\\`, "\x01\x02\x03")
			if strings.Contains(q, `\`) {
				t.Fatalf("%q holds a lone backslash", literal(s))
			}
			q = strings.ReplaceAll(q, "\x01\x02\x03", `\`)
		}
		got, rest := unquote(t, q, '\'')
		if got != s || rest != "" {
			t.Fatalf("%q came back as %q, %q is left over", s, got, rest)
		}
	})
}

// unquote reads one quoted word as the server does, and returns what follows it.
func unquote(t *testing.T, s string, quote byte) (word, rest string) {
	t.Helper()
	if s == "" || s[0] != quote {
		t.Fatalf("%q does not begin with a quote", s)
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] == quote {
			if i+1 == len(s) || s[i+1] != quote {
				return b.String(), s[i+1:]
			}
			i++
		}
		b.WriteByte(s[i])
	}
	t.Fatalf("%q does not end", s)
	return "", ""
}

// FuzzPosition: bytes that are no position are refused; those that are survive printing.
func FuzzPosition(f *testing.F) {
	f.Add(position(1, 2), "0/0")
	f.Add([]byte{}, "FFFFFFFF/FFFFFFFF")
	f.Add(make([]byte, 15), "1/")
	f.Add(make([]byte, 17), "/1")
	f.Add([]byte(nil), "-1/+1")
	f.Fuzz(func(t *testing.T, p []byte, text string) {
		_ = printable(p)
		if commit, end, err := readPosition(p); err == nil && len(p) > 0 && !bytes.Equal(position(commit, end), p) {
			t.Fatalf("%x became %x", p, position(commit, end))
		}
		if lsn, err := parseLSN(text); err == nil {
			again, err := parseLSN(formatLSN(lsn))
			if err != nil || again != lsn {
				t.Fatalf("%q is %d, and %d after printing (%v)", text, lsn, again, err)
			}
		}
	})
}
