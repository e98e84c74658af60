package postgres

import "strings"

// Object is something Drover makes inside a database for itself.
type Object struct{ Side, Name, Purpose string }

// Objects lists all that is made for a pipeline, for the documentation; `drover delete` removes it.
func Objects(pipeline string) []Object {
	name := slotName(pipeline)
	return []Object{
		{"source", "publication " + name, "names exactly the tables of the pipeline; made with --follow only"},
		{"source", "replication slot " + name, "keeps the log from the pipeline's position on; made with --follow only"},
		{"source", "log messages with prefix drover", "pg_logical_emit_message, so that an idle slot moves; nothing is stored"},
		{"target", "schema drover", "positions, finished chunks, finished schema steps, single keys read again and tables set aside, by pipeline, and whose each is"},
		{"target", "advisory lock of session drover/" + pipeline + "/owner", "tells another coordinator that this one is at work; ends with the session"},
		{"both", "sessions named drover/" + pipeline + "/…", "application_name of every session"},
	}
}

// BookkeepingSQL is what makes the schema drover at a target.
func BookkeepingSQL() string { return strings.TrimSpace(bookkeepingDDL) }

// OptionsSchema is the JSON Schema of the connector's options.
func OptionsSchema() string { return configSchema }
