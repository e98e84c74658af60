package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/droverdb/drover/internal/diag"
	"github.com/droverdb/drover/plugins/sdk"
	connectorv1 "github.com/droverdb/drover/proto/drover/connector/v1"
	rowv1 "github.com/droverdb/drover/proto/drover/row/v1"
)

const (
	startWait = 30 * time.Second
	// idleWait bounds a read so that the end of the context and the age of a round are seen.
	idleWait = 200 * time.Millisecond
	// quietWait decides that nothing more is on its way.
	quietWait = 300 * time.Microsecond
	// deadAfter without a byte, although the server was asked to answer, means that it is gone.
	deadAfter = 2 * time.Minute
	// idleEvery bounds how often Idle frames are sent.
	idleEvery = 100 * time.Millisecond
	// behindMicros between a commit and the moment the server sends it, both by its own clock: the stream is so
	// far behind that gathering costs no latency that anyone would notice.
	behindMicros = 50_000
	// xidMask is the part of a transaction id that the stream carries.
	xidMask = 1<<32 - 1
)

// streamer is one Stream call.
type streamer struct {
	where string
	conn  *walConn
	link  *link
	// wanted are the tables of the pipeline by name; those with changes are laid out in tables.
	wanted map[string]uint32
	// ids are the tables by what the source knew them by when they were discovered; 0 stands for all of which that is not known.
	ids   map[uint32]uint32
	aside []uint32 // tables of which only the transactions are wanted
	// announce tells that the log has described tables: something of them may have been altered.
	announce func(...uint32)
	shelf    *sdk.Tables
	tables   map[string]*streamTable
	lane     string
	binary   bool
	// letters convert text that the walsender might fail at; nil: it converts.
	letters *letters
	rels    map[uint32]*walRelation
	round   *round
	vals    []wireValue
	before  []wireValue
	kbuf    [2][]byte
	over    func() error // tells that the call has ended
	// from is the end of what the target has already.
	from uint64
	// xid is the newest known full transaction id: the stream has only its lower half.
	xid uint64

	// behind: what arrives was committed a while ago; far: long ago.
	behind, far bool
	// slept: the server has nothing more to send.
	slept   bool
	inTxn   bool
	skip    bool
	commit  uint64
	id      uint64
	micros  int64
	indexed bool // the transaction has an entry in the current piece
	index   uint32
	txnSize int

	seen     uint64 // end of the log as the server told it
	seenAt   int64
	reported uint64
	idleAt   time.Time
}

// Stream emits rounds from the position on. The reading side is this goroutine; two others tell the server
// what is durable at the target and keep an idle slot moving.
func (s *Source) Stream(ctx context.Context, start *connectorv1.StreamRequest_Start, acks <-chan []byte, emit func(*sdk.Frame) error) error {
	_, from, err := readPosition(start.GetFrom())
	if err != nil {
		return err
	}
	name := slotName(start.GetPipeline())
	st := &streamer{
		where: "source › slot " + name, from: from, reported: from,
		tables: map[string]*streamTable{}, rels: map[uint32]*walRelation{},
		round: &round{emit: emit, used: map[*streamTable]struct{}{}, last: start.GetFrom()},
	}
	side, err := connect(ctx, s.cfg, "heartbeat", connectorv1.Role_ROLE_SOURCE)
	if err != nil {
		return err
	}
	about, err := st.inspect(ctx, side, name, start)
	if err == nil {
		err = st.open(ctx, s.cfg, name, about.binary)
	}
	if err != nil {
		_ = side.Close(context.WithoutCancel(ctx))
		return err
	}
	st.link = newLink(st.conn, s.cfg, side, about.watch, from, about.feedback, heartbeatOf(s.cfg))
	return st.link.while(ctx, acks, st.read)
}

func heartbeatOf(cfg Config) time.Duration {
	if d, err := time.ParseDuration(cfg.Options["heartbeat"]); err == nil && d > 0 {
		return d
	}
	return 10 * time.Second
}

