// Command reference writes docs/reference from the code, so that it cannot disagree with it.
//
//	go generate ./ctl/...
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/droverdb/drover/ctl/command"
	"github.com/droverdb/drover/ctl/spec"
	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/internal/fault"
	"github.com/droverdb/drover/plugins/postgres"
)

const generated = "<!-- Generated from the code by `make generate`. Do not edit. -->\n"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: reference FOLDER")
		os.Exit(2)
	}
	for name, write := range map[string]func(*strings.Builder){
		"cli.md": cli, "pipeline-file.md": pipelineFile, "errors.md": errorCodes, "environment.md": environment, "databases.md": databases,
	} {
		b := &strings.Builder{}
		b.WriteString(generated)
		write(b)
		if err := os.WriteFile(filepath.Join(os.Args[1], name), []byte(b.String()), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func cli(b *strings.Builder) {
	root := command.Tree()
	b.WriteString("# Commands\n\nData goes to stdout, messages and progress to stderr. On a terminal progress is redrawn in place, elsewhere it is one `key=value` line per `--every`.\n\n")
	b.WriteString("| exit code | meaning |\n|---|---|\n")
	codes := command.ExitCodes()
	for _, n := range sortedKeys(codes) {
		fmt.Fprintf(b, "| %d | %s |\n", n, codes[n])
	}
	fmt.Fprintf(b, "\n`-o` takes %s: [what they hold](../how-to/watch.md). An unknown word is refused with what there is, and the nearest.\n", strings.Join(view.Formats, ", "))
	b.WriteString("\n## Flags of every command\n\n")
	flags(b, root.PersistentFlags())
	commands(b, root)
}

func sortedKeys(m map[int]string) []int {
	var keys []int
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func commands(b *strings.Builder, c *cobra.Command) {
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" {
			continue
		}
		if sub.Runnable() && !sub.HasSubCommands() {
			fmt.Fprintf(b, "\n## %s\n\n", sub.CommandPath())
			text := sub.Long
			if text == "" || strings.Contains(sub.CommandPath(), "completion") {
				text = sub.Short + "."
			}
			fmt.Fprintf(b, "%s\n\n```\n%s\n```\n", strings.TrimSpace(text), sub.UseLine())
			if sub.Example != "" {
				fmt.Fprintf(b, "\n```\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(sub.Example, "  "), "\n  ", "\n"))
			}
			if local := sub.NonInheritedFlags(); local.HasAvailableFlags() {
				b.WriteString("\n")
				flags(b, local)
			}
		}
		commands(b, sub)
	}
}

func flags(b *strings.Builder, set *pflag.FlagSet) {
	b.WriteString("| flag | meaning | default |\n|---|---|---|\n")
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		def := f.DefValue
		if def == "false" || def == "[]" || def == "" {
			def = "–"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, cell(f.Usage), cell(def))
	})
}

// cell keeps text within one cell of a table.
func cell(s string) string { return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s) }

func pipelineFile(b *strings.Builder) {
	b.WriteString("# Pipeline file\n\n`drover apply -f shop.yaml` creates or changes a pipeline. An unknown key, a wrong type or unit is an error with line and column.\n\n")
	if _, err := spec.Parse("example", []byte(spec.Example)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintf(b, "```yaml\n%s```\n\n| key | meaning |\n|---|---|\n", spec.Example)
	for _, f := range spec.Fields() {
		text, _ := spec.Explain(f)
		fmt.Fprintf(b, "| `%s` | %s |\n", f, cell(text))
	}
}

func errorCodes(b *strings.Builder) {
	b.WriteString("# Error codes\n\nThe same text: `drover explain CODE`. W codes are warnings.\n")
	for _, c := range diag.All() {
		fmt.Fprintf(b, "\n## %s: %s\n\n%s\n\n- what happens: %s; exit code %d\n- fix: %s\n", c.ID, c.Title, c.Explain, command.WhatHappens(c.Class), command.ExitCode(c), c.Fix)
	}
}

func environment(b *strings.Builder) {
	b.WriteString("# Environment\n\n| variable | meaning |\n|---|---|\n")
	for _, v := range command.Variables() {
		fmt.Fprintf(b, "| `%s` | %s |\n", strings.ReplaceAll(v.Name, ", ", "`, `"), cell(v.Text))
	}
	b.WriteString("\n## Fault points\n\nFor tests only. `DROVER_FAULT=POINT=ACTION[@N]`; actions: `kill`, `pause`, `error`, `sleep:DURATION`; with `@N` only the Nth pass fires, with `@N+` all from there on.\n\n")
	for _, n := range fault.Names() {
		fmt.Fprintf(b, "- `%s`\n", n)
	}
}

func databases(b *strings.Builder) {
	b.WriteString("# What Drover makes inside databases\n\nFor a pipeline named `shop`. `drover delete shop` removes all of it; a plain `drover copy` removes it when it ends well. Rows stay.\n\n")
	b.WriteString("## PostgreSQL\n\n| where | object | what for |\n|---|---|---|\n")
	for _, o := range postgres.Objects("shop") {
		fmt.Fprintf(b, "| %s | `%s` | %s |\n", o.Side, o.Name, cell(o.Purpose))
	}
	fmt.Fprintf(b, "\nThe schema at the target:\n```sql\n%s\n```\n\nOptions of the connector (`source.options`, `target.options`), as JSON Schema:\n```json\n%s\n```\n",
		postgres.BookkeepingSQL(), strings.TrimSpace(postgres.OptionsSchema()))
}
