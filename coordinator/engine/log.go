package engine

import (
	"time"

	controlv1 "github.com/droverdb/drover/proto/drover/control/v1"

	"github.com/droverdb/drover/internal/telemetry"
)

const ringSize = 1000

// ring keeps the last events of a pipeline.
type ring struct {
	lines []*controlv1.LogsResponse
	first int64 // number of lines[0]
	news  chan struct{}
}

func newRing() ring { return ring{news: make(chan struct{})} }

func (p *Pipeline) note(level, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.log
	r.lines = append(r.lines, &controlv1.LogsResponse{Micros: time.Now().UnixMicro(), Level: level, Text: telemetry.Redact(text)})
	if len(r.lines) > ringSize {
		r.first += int64(len(r.lines) - ringSize)
		r.lines = append([]*controlv1.LogsResponse(nil), r.lines[len(r.lines)-ringSize:]...)
	}
	close(r.news)
	r.news = make(chan struct{})
}

// Logs returns events from number on, the next number, and a channel that is closed when there are more.
func (p *Pipeline) Logs(from int64) ([]*controlv1.LogsResponse, int64, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.log
	skip := min(max(from-r.first, 0), int64(len(r.lines)))
	return append([]*controlv1.LogsResponse(nil), r.lines[skip:]...), r.first + int64(len(r.lines)), r.news
}