// inspected is what has to be known before the stream starts.
type inspected struct {
	binary   bool
	feedback time.Duration
	watch    *watch
}

// inspect verifies that the slot still has everything after from, and learns how to read it.
func (st *streamer) inspect(ctx context.Context, side *pgx.Conn, name string, start *connectorv1.StreamRequest_Start) (inspected, error) {
	var in inspected
	slot, err := lookAtSlot(ctx, side, name)
	switch {
	case err != nil:
		return in, err
	case !slot.found:
		return in, diag.SlotLost.New(st.where, nil, "there is no such slot")
	case slot.lost:
		return in, diag.SlotLost.New(st.where, nil, "the server has removed log that the slot needs")
	case slot.confirmed > st.from:
		return in, diag.SlotLost.New(st.where, nil, "the target needs the log from %s, the slot has it from %s", formatLSN(st.from), formatLSN(slot.confirmed))
	}
	var types []uint32
	textOnly := false
	seen := map[uint32]bool{}
	st.lane, st.aside = start.GetLane(), start.GetAside()
	in.watch = newWatch(name, st.aside)
	st.wanted, st.ids, st.announce = in.watch.wanted, map[uint32]uint32{}, in.watch.announce
	st.shelf, err = sdk.NewTables(start.GetTables(), start.GetPacked(), func(t *rowv1.Table) {
		in.watch.expect(t)
		st.ids[t.GetNativeId()] = t.GetIndex()
		for _, c := range t.GetColumns() {
			textOnly = textOnly || c.GetTextOnly()
			if !seen[c.GetNativeId()] {
				seen[c.GetNativeId()], types = true, append(types, c.GetNativeId())
			}
		}
	})
	start.Tables, start.Packed, in.watch.shelf = nil, nil, st.shelf
	if err != nil {
		return in, err
	}
	var xmax uint64
	var timeout, sendless, version int
	var end string
	err = side.QueryRow(ctx, `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
		(SELECT setting::int FROM pg_settings WHERE name = 'wal_sender_timeout'), current_setting('server_version_num')::int,
		(SELECT count(*)::int FROM pg_type WHERE oid = ANY($1::oid[]) AND typsend = 0), pg_current_wal_lsn()::text`, types).
		Scan(&xmax, &timeout, &version, &sendless, &end)
	if err != nil {
		return in, mapError(err, st.where)
	}
	if lsn, err := parseLSN(end); err != nil {
		return in, err
	} else if st.from > lsn {
		return in, diag.PositionForeign.New(st.where, nil, "the target is at %s, the source's log ends at %s", formatLSN(st.from), end)
	}
	if err := in.watch.ensure(ctx, side); err != nil {
		return in, err
	}
	st.xid = xmax
	in.feedback = 10 * time.Second
	if third := time.Duration(timeout) * time.Millisecond / 3; third > 0 {
		in.feedback = min(in.feedback, third)
	}
	if st.letters, err = lettersOf(ctx, side); err != nil {
		return in, mapError(err, st.where)
	}
	in.binary = !textOnly && sendless == 0 && version >= 140000 && !st.letters.textForm()
	st.binary = in.binary
	sdk.GiveBack(st.shelf.Len())
	return in, nil
}

func relationName(schema, name string) string { return schema + "\x00" + name }

// table is laid out when its first change comes: of thousands of tables few may ever change. nil: it is not wanted.
func (st *streamer) table(name string) (*streamTable, error) {
	index, wanted := st.wanted[name]
	if known := st.tables[name]; known != nil || !wanted {
		return known, nil
	}
	t, err := st.shelf.Table(index)
	if err != nil {
		return nil, err
	}
	table, err := newStreamTable(t, st.lane, st.binary)
	if err != nil {
		return nil, err
	}
	table.aside = slices.Contains(st.aside, index)
	st.tables[name] = table
	return table, nil
}

