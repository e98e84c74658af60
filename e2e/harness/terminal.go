package harness

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/droverdb/drover/deploy/dev"
)

// Terminal is a command that runs on a terminal of its own, as a person would see it.
type Terminal struct {
	child *dev.Child
	pty   *os.File
	read  chan struct{}

	mu     sync.Mutex
	raw    strings.Builder
	screen *screen
}

// StartTerminal starts drover on a pseudo terminal of the given size.
func StartTerminal(t testing.TB, c Command, width, height uint16) *Terminal {
	t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := pty.Setsize(ours, &pty.Winsize{Cols: width, Rows: height}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(Binary(t), c.Args...)
	cmd.Env, cmd.Dir = append(os.Environ(), c.Env...), c.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	x := &Terminal{pty: ours, read: make(chan struct{}), screen: &screen{width: int(width)}}
	if x.child, err = dev.Spawn(cmd); err != nil {
		t.Fatal(err)
	}
	go x.pump()
	t.Cleanup(func() {
		x.child.KillGroup()
		<-x.child.Done()
		<-x.read
		_ = x.pty.Close()
		if t.Failed() {
			t.Logf("%s: the last screen was\n%s", strings.Join(c.Args, " "), x.Screen())
		}
	})
	return x
}

// pump ends when the last process that has the terminal open is gone.
func (x *Terminal) pump() {
	defer close(x.read)
	buf := make([]byte, 4096)
	for {
		n, err := x.pty.Read(buf)
		x.mu.Lock()
		x.raw.Write(buf[:n])
		x.screen.write(string(buf[:n]))
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Type sends keys; "\x03" is Ctrl-C.
func (x *Terminal) Type(t testing.TB, keys string) {
	t.Helper()
	if _, err := x.pty.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// Screen is what stands on the terminal now, with all that has scrolled away above it.
func (x *Terminal) Screen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.screen.String()
}

// Raw is every byte that came so far.
func (x *Terminal) Raw() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.raw.String()
}

// WaitFor waits until the screen holds text.
func (x *Terminal) WaitFor(t testing.TB, text string, timeout time.Duration) {
	t.Helper()
	Eventually(t, timeout, func() error {
		if s := x.Screen(); !strings.Contains(s, text) {
			return errors.New("no \"" + text + "\" on the screen:\n" + s)
		}
		return nil
	})
}

// Wait waits for the end, and for all that was written until then, and returns the exit code, -1 for a signal.
func (x *Terminal) Wait() int {
	err := x.child.Err()
	<-x.read
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// screen understands the few control sequences that Drover sends; anything else is text, so that a test sees it.
type screen struct {
	width    int
	lines    [][]rune
	row, col int
	rest     string
}

var escape = regexp.MustCompile(`^\x1b\[(\??\d*(?:;\d+)*)([A-Za-z])`)

func (s *screen) write(text string) {
	text = s.rest + text
	s.rest = ""
	for text != "" {
		if text[0] == 0x1b {
			m := escape.FindStringSubmatch(text)
			if m == nil && len(text) < 16 {
				s.rest = text // the rest of it is on its way
				return
			}
			if m != nil {
				s.control(m[1], m[2])
				text = text[len(m[0]):]
				continue
			}
		}
		r := []rune(text[:min(len(text), 4)])[0]
		n := len(string(r))
		if r == '\uFFFD' && len(text) < 4 {
			s.rest = text
			return
		}
		text = text[n:]
		s.put(r)
	}
}

func (s *screen) control(arg, verb string) {
	n, err := strconv.Atoi(arg)
	if err != nil {
		n = 1
	}
	switch verb {
	case "A":
		s.row = max(0, s.row-n)
	case "K":
		s.line()
		s.lines[s.row] = nil
	case "J":
		s.line()
		s.lines = s.lines[:s.row+1]
		s.lines[s.row] = s.lines[s.row][:min(s.col, len(s.lines[s.row]))]
	}
}

func (s *screen) line() {
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, nil)
	}
}

func (s *screen) put(r rune) {
	s.line()
	switch r {
	case '\r':
		s.col = 0
	case '\n':
		s.row++
	default:
		for len(s.lines[s.row]) <= s.col {
			s.lines[s.row] = append(s.lines[s.row], ' ')
		}
		s.lines[s.row][s.col] = r
		s.col++
	}
}

func (s *screen) String() string {
	var b strings.Builder
	for _, l := range s.lines {
		b.WriteString(strings.TrimRight(string(l), " ") + "\n")
	}
	return b.String()
}
