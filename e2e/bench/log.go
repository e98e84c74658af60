package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/plugins/postgres"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	logPipeline = "bench_log"
	logSlot     = "drover_" + logPipeline // also the publication: both contenders read the same one
	logCopy     = "bench_log_copy"        // pg_recvlogical moves its slot, so each run reads a copy
	logLimit    = 0.55
)

// readLog reads the same log with the source connector and with pg_recvlogical; both drop what they decoded.
func readLog(ctx context.Context, l *lab) (err error) {
	const from = "stream_log"
	if err := l.source.CreateDatabase(ctx, from); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.source.DropDatabase(context.WithoutCancel(ctx), from)) }()
	if err := fillRows(ctx, l, from); err != nil {
		return err
	}
	r, err := openReader(ctx, l.source.URL(from))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.source.Close()) }()
	if err := insertRows(100, 10_000)(ctx, l, from); err != nil {
		return err
	}
	if err := l.source.Exec(ctx, from, "INSERT INTO bench_mark VALUES (1)"); err != nil {
		return err
	}
	end, err := dev.Query(ctx, l.source.URL(from), "SELECT pg_current_wal_flush_lsn() - '0/0'")
	if err != nil {
		return err
	}
	if r.end, err = strconv.ParseUint(end, 10, 64); err != nil {
		return err
	}
	contenders := map[string]func(context.Context) (usage, error){
		"drover":      func(ctx context.Context) (usage, error) { return l.walsender(ctx, logSlot, r.read) },
		"recvlogical": func(ctx context.Context) (usage, error) { return l.recvlogical(ctx, from, r.end) },
	}
	names := []string{"drover"}
	if l.available("recvlogical") {
		names = append(names, "recvlogical")
	}
	got := wallsOf{}
	for i := range l.runs {
		for k := range names {
			name := names[(i+k)%len(names)]
			u, err := contenders[name](ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			got[name] = append(got[name], u)
			l.step("log: run %d: %s took %s s, walsender CPU %s s", i+1, name, seconds(u.wall), seconds(u.cpu))
		}
	}
	if len(got["recvlogical"]) > 0 {
		ours, theirs := typical(got["drover"]), typical(got["recvlogical"])
		l.report.ratio("log alone, wall", "recvlogical", theirs.wall, ours.wall, logLimit)
		l.report.ratio("log alone, walsender CPU", "recvlogical", theirs.cpu, ours.cpu, logLimit)
	}
	return nil
}

// reader is the source connector, in process, without a sink.
type reader struct {
	source *postgres.Source
	tables []*rowv1.Table
	from   []byte
	end    uint64
}

func openReader(ctx context.Context, url string) (*reader, error) {
	r := &reader{source: postgres.NewSource()}
	_, err := r.source.Open(ctx, &connectorv1.OpenRequest{Role: connectorv1.Role_ROLE_SOURCE, Url: url, Pipeline: logPipeline, MemoryBudget: 64 << 20})
	if err != nil {
		return nil, err
	}
	err = r.source.Discover(ctx, &connectorv1.DiscoverRequest{}, func(page *connectorv1.DiscoverResponse) error {
		r.tables = append(r.tables, page.GetTables()...)
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, r.source.Close())
	}
	slot, err := r.source.Prepare(ctx, &connectorv1.PrepareRequest{Pipeline: logPipeline, Tables: r.tables})
	if err != nil {
		return nil, errors.Join(err, r.source.Close())
	}
	r.from = slot.GetPosition()
	return r, nil
}

// read streams up to the end without ever acknowledging: the next run reads the same log.
func (r *reader) read(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reached := false
	start := &connectorv1.StreamRequest_Start{Pipeline: logPipeline, From: r.from, Tables: r.tables, Lane: sdk.LanePGValues}
	err := r.source.Stream(ctx, start, make(chan []byte), func(f *sdk.Frame) error {
		defer f.Free()
		at := f.Header.GetRoundEnd().GetPosition()
		if idle := f.Header.GetIdle(); idle != nil {
			at = idle.GetPosition()
		}
		if len(at) == 16 && binary.BigEndian.Uint64(at[8:]) >= r.end {
			reached = true
			cancel()
		}
		return nil
	})
	if reached {
		return nil // that the context has ended is no failure
	}
	return errors.Join(errors.New("the stream ended before the end of the log"), err)
}

func (l *lab) recvlogical(ctx context.Context, from string, end uint64) (usage, error) {
	if err := l.source.Exec(ctx, from, fmt.Sprintf("SELECT pg_copy_logical_replication_slot('%s', '%s')", logSlot, logCopy)); err != nil {
		return usage{}, err
	}
	u, err := l.walsender(ctx, logCopy, func(ctx context.Context) error {
		return l.call(ctx, "pg_recvlogical", "-d", l.source.DSN(from), "--slot", logCopy, "--start", "--no-loop", "-f", os.DevNull,
			"--endpos", fmt.Sprintf("%X/%X", end>>32, uint32(end)), "-o", "proto_version=1", "-o", "publication_names="+logSlot)
	})
	gone := until(ctx, l.source.URL(from), "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '"+logCopy+"'", "0", 20*time.Millisecond)
	return u, errors.Join(err, gone, l.source.Exec(ctx, from, "SELECT pg_drop_replication_slot('"+logCopy+"')"))
}

// walsender measures work, and what the server's process behind a slot spends on it.
func (l *lab) walsender(ctx context.Context, slot string, work func(context.Context) error) (usage, error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var cpu time.Duration
	var wg sync.WaitGroup
	wg.Go(func() { cpu = l.senderCPU(watching, slot) })
	u, err := timed(func() error { return work(ctx) })
	stop()
	wg.Wait()
	u.cpu = cpu
	return u, err
}

// senderCPU finds the walsender and reads its CPU time until it or the work has ended.
func (l *lab) senderCPU(ctx context.Context, slot string) (cpu time.Duration) {
	find := "SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots WHERE slot_name = '" + slot + "'"
	pid := 0
	for ctx.Err() == nil {
		if pid == 0 {
			text, err := dev.Query(ctx, l.source.URL("postgres"), find)
			if err == nil {
				pid, _ = strconv.Atoi(text) // 0 while nobody reads
			}
		} else if p, ok := readProcess(pid); ok {
			cpu = p.cpu
		}
		time.Sleep(5 * time.Millisecond)
	}
	return cpu
}
