package command

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/droverdb/drover/internal/diag"
)

// farthest is how many letters may be wrong in a word that is still recognised.
const farthest = 3

// nearest is the name that was probably meant, "" if none is near. Short words must be nearer: any two of them are alike.
func nearest(word string, names []string) string {
	best, dist := "", min(farthest, (len(word)+1)/2)+1
	for _, n := range names {
		if d := distance(strings.ToLower(word), strings.ToLower(n)); d < dist {
			best, dist = n, d
		}
	}
	return best
}

// didYouMean ends a sentence with the nearest name, if there is one.
func didYouMean(word string, names []string) string {
	if n := nearest(word, names); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}

// distance is the Levenshtein distance, a swap of neighbours counting as one.
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}

// oneOf refuses a word that a flag does not take, and says which it takes.
func oneOf(flag, word string, allowed ...string) error {
	if slices.Contains(allowed, word) {
		return nil
	}
	return diag.Usage.New(flag, nil, "%q is none of %s%s", word, strings.Join(allowed, ", "), didYouMean(word, allowed))
}

// exactly demands the arguments that the command's usage names in capitals; those in brackets may be left out.
func exactly(c *cobra.Command, args []string) error {
	wanted, most := arguments(c.Use)
	switch {
	case len(args) < len(wanted):
		return misused(c, "missing: "+strings.Join(wanted[len(args):], ", "))
	case len(args) > most:
		return misused(c, "there is no place for "+shown(args[most:]...))
	}
	return nil
}

// shown repeats arguments, unless they look like an address, or the end of one that the shell took apart: with a password.
func shown(args ...string) string {
	text := strings.Join(args, " ")
	if strings.ContainsAny(text, "@=") || strings.Contains(text, "://") {
		return "…; quote an address for the shell"
	}
	return text
}

// arguments reads a usage such as "status [PIPELINE]": which arguments have to be there, and how many there may be. A
// word behind a flag belongs to that.
func arguments(use string) (wanted []string, most int) {
	words := strings.Fields(use)
	for i, w := range words {
		switch {
		case w != strings.ToUpper(w) || strings.HasPrefix(w, "-") || i > 0 && strings.HasPrefix(words[i-1], "-"):
			continue
		case !strings.HasPrefix(w, "["):
			wanted = append(wanted, w)
		}
		most++
		if strings.Contains(w, "...") {
			most = math.MaxInt
			break
		}
	}
	return wanted, most
}

// misused says how a command is used.
func misused(c *cobra.Command, why string) error {
	return diag.Usage.New(c.CommandPath(), nil, "%s", why).WithFix(c.UseLine(), c.CommandPath()+" --help")
}

// badFlag answers a flag that is unknown, or misses its value, with the nearest one.
func badFlag(c *cobra.Command, err error) error {
	if before := c.Flags().Args(); c.HasSubCommands() && len(before) > 0 { // it is the verb that is wrong
		return c.Args(c, before)
	}
	why := err.Error()
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, "--"+f.Name)
			}
		})
		why += didYouMean("--"+unknown.GetSpecifiedName(), names)
	}
	return misused(c, why)
}

// noun makes a command that only holds others: alone it shows its help, an unknown verb is answered with the nearest.
func noun(c *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	c.AddCommand(verbs...)
	c.DisableFlagsInUseLine = true
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var names []string
		for _, v := range c.Commands() {
			if !v.Hidden {
				names = append(names, v.Name())
			}
		}
		return diag.Usage.New(c.CommandPath(), nil, "it has no verb %q%s", shown(args[0]), didYouMean(args[0], names)).WithFix(c.CommandPath() + " --help")
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}
