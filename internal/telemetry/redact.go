package telemetry

import (
	"regexp"
	"strings"
)

const secretKey = `((?i)(?:password|passwd|pwd|secret|access_key)\s*=\s*`

// assigned are the places where a key=value string or a parameter of a URL carries a password, and where a YAML file does.
var assigned = []*regexp.Regexp{
	regexp.MustCompile(secretKey + `')(?:[^'\\]|\\.)*('|$)`),
	regexp.MustCompile(secretKey + `)(?:[^\s&'\\]|\\.)(?:[^\s&\\]|\\.)*()`),
	regexp.MustCompile(`((?i)(?:password|passwd|pwd|access_key)"?:\s+)[^\s][^\n]*()`),
}

// address is where a URL begins: not amid a word, which may be a password.
var address = regexp.MustCompile(`(?:^|[\s"'(\[{,;=` + "`" + `])([a-zA-Z][a-zA-Z0-9+.-]*://)`)

// Redact masks the passwords of URLs (scheme://user:secret@host, ?password=secret) and of key=value strings. Where one ends
// is not certain when it holds what should have been encoded: then too much is masked.
func Redact(s string) string {
	for _, secret := range assigned {
		s = secret.ReplaceAllString(s, "${1}***${2}")
	}
	if !strings.Contains(s, "://") {
		return s
	}
	lines := strings.SplitAfter(s, "\n")
	for i, l := range lines {
		lines[i] = redactAddresses(l)
	}
	return strings.Join(lines, "")
}

// redactAddresses masks, in each URL of a line, from the first colon to the last @ before the next URL.
func redactAddresses(line string) string {
	found := address.FindAllStringSubmatchIndex(line, -1)
	if found == nil {
		return line
	}
	b := &strings.Builder{}
	b.WriteString(line[:found[0][3]])
	for i, f := range found {
		end := len(line)
		if i+1 < len(found) {
			end = found[i+1][3]
		}
		b.WriteString(redactUser(line[f[3]:end]))
	}
	return b.String()
}

// redactUser masks the password of what follows the scheme. A name without one, in front of a host and port, is left alone.
func redactUser(rest string) string {
	colon, at := strings.Index(rest, ":"), strings.LastIndex(rest, "@")
	if colon < 0 || at < colon {
		return rest
	}
	return rest[:colon+1] + "***" + rest[at:]
}
