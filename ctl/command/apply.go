package command

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/droverdb/drover/ctl/spec"
	"github.com/droverdb/drover/internal/diag"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

func (e *env) applyCmd() *cobra.Command {
	var file string
	var hold bool
	c := &cobra.Command{
		Use: "apply -f FILE", Short: "Create a pipeline from a file, or change it", Args: cobra.NoArgs,
		Example: "  drover apply -f shop.yaml\n  drover apply -f - < shop.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			b, err := readFile(file, e.in)
			if err != nil {
				return err
			}
			s, err := spec.Parse(file, b)
			if err != nil {
				return err
			}
			return e.with(c.Context(), s.Name, func(client controlv1.ControlServiceClient) error {
				r, err := client.Apply(c.Context(), &controlv1.ApplyRequest{Spec: s, Start: !hold})
				if err != nil {
					return e.remote(err)
				}
				word := "is unchanged"
				if r.Created {
					word = "created"
				} else if r.Changed {
					word = "changed"
				}
				fmt.Fprintf(e.out, "pipeline %s %s\n", s.Name, word)
				e.say("next: drover status %s -w", s.Name)
				return nil
			})
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "pipeline file, - for standard input")
	c.Flags().BoolVar(&hold, "no-start", false, "create it without starting it")
	if err := c.MarkFlagRequired("file"); err != nil {
		panic(err)
	}
	return c
}

func readFile(name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(in)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, diag.SpecInvalid.New(name, err, "the file cannot be read")
	}
	return b, nil
}
