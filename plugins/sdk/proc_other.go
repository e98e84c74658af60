//go:build !linux

package sdk

import (
	"net"
	"os"
	"os/exec"
)

// peerUID trusts the 0700 directory of the socket where the kernel tells nothing in a portable way.
func peerUID(*net.UnixConn) (int, error) { return os.Getuid(), nil }

// startTied starts cmd; without a parent-death signal the connector's own watch ends it.
func startTied(cmd *exec.Cmd) error { return cmd.Start() }
