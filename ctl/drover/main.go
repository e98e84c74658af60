// Command drover moves a live database into another one and keeps the two equal.
package main

import (
	"os"

	"github.com/droverdb/drover/ctl/command"
)

func main() { os.Exit(command.Main(os.Args[1:])) }