func (st *streamer) open(ctx context.Context, cfg Config, name string, bin bool) error {
	pc, err := connectReplication(ctx, cfg, "stream", st.letters.walEncoding())
	if err != nil {
		return err
	}
	if st.conn, err = newWalConn(pc); err != nil {
		_ = pc.Close(context.WithoutCancel(ctx))
		return mapError(err, st.where)
	}
	opts := []string{"proto_version '1'", "publication_names " + literal(ident(name))}
	if bin {
		opts = append(opts, "binary 'true'")
	}
	sql := fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (%s)", ident(name), formatLSN(st.from), strings.Join(opts, ", "))
	if err := st.conn.start(sql, startWait); err != nil {
		st.conn.close()
		return mapError(err, st.where)
	}
	return nil
}

// read is the loop of the stream: everything in the buffer, then wait.
func (st *streamer) read(ctx context.Context) error {
	st.over = ctx.Err
	for {
		for {
			typ, body, ok, err := st.conn.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := st.message(typ, body); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := st.due(); err != nil {
			return err
		}
		n, err := st.conn.fill(st.patience(), st.pace(), st.mayFlush)
		if err != nil {
			return mapError(err, st.where)
		}
		if err := st.lives(n); err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if err := st.quiet(); err != nil {
			return err
		}
	}
}

// lives takes how much a read has brought, and gives a server up that has been silent for too long.
func (st *streamer) lives(n int) error {
	if n > 0 {
		st.link.heard()
	} else if st.link.silent() > deadAfter {
		return diag.ConnLost.New(st.where, nil, "the server has not answered for %s", deadAfter)
	}
	return nil
}

// message handles one message of the replication protocol.
func (st *streamer) message(typ byte, body []byte) error {
	switch typ {
	case 'd':
		return st.copyData(body)
	case isLong:
		return st.long(body)
	case 'E':
		return st.refused(serverSays(body))
	case 'N', 'S':
		return nil
	case 'c', 'C', 'Z':
		return diag.ConnLost.New(st.where, nil, "the server ended the stream")
	}
	return diag.StreamBroken.New(st.where, nil, "protocol message %q", typ)
}

// refused gives an error of the server its code: while it reads the log, what it misses is the publication, and what it
// cannot convert the log keeps, whatever becomes of the row.
func (st *streamer) refused(err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "42704" {
		return diag.PublicationGone.New(st.where, serverError{pe}, "")
	}
	err = mapError(unreadable(err, st.where), st.where)
	if d := diag.Find(err); d.Code.ID == diag.RowUnreadable.ID {
		d.Fixes = []string{"Find the text that the message means at the source, and correct it. The log keeps it as it was: drover delete the pipeline, empty the target tables and copy again."}
	}
	return err
}

func (st *streamer) copyData(body []byte) error {
	w := wire{b: body}
	switch kind := w.u8(); kind {
	case 'w':
		w.take(16) // start and end: keepalives and commits say it better
		clock := int64(w.u64()) + pgEpochMicros
		if w.bad || len(w.b) == 0 {
			return st.broken("a change without content")
		}
		if err := st.change(w); err != nil {
			return err
		}
		st.slept = false
		if st.inTxn {
			st.lags(clock - st.micros)
		}
		return nil
	case 'k':
		end, clock, ask := w.u64(), w.u64(), w.u8()
		if w.bad {
			return st.broken("a keepalive cut short")
		}
		if ask == 1 {
			st.link.answer()
		}
		if st.inTxn {
			return nil
		}
		st.behind, st.far, st.slept = false, false, true // the server sends one before it sleeps: there is no more to decode
		if end > st.seen {
			st.seen, st.seenAt = end, int64(clock)+pgEpochMicros
		}
		return nil
	default:
		return diag.StreamBroken.New(st.where, nil, "replication message %q", kind)
	}
}

func (st *streamer) broken(why string) error {
	return diag.StreamBroken.New(st.where, nil, "%s", why)
}
