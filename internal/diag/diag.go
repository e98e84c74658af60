// Package diag is the one registry of errors that people see. Every error has a stable code and says
// where, why and how to fix it; a code without a fix fails the build's tests.
package diag

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Class says who has to do what about an error.
type Class int

const (
	// Retry: the same thing may work in a moment (connection lost, server starting).
	Retry Class = iota + 1
	// Fenced: a newer epoch owns the unit; stop, somebody else goes on.
	Fenced
	// Hold: a person has to decide; only this table or step waits.
	Hold
	// Fatal: a person has to decide; the pipeline waits.
	Fatal
	// BadUsage: the command line or the pipeline file is wrong.
	BadUsage
	// Ended: the command gave up waiting; nothing is wrong with what it waited for.
	Ended
)

// Code is an entry of the registry.
type Code struct {
	ID string
	// Title says what is wrong in one line, without values.
	Title string
	// Explain is what `drover explain CODE` prints: why it matters, what Drover did about it.
	Explain string
	// Fix is the general remedy; an Error may carry exact SQL instead.
	Fix   string
	Class Class
}

var registry = map[string]Code{}

func register(c Code) Code {
	if _, dup := registry[c.ID]; dup {
		panic("diag: code registered twice: " + c.ID)
	}
	registry[c.ID] = c
	return c
}

// Lookup finds a code; ok is false for an unknown one.
func Lookup(id string) (Code, bool) {
	c, ok := registry[strings.ToUpper(id)]
	return c, ok
}

// All returns every code in order.
func All() []Code {
	out := make([]Code, 0, len(registry))
	for _, c := range registry {
		out = append(out, c)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// Error is an error with a code. It must never hold a secret or a row's value.
type Error struct {
	Code Code
	// Where names the object: "source › table shop.orders".
	Where string
	// Why tells this case; the code's title is printed before it.
	Why string
	// Fixes are exact commands; empty: the code's general fix.
	Fixes []string
	Cause error
	// Table is the number in its pipeline of the one table that the error is about, plus 1; 0: none, or more than one.
	Table uint32
	// Also are more tables of which the same is true, by their numbers plus 1.
	Also []uint32
}

// New makes an error of a code. cause may be nil.
func (c Code) New(where string, cause error, why string, args ...any) *Error {
	return &Error{Code: c, Where: where, Why: fmt.Sprintf(why, args...), Cause: cause}
}

// WithFix sets exact commands that fix it.
func (e *Error) WithFix(fix ...string) *Error {
	e.Fixes = fix
	return e
}

// About names the one table that a coded error is about; one that names a table already, and any other error, stays as
// it is.
func About(err error, table uint32) error {
	if e := Find(err); e != nil && e.Table == 0 {
		e.Table = table + 1
	}
	return err
}

// Fix returns the exact commands, or the general remedy.
func (e *Error) Fix() []string {
	if len(e.Fixes) > 0 {
		return e.Fixes
	}
	return []string{e.Code.Fix}
}

func (e *Error) Error() string {
	s := e.Code.ID + ": " + e.Code.Title
	if e.Where != "" {
		s += " (" + e.Where + ")"
	}
	if e.Why != "" {
		s += ": " + e.Why
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

// Find returns the outermost coded error of a chain, or nil.
func Find(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// ClassOf returns the class of the chain's coded error; an error without a code is Fatal.
func ClassOf(err error) Class {
	if e := Find(err); e != nil {
		return e.Code.Class
	}
	return Fatal
}
