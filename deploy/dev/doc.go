// Package dev runs throw-away databases on the loopback interface for tests, the demo and benchmarks.
//
// In a test package:
//
//	func TestMain(m *testing.M) { os.Exit(dev.Main(m)) }
//
//	func TestThing(t *testing.T) {
//		url := dev.Database(t) // fresh database on the package's shared server
//		...
//	}
//
// A test that stops, kills or pauses a server takes its own with Postgres.
// Versions: DROVER_DEV_POSTGRES names the folder of another server's programs, DROVER_DEV_POSTGRES_TARGET that of servers which a test
// takes as target (TargetDatabase, TargetPostgres, SharedTarget), DROVER_DEV_PG_DUMP a pg_dump for both. deploy/dev/versions sets them.
//
// Nothing outlives the process that started it: servers die with their parent, and directories
// that a killed parent left behind are removed by the next run.
package dev
