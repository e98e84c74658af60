package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/droverdb/drover/ctl/view"
	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"
)

// shower prints progress in the form that fits where it goes.
type shower interface {
	status(*controlv1.Status)
	// end is called when nothing more comes; it may be called again.
	end()
}

// shower for a writer; screen is the terminal behind it, nil if there is none.
func (e *env) shower(w io.Writer, screen *os.File, hint string) shower {
	switch {
	case e.progress == "none" || e.quiet:
		return silent{}
	case e.progress == "json":
		return &lines{every: e.every, print: func(s view.Status) error { return view.WriteItem(w, s, "jsonl") }}
	case e.progress == "auto" && screen != nil && !e.verbose: // log lines would tear the screen
		return newLive(w, screen, view.Style{Color: os.Getenv("NO_COLOR") == "", Hint: hint})
	}
	return &lines{every: e.every, print: func(s view.Status) error {
		_, err := fmt.Fprintln(w, view.Line(s, time.Now()))
		return err
	}, failed: func(f view.Failure) { view.WriteFailure(w, f, "") }, left: func(n view.Left) {
		_, _ = fmt.Fprintf(w, "warning  %s of %s are not followed: %s. %s\n", n.Kind, n.Object, n.Reason, n.Todo)
	}}
}

type silent struct{}

func (silent) status(*controlv1.Status) {}
func (silent) end()                     {}

// lines prints a status per interval, and at every change of phase or health. Nobody may be reading: then there is
// nothing to be done about it, and the work goes on.
type lines struct {
	every time.Duration
	print func(view.Status) error
	// failed tells once why a table was set aside; nil: the status has it.
	failed func(view.Failure)
	// left tells once whose changes are not followed.
	left  func(view.Left)
	told  map[string]bool
	state string
	at    time.Time
}

func (l *lines) status(s *controlv1.Status) {
	v := view.FromStatus(s)
	state := v.Phase + " " + v.Health + " " + v.Desired
	l.tell(s, v)
	if state == l.state && time.Since(l.at) < l.every {
		return
	}
	l.state, l.at = state, time.Now()
	_ = l.print(v)
}

// tell prints failures of tables that are new, and names those that are not followed. Whoever ends for good is told at the end.
func (l *lines) tell(s *controlv1.Status, v view.Status) {
	now := map[string]bool{}
	for _, f := range v.Failures {
		key := f.Code + " " + f.Where
		if now[key] = true; l.failed != nil && !l.told[key] && s.Health == controlv1.Health_HEALTH_DEGRADED && s.Phase != controlv1.Phase_PHASE_DONE {
			l.failed(f)
		}
	}
	for _, n := range v.NotCopied {
		key := n.Kind + " " + n.Object
		if n.Kind != view.Changes || l.left == nil {
			continue
		}
		if now[key] = true; !l.told[key] {
			l.left(n)
		}
	}
	l.told = now
}

func (*lines) end() {}

// quietAfter is how long a screen may be old before it says so: statuses come every second.
const quietAfter = 4 * time.Second

// live redraws a few lines in place. Between statuses it watches the clock, which tells idle from stuck: a coordinator
// that says nothing is not a pipeline in which nothing happens.
type live struct {
	w      io.Writer
	screen *os.File

	mu     sync.Mutex
	style  view.Style
	pace   *view.Pace
	last   *controlv1.Status
	at     time.Time
	drawn  int
	stop   context.CancelFunc
	ticker sync.WaitGroup
}

func newLive(w io.Writer, screen *os.File, style view.Style) *live {
	ctx, stop := context.WithCancel(context.Background())
	l := &live{w: w, screen: screen, style: style, pace: &view.Pace{}, stop: stop}
	l.ticker.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.tick()
			}
		}
	})
	return l
}

func (l *live) status(s *controlv1.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.at = s, time.Now()
	l.draw("")
}

func (l *live) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if silence := time.Since(l.at); l.last != nil && silence > quietAfter {
		l.draw(fmt.Sprintf("no news from the coordinator for %.0f s", silence.Seconds()))
	}
}

// The terminal must not wrap while we draw: a line that takes two would shift everything after it.
const (
	noWrap    = "\x1b[?7l"
	wrapAgain = "\x1b[?7h"
)

// draw has mu held.
func (l *live) draw(note string) {
	width, height, err := term.GetSize(int(l.screen.Fd()))
	if err != nil || width <= 0 {
		width, height = 80, 24
	}
	l.style.Width = width - 1
	out := view.Screen(l.last, l.style, l.pace)
	if note != "" {
		out = append(out, note)
	}
	if most := max(height-1, 2); height > 0 && len(out) > most {
		out = append(out[:most-1], out[len(out)-1])
	}
	b := &strings.Builder{}
	b.WriteString(noWrap)
	if l.drawn > 0 {
		fmt.Fprintf(b, "\x1b[%dA", l.drawn)
	}
	for _, line := range out {
		fmt.Fprintf(b, "\r\x1b[2K%s\r\n", line)
	}
	b.WriteString("\x1b[J" + wrapAgain)
	l.drawn = len(out)
	io.WriteString(l.w, b.String())
}

// end leaves the last screen as it is: what follows is printed below.
func (l *live) end() {
	l.stop()
	l.ticker.Wait()
	l.drawn, l.last = 0, nil
}
