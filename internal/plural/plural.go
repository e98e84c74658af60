// Package plural puts a number before a noun.
package plural

import (
	"fmt"
	"strings"
)

// Of is "1 table", "2 tables", "2 indexes".
func Of[N ~int | ~int32 | ~int64](n N, noun string) string {
	return fmt.Sprint(n) + " " + Word(n, noun)
}

// Word is the noun that fits the number.
func Word[N ~int | ~int32 | ~int64](n N, noun string) string {
	switch {
	case n == 1:
		return noun
	case strings.HasSuffix(noun, "x"):
		return noun + "es"
	}
	return noun + "s"
}
