package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
)

// serverError is what may be shown of a server's error: never its detail, which quotes rows.
type serverError struct{ pe *pgconn.PgError }

// quoted matches the values that messages of class 22 (data exceptions) repeat.
var quoted = regexp.MustCompile(`"(?:[^"]|"")*"`)

func (e serverError) Error() string {
	msg := e.pe.Message
	switch {
	case strings.HasPrefix(e.pe.Code, "22"):
		msg = quoted.ReplaceAllString(msg, `"…"`)
	case strings.HasPrefix(e.pe.Code, "P0"), raiser(e.pe.Where) != someone: // the words are a function's own, and may hold anything
		msg = "raised by " + raiser(e.pe.Where) + "; its words are in the server's log"
	}
	if e.pe.ConstraintName != "" && !strings.Contains(msg, e.pe.ConstraintName) {
		msg += ", constraint " + ident(e.pe.ConstraintName)
	}
	return msg + " (SQLSTATE " + e.pe.Code + ")"
}

// someone has raised an error, and the context does not tell who.
const someone = "a function or trigger"

// raiser names the function of a context such as "PL/pgSQL function f(integer) line 3 at RAISE".
func raiser(where string) string {
	line, _, _ := strings.Cut(where, "\n")
	if strings.HasPrefix(line, "PL/") && strings.Contains(line, " function ") {
		return line
	}
	return someone
}

func (e serverError) Unwrap() error { return e.pe }

// byState decides for whole SQLSTATEs, byClass for their first two characters.
var (
	byState = map[string]diag.Code{
		"28P01": diag.AuthFailed, "28000": diag.AuthFailed,
		"3D000": diag.NoDatabase,
		"42501": diag.NoRight,
		"53300": diag.TooMany, "53100": diag.DiskFull,
		"57P01": diag.ConnLost, "57P02": diag.ConnLost, "57P03": diag.ConnLost, "57P05": diag.ConnLost,
		"57014": diag.CallCancelled,
		"25006": diag.ReadOnly,
		"55006": diag.SlotBusy,
		"58P01": diag.SlotLost,
		"40001": diag.LockWait, "40P01": diag.LockWait, "55P03": diag.LockWait,
		"25P03": diag.ConnLost,
		"54000": diag.RowRefused, // an index takes no row of that size
	}
	byClass = map[string]diag.Code{
		"08": diag.ConnLost,
		"22": diag.RowRefused, "23": diag.RowRefused, "P0": diag.RowRefused,
		"53": diag.ConnLost, "58": diag.ConnLost,
		"42": diag.SchemaChanged,
	}
)

// mapError gives an error its code; where names the object. nil stays nil, a coded error stays as it is, but for an object
// that whoever made it did not know.
func mapError(err error, where string) error {
	if err == nil {
		return nil
	}
	if d := diag.Find(err); d != nil {
		if d.Where == "" {
			d.Where = where
		}
		return err
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		code := codeOf(pe)
		if strings.HasPrefix(where, "source") {
			code = atSource(code)
		}
		return code.New(where, serverError{pe}, "")
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !isConnect(err):
		return diag.CallCancelled.New(where, err, "")
	case isConnect(err):
		return connectError(err, where)
	case isNetwork(err):
		return diag.ConnLost.New(where, plain(err), "")
	}
	return diag.Internal.New(where, err, "")
}

// rowError gives an error of a statement that writes rows of one table its code: what is not known to concern others refuses
// these rows. A trigger may raise whatever it likes, and a table may have become something that takes no rows.
func rowError(err error, where string) error {
	coded := mapError(err, where)
	var pe *pgconn.PgError
	if d := diag.Find(coded); d != nil && d.Code.ID == diag.Internal.ID && errors.As(d.Cause, &pe) {
		return diag.RowRefused.New(where, serverError{pe}, "")
	}
	return coded
}

// atSource is what a refusal means there, where it is not what it means at a target.
func atSource(code diag.Code) diag.Code {
	switch code.ID {
	case diag.RowRefused.ID: // a source is asked, not given rows
		return diag.Internal
	case diag.ReadOnly.ID: // our sessions lift what is only a default
		return diag.Standby
	}
	return code
}

func codeOf(pe *pgconn.PgError) diag.Code {
	if tokensGone(pe) {
		return diag.TakenOver
	}
	if pe.Code == "53400" || pe.Code == "55000" && strings.Contains(pe.Message, "replication slot") {
		return slotCode(pe)
	}
	if pe.Code == "53200" && strings.Contains(pe.Hint, "max_locks_per_transaction") {
		return diag.LocksFull
	}
	if c, ok := byState[pe.Code]; ok {
		return c
	}
	if len(pe.Code) == 5 {
		if c, ok := byClass[pe.Code[:2]]; ok {
			return c
		}
	}
	return diag.Internal
}

// slotCode tells the refusals apart that share a SQLSTATE around slots.
func slotCode(pe *pgconn.PgError) diag.Code {
	switch {
	case strings.Contains(pe.Message, "all replication slots are in use"):
		return diag.NoSlotFree
	case strings.Contains(pe.Message, "wal_level"):
		return diag.WalLevel
	case pe.Code == "55000":
		return diag.SlotLost
	}
	return diag.TooMany
}

func isConnect(err error) bool {
	var ce *pgconn.ConnectError
	return errors.As(err, &ce)
}

func isNetwork(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		strings.Contains(err.Error(), "conn closed")
}

// connectError keeps the reason only: the text of a failed connect repeats user and database.
func connectError(err error, where string) error {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return diag.Unreachable.New(where, nil, "the host name cannot be resolved")
	case errors.Is(err, syscall.ECONNREFUSED):
		return diag.Unreachable.New(where, nil, "connection refused")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), pgconn.Timeout(err):
		return diag.Unreachable.New(where, nil, "no answer in time")
	case errors.Is(err, context.Canceled):
		return diag.CallCancelled.New(where, context.Canceled, "")
	}
	return diag.Unreachable.New(where, plain(err), "")
}

// plain cuts a chain to its innermost text.
func plain(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// urlError never repeats the URL: it may hold what should not be there.
func urlError(err error) error {
	why := "the connection URL cannot be parsed"
	var pe *pgconn.ParseConfigError
	if errors.As(err, &pe) {
		if inner := pe.Unwrap(); inner != nil && strings.Contains(inner.Error(), "service") {
			why = "the service file or the service it names cannot be read"
		}
	}
	return diag.SpecInvalid.New("connection URL", nil, "%s", why).
		WithFix("postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full")
}

func portOf(p uint16) string { return strconv.Itoa(int(p)) }
