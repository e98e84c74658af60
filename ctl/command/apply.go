package command

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/ctl/spec"
	"github.com/droverdb/drover/ctl/view"
	"github.com/droverdb/drover/internal/diag"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

func (e *env) applyCmd() *cobra.Command {
	var file string
	var hold bool
	c := &cobra.Command{
		Use: "apply -f FILE", Short: "Create a pipeline from a file, or change it", Args: exactly,
		Example: "  drover apply -f shop.yaml\n  drover apply -f - < shop.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return misused(c, "missing: -f FILE")
			}
			b, err := readFile(file, e.in)
			if err != nil {
				return err
			}
			s, err := spec.Parse(file, b)
			if err != nil {
				return err
			}
			client, done, err := e.dial(c.Context(), s.Name)
			if err != nil {
				return err
			}
			defer done()
			r, err := client.Apply(c.Context(), &controlv1.ApplyRequest{Spec: s, Start: !hold})
			if err != nil {
				return e.remote(err)
			}
			return e.show(e.applied(s.Name, r))
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "pipeline file, - for standard input")
	c.Flags().BoolVar(&hold, "no-start", false, "create it without starting it")
	return e.limited(c, func([]string) wait {
		return wait{"drover apply", "the coordinator to take the file", "What runs keeps running; apply the same file again, which changes nothing twice."}
	})
}

func (e *env) applied(name string, r *controlv1.ApplyResponse) view.Listing {
	type answer struct {
		Pipeline string   `json:"pipeline"`
		Created  bool     `json:"created"`
		Changed  bool     `json:"changed"`
		Next     []string `json:"next_steps"`
	}
	next := "drover status " + name + " -w"
	return view.Answer(name, answer{name, r.Created, r.Changed, []string{next}}, func(w io.Writer, _ bool) {
		word := "is unchanged"
		if r.Created {
			word = "created"
		} else if r.Changed {
			word = "changed"
		}
		fmt.Fprintf(w, "pipeline %s %s\n", name, word)
		e.say("next: %s", next)
	})
}

func readFile(name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(in)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, diag.SpecInvalid.New(name, err, "the file cannot be read").WithFix("Name a file that exists with -f, or - for standard input.")
	}
	return b, nil
}
