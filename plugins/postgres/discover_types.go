package postgres

import (
	"context"
	"strings"
)

// firstUserOID is the first number that differs from database to database.
const firstUserOID = 16384

type pgType struct {
	Oid          uint32
	Schema, Name string
	// Kind is typtype: b(ase), c(omposite), d(omain), e(num), p(seudo), r(ange), m(ultirange).
	Kind string
	// Base is a domain's type, Elem an array's, Sub a range's.
	Base, Elem, Sub uint32
	// Binary: the type has a binary form in both directions.
	Binary bool
}

func (c *catalog) readTypes(ctx context.Context) error {
	types, err := list[pgType](ctx, c.tx, `
		SELECT t.oid, n.nspname, t.typname, t.typtype::text, t.typbasetype,
		       CASE WHEN t.typsubscript::oid = 'array_subscript_handler'::regproc AND t.typlen = -1 THEN t.typelem ELSE 0::oid END,
		       coalesce(r.rngsubtype, 0::oid), t.typsend::oid <> 0 AND t.typreceive::oid <> 0
		FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
		LEFT JOIN pg_range r ON r.rngtypid = t.oid OR r.rngmultitypid = t.oid`)
	for _, t := range types {
		c.types[t.Oid] = t
		if t.Elem != 0 {
			c.arrayOf[t.Elem] = t.Oid
		}
	}
	return err
}

// regTypes are stored as numbers of the source's own catalog.
var regTypes = map[uint32]bool{
	24: true, 2202: true, 2203: true, 2204: true, 2205: true, 2206: true, 3734: true, 3769: true, 4089: true, 4096: true, 4191: true,
}

// textOnly reports whether the binary form of a type holds numbers that mean something else in another database.
func (c *catalog) textOnly(oid uint32) bool {
	t := c.types[oid]
	switch {
	case t == nil:
		return true
	case regTypes[oid], !t.Binary, t.Kind == "c", t.Kind == "p":
		return true
	case t.Kind == "d":
		return c.textOnly(t.Base)
	case t.Elem != 0:
		return t.Elem >= firstUserOID || c.textOnly(t.Elem)
	case t.Sub != 0:
		return c.textOnly(t.Sub)
	}
	return false
}

// base follows domains to the type whose values they hold.
func (c *catalog) base(oid uint32) uint32 {
	for t := c.types[oid]; t != nil && t.Kind == "d"; t = c.types[oid] {
		oid = t.Base
	}
	return oid
}

var logicalTypes = map[uint32]string{
	16: "bool", 17: "bytes", 18: "text", 19: "text", 20: "int64", 21: "int16", 23: "int32", 25: "text", 26: "uint32",
	114: "json", 142: "xml", 700: "float32", 701: "float64", 790: "decimal", 1042: "text", 1043: "text", 1082: "date",
	1083: "time", 1114: "timestamp", 1184: "timestamptz", 1186: "interval", 1266: "timetz", 1560: "bits", 1562: "bits",
	1700: "decimal", 2950: "uuid", 3802: "json", 869: "inet", 650: "inet", 600: "geometry", 601: "geometry",
	602: "geometry", 603: "geometry", 604: "geometry", 628: "geometry", 718: "geometry",
}

// logical names the type of the lattice; what has no place there travels as the text PostgreSQL prints.
func (c *catalog) logical(oid uint32) string {
	oid = c.base(oid)
	if name := logicalTypes[oid]; name != "" {
		return name
	}
	t := c.types[oid]
	switch {
	case t == nil:
		return "text"
	case t.Kind == "e":
		return "enum"
	case t.Kind == "c":
		return "struct"
	case t.Elem != 0:
		return "array"
	case t.Sub != 0:
		return "range"
	case strings.EqualFold(t.Name, "geometry"), strings.EqualFold(t.Name, "geography"):
		return "geometry"
	}
	return "text"
}
