package store

import (
	"fmt"
	"strings"
)

// All keys of Drover in etcd. Nobody else composes one.
//
//	/drover/v1/leader/…            election
//	/drover/v1/agent/NAME          session of an agent, on its lease
//	/drover/v1/spec/PIPELINE       spec
//	/drover/v1/state/PIPELINE      phase, desired state, start position, epoch counter
//	/drover/v1/catalog/PIPELINE/P  parts of the catalog
//	/drover/v1/table/PIPELINE/T    progress of a table
//	/drover/v1/chunk/PIPELINE/C    chunks of tables that are not finished
const root = "/drover/v1/"

// ElectionKey is the prefix of the coordinators' candidacies.
const ElectionKey = root + "leader"

const specs = root + "spec/"

// AgentKey holds an agent's session.
func AgentKey(name string) string { return root + "agent/" + name }

func specKey(p string) string            { return specs + p }
func stateKey(p string) string           { return root + "state/" + p }
func catalogPrefix(p string) string      { return root + "catalog/" + p + "/" }
func tablePrefix(p string) string        { return root + "table/" + p + "/" }
func chunkPrefix(p string) string        { return root + "chunk/" + p + "/" }
func catalogKey(p string, n int) string  { return fmt.Sprintf("%s%04d", catalogPrefix(p), n) }
func tableKey(p string, t uint32) string { return fmt.Sprintf("%s%08x", tablePrefix(p), t) }
func chunkKey(p string, c uint64) string { return fmt.Sprintf("%s%016x", chunkPrefix(p), c) }

// pipelineOf is the name in a spec's key.
func pipelineOf(key string) string { return strings.TrimPrefix(key, specs) }
