// Package secret resolves references to secrets on the machine that needs them. Values are never logged or put into errors.
package secret

import (
	"crypto/rand"
	"os"
	"strings"
	"sync"

	"github.com/droverdb/drover/internal/diag"
)

var local = struct {
	sync.Mutex
	values map[string]string
}{values: map[string]string{}}

// Local keeps a value in this process's memory and returns its reference, "local:ID".
func Local(value string) string {
	id := rand.Text()
	Set(id, value)
	return "local:" + id
}

// Set keeps a value under a name of the caller's choice, for the reference "local:NAME".
func Set(name, value string) {
	local.Lock()
	defer local.Unlock()
	local.values[name] = value
}

// Forget drops a local value.
func Forget(name string) {
	local.Lock()
	defer local.Unlock()
	delete(local.values, strings.TrimPrefix(name, "local:"))
}

// Resolve returns what a reference means here: env:NAME, file:PATH (without its last line break), local:ID, or
// nothing for an empty reference.
func Resolve(ref string) (string, error) {
	kind, rest, _ := strings.Cut(ref, ":")
	switch {
	case ref == "":
		return "", nil
	case kind == "env":
		if v, ok := os.LookupEnv(rest); ok {
			return v, nil
		}
		return "", diag.SecretAbsent.New("env:"+rest, nil, "the variable is not set where the agent runs")
	case kind == "file":
		b, err := os.ReadFile(rest)
		if err != nil {
			return "", diag.SecretAbsent.New("file:"+rest, err, "the file cannot be read")
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	case kind == "local":
		local.Lock()
		defer local.Unlock()
		if v, ok := local.values[rest]; ok {
			return v, nil
		}
		return "", diag.SecretAbsent.New("local secret", nil, "it was given to another process, or this one was restarted")
	}
	return "", diag.SecretAbsent.New("secret reference", nil, "it starts neither with env: nor with file:")
}
