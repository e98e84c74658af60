package matrix_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// script repeats transactions in random order.
type script struct {
	all        []string
	quit, done chan struct{}
	commits    map[string]int
	refused    map[string]string
}

func startScript(t *testing.T, url string, all ...string) *script {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{all: all, quit: make(chan struct{}), done: make(chan struct{}), commits: map[string]int{}, refused: map[string]string{}}
	ctx := context.WithoutCancel(t.Context())
	go func() {
		defer close(s.done)
		defer conn.Close(ctx)
		s.run(ctx, conn)
	}()
	t.Cleanup(s.end)
	return s
}

func (s *script) run(ctx context.Context, conn *pgx.Conn) {
	for {
		for _, i := range rand.Perm(len(s.all)) {
			select {
			case <-s.quit:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if _, err := conn.PgConn().Exec(ctx, s.all[i]).ReadAll(); err != nil {
				s.refused[s.all[i]] = err.Error()
				_, _ = conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll() // the next one shows a broken connection
				continue
			}
			s.commits[s.all[i]]++
		}
	}
}

func (s *script) end() {
	select {
	case <-s.quit:
	default:
		close(s.quit)
	}
	<-s.done
}

// stop demands that every transaction committed at least once, except those that are meant to fail.
func (s *script) stop(t *testing.T) {
	t.Helper()
	s.end()
	for _, sql := range s.all {
		if s.commits[sql] == 0 && !strings.Contains(sql, "fails") {
			t.Errorf("never committed: %s\n%s", sql, s.refused[sql])
		}
	}
}
