package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
)

// Variables that shape the log: DROVER_LOG is "plain" (default) or "json", DROVER_LOG_LEVEL debug, info, warn or error.
const (
	FormatVar = "DROVER_LOG"
	LevelVar  = "DROVER_LOG_LEVEL"
)

var current atomic.Pointer[slog.Logger]

func setLogger(l *slog.Logger) {
	current.Store(l)
	slog.SetDefault(l)
}

// Logger is the process's logger: what Setup made, before it slog's default.
func Logger() *slog.Logger {
	if l := current.Load(); l != nil {
		return l
	}
	return slog.Default()
}

func fromEnvironment(w io.Writer) (*slog.Logger, error) {
	level := slog.LevelInfo
	if text := os.Getenv(LevelVar); text != "" {
		if err := level.UnmarshalText([]byte(text)); err != nil {
			return nil, fmt.Errorf("telemetry: %s: %q is not debug, info, warn or error", LevelVar, text)
		}
	}
	switch format := os.Getenv(FormatVar); format {
	case "", "plain":
		return NewLogger(w, false, level), nil
	case "json":
		return NewLogger(w, true, level), nil
	default:
		return nil, fmt.Errorf("telemetry: %s: %q is not plain or json", FormatVar, format)
	}
}

// NewLogger writes JSON or plain lines, with passwords masked in messages, strings, errors and Stringers.
func NewLogger(w io.Writer, json bool, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		a.Value = redactValue(a.Value)
		return a
	}}
	if json {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func redactValue(v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindString:
		return slog.StringValue(Redact(v.String()))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case *slog.Source, slog.Level, nil:
			return v
		case error:
			return slog.StringValue(Redact(x.Error()))
		case fmt.Stringer:
			return slog.StringValue(Redact(x.String()))
		default: // a struct or slice may hold a URL as well
			return slog.StringValue(Redact(fmt.Sprintf("%+v", x)))
		}
	}
	return v
}
