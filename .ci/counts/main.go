// Command counts reads `go test -json` events, prints what failed with its output, and closes with real counts.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action      string
	Package     string
	ImportPath  string // of build output, in place of Package
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

type key struct{ pkg, test string }

type summary struct {
	passed, failed, skipped int // tests, subtests included
	packages, bad, empty    int
	skips                   []string
}

func main() {
	s, err := read(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "counts:", err)
		os.Exit(1)
	}
	line := s.String()
	fmt.Print(line)
	if path := os.Getenv("COUNTS"); path != "" {
		if err := os.WriteFile(path, []byte(line), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "counts:", err)
			os.Exit(1)
		}
	}
}

func read(r io.Reader, w io.Writer) (summary, error) {
	var s summary
	output := map[key]*strings.Builder{}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				s.take(e, output, w)
			} else {
				fmt.Fprintf(w, "%s", line) // what is not an event is worth seeing
			}
		}
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return s, err
		}
	}
}

func (s *summary) take(e event, output map[key]*strings.Builder, w io.Writer) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(w, e.Output)
	case "output":
		if output[k] == nil {
			output[k] = &strings.Builder{}
		}
		output[k].WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e, w)
		} else {
			s.endTest(e)
		}
		if text := output[k]; text != nil && e.Action == "fail" {
			fmt.Fprint(w, text.String())
		}
		delete(output, k)
	}
}

func (s *summary) endTest(e event) {
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
	case "skip":
		s.skipped++
		s.skips = append(s.skips, e.Package+" "+e.Test)
	}
}

func (s *summary) endPackage(e event, w io.Writer) {
	switch e.Action {
	case "skip":
		s.empty++
		return
	case "fail":
		s.bad++
	}
	s.packages++
	fmt.Fprintf(w, "%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
}

func (s summary) String() string {
	var b strings.Builder
	slices.Sort(s.skips)
	for _, skip := range s.skips {
		fmt.Fprintf(&b, "skipped: %s\n", skip)
	}
	fmt.Fprintf(&b, "tests: %d passed, %d failed, %d skipped; packages: %d tested, %d of them failed, %d without tests\n",
		s.passed, s.failed, s.skipped, s.packages, s.bad, s.empty)
	return b.String()
}
