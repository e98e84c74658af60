// Package schedule is the brain of the load: a view goes in, commands come out. No clock, no net, no etcd.
package schedule

const (
	mostChunks = 64
	mostBytes  = 32 << 20
)

// Chunk is work that may be granted.
type Chunk struct {
	ID    uint64
	Bytes int64
	// Held: an attempt had a floor already, which holds the stream: such chunks go first.
	Held bool
	// Ready is false while the chunk waits: for its snapshot, or for a retry's time.
	Ready bool
	// Alone chunks are not packed with others: an attempt failed, and one bad chunk must not fail its neighbours.
	Alone bool
	// Shelf: only chunks of the same shelf are packed together (they share a snapshot).
	Shelf int
}

// View is all that a decision depends on.
type View struct {
	// Pending are chunks not in flight, biggest tables first.
	Pending []Chunk
	// InFlight, Splitting count running tasks.
	InFlight, Splitting int
	// ReadCredits and WriteCredits are what the connected agents advertise; Parallel is the spec's bound, 0: none.
	ReadCredits, WriteCredits, Parallel int
	// Unsplit are tables whose chunks are not known yet, biggest first.
	Unsplit []uint32
}

// Commands are what to do now.
type Commands struct {
	// Grants are load tasks: each is read once and written in one target transaction.
	Grants [][]uint64
	Split  []uint32
}

// Slots is how many load tasks may run at the same time.
func (v View) Slots() int {
	n := min(v.ReadCredits, v.WriteCredits)
	if v.Parallel > 0 {
		n = min(n, v.Parallel)
	}
	return max(n, 0)
}

// Decide fills the credits. Splitting stays a little ahead of the readers, one table at a time.
func Decide(v View) Commands {
	var out Commands
	slots := v.Slots()
	queue := ordered(v.Pending)
	limit := packBytes(queue, slots)
	for free := slots - v.InFlight; free > 0 && len(queue) > 0; free-- {
		var grant []uint64
		grant, queue = pack(queue, limit)
		out.Grants = append(out.Grants, grant)
	}
	if slots > 0 && v.Splitting == 0 && len(v.Unsplit) > 0 && len(queue) < 2*slots {
		out.Split = v.Unsplit[:1]
	}
	return out
}

// ordered keeps the order, held chunks first, and leaves out what is not ready.
func ordered(pending []Chunk) []Chunk {
	out := make([]Chunk, 0, len(pending))
	for _, held := range []bool{true, false} {
		for _, c := range pending {
			if c.Ready && c.Held == held {
				out = append(out, c)
			}
		}
	}
	return out
}

// packBytes shares small work out evenly, so that packing does not leave slots idle.
func packBytes(queue []Chunk, slots int) int64 {
	if slots == 0 {
		return mostBytes
	}
	var sum int64
	for _, c := range queue {
		sum += c.Bytes
	}
	return min(mostBytes, max(sum/int64(slots), 1<<20))
}

// pack takes the first chunk and as many more of its shelf as one transaction should hold.
func pack(queue []Chunk, limit int64) (grant []uint64, rest []Chunk) {
	first := queue[0]
	grant, size := []uint64{first.ID}, first.Bytes
	for _, c := range queue[1:] {
		if len(grant) < mostChunks && !first.Alone && !c.Alone && c.Shelf == first.Shelf && size+c.Bytes <= limit {
			grant, size = append(grant, c.ID), size+c.Bytes
			continue
		}
		rest = append(rest, c)
	}
	return grant, rest
}
