package command

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/ctl/spec"
	"github.com/droverdb/drover/internal/diag"
)

// Version is set by the linker for releases.
var Version = "dev"

func (e *env) explainCmd() *cobra.Command {
	return &cobra.Command{
		Use: "explain CODE|FIELD", Short: "Explain an error code or a field of the pipeline file", Example: "  drover explain E3001\n  drover explain load.chunk",
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var out []string
			for _, c := range diag.All() {
				out = append(out, c.ID+"\t"+c.Title)
			}
			return append(out, spec.Fields()...), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if c, ok := diag.Lookup(args[0]); ok {
				fmt.Fprintf(e.out, "%s: %s\n\n%s\n\nfix: %s\n", c.ID, c.Title, c.Explain, c.Fix)
				return nil
			}
			if text, ok := spec.Explain(args[0]); ok {
				fmt.Fprintf(e.out, "%s\n\n%s\n", args[0], text)
				return nil
			}
			return diag.Usage.New("drover explain "+args[0], nil, "neither a code nor a field%s", near(args[0]))
		},
	}
}

// near names the nearest known code or field.
func near(s string) string {
	best, dist := "", 4
	names := spec.Fields()
	for _, c := range diag.All() {
		names = append(names, c.ID)
	}
	for _, n := range names {
		if d := distance(strings.ToLower(s), strings.ToLower(n)); d < dist {
			best, dist = n, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		prev := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := prev
			if a[i-1] != b[j-1] {
				cost++
			}
			prev = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func (e *env) versionCmd() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Example: "  drover version -o json", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		goVersion := ""
		if b, ok := debug.ReadBuildInfo(); ok {
			goVersion = b.GoVersion
		}
		if e.output == "json" {
			return e.printJSON(map[string]any{"version": Version, "go": goVersion, "connectors": []string{"postgres"}})
		}
		fmt.Fprintf(e.out, "drover %s (%s), connectors: postgres\n", Version, goVersion)
		return nil
	}}
}
