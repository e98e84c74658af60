package command

import (
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/ctl/spec"
	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
)

// Version is set by the linker for releases.
var Version = "dev"

func (e *env) explainCmd() *cobra.Command {
	return &cobra.Command{
		Use: "explain CODE|FIELD", Short: "Explain an error code or a field of the pipeline file", Example: "  drover explain E3001\n  drover explain load.chunk",
		Args: exactly,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var out []string
			for _, c := range diag.All() {
				out = append(out, c.ID+"\t"+c.Title)
			}
			return append(out, spec.Fields()...), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if c, ok := diag.Lookup(args[0]); ok {
				return e.show(explainCode(c))
			}
			if text, ok := spec.Explain(args[0]); ok {
				return e.show(explainField(args[0], text))
			}
			names := spec.Fields()
			for _, c := range diag.All() {
				names = append(names, c.ID)
			}
			return diag.Usage.New("drover explain "+shown(args[0]), nil, "neither a code nor a field%s", didYouMean(args[0], names)).
				WithFix("docs/reference/errors.md lists every code, docs/reference/pipeline-file.md every field")
		},
	}
}

func explainCode(c diag.Code) view.Listing {
	type code struct {
		Code    string `json:"code"`
		Title   string `json:"title"`
		Explain string `json:"explain"`
		Fix     string `json:"fix"`
		Then    string `json:"what_happens"`
		Exit    int    `json:"exit_code"`
	}
	v := code{c.ID, c.Title, c.Explain, c.Fix, WhatHappens(c.Class), ExitCode(c)}
	return view.Answer(c.ID, v, func(w io.Writer, wide bool) {
		fmt.Fprintf(w, "%s: %s\n\n%s\n\nfix: %s\n", v.Code, v.Title, v.Explain, v.Fix)
		if wide {
			fmt.Fprintf(w, "\nwhat happens: %s; exit code %d\n", v.Then, v.Exit)
		}
	})
}

// explainField tells of a field, and names those below it.
func explainField(name, text string) view.Listing {
	type field struct {
		Field  string   `json:"field"`
		Text   string   `json:"text"`
		Fields []string `json:"fields,omitempty"`
	}
	v := field{Field: name, Text: text}
	for _, f := range spec.Fields() {
		if rest, ok := strings.CutPrefix(f, name+"."); ok && !strings.Contains(rest, ".") {
			v.Fields = append(v.Fields, f)
		}
	}
	return view.Answer(name, v, func(w io.Writer, _ bool) {
		fmt.Fprintf(w, "%s\n\n%s\n", v.Field, v.Text)
		for _, f := range v.Fields {
			below, _ := spec.Explain(f)
			fmt.Fprintf(w, "\n  %s\n      %s\n", f, below)
		}
	})
}

// WhatHappens is what becomes of the work after an error of a class.
func WhatHappens(c diag.Class) string {
	return map[diag.Class]string{diag.Retry: "Drover tries again", diag.Fenced: "somebody newer goes on", diag.Hold: "one table or step waits for a person",
		diag.Fatal: "the pipeline waits for a person", diag.BadUsage: "nothing was started", diag.Ended: "the command ends; what it waited for is not undone"}[c]
}

func (e *env) versionCmd() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Example: "  drover version -o json", Args: exactly, RunE: func(*cobra.Command, []string) error {
		type version struct {
			Drover     string   `json:"drover"`
			Go         string   `json:"go"`
			Connectors []string `json:"connectors"`
		}
		v := version{Drover: Version, Connectors: []string{"postgres"}}
		if b, ok := debug.ReadBuildInfo(); ok {
			v.Go = b.GoVersion
		}
		return e.show(view.Answer(v.Drover, v, func(w io.Writer, _ bool) {
			fmt.Fprintf(w, "drover %s (%s), connectors: %s\n", v.Drover, v.Go, strings.Join(v.Connectors, ", "))
		}))
	}}
}
