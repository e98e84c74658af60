// Package schedule is the brain of the load: a view goes in, commands come out. No clock, no net, no etcd.
package schedule

const (
	// mostChunks and mostBytes are what one load holds at most.
	mostChunks = 64
	mostBytes  = 128 << 20
	// firstBytes is what the first load of a pair holds, which shows how fast it is.
	firstBytes = 16 << 20
	// loadSeconds is about how long a load should take: meanwhile it holds the stream and a snapshot, and what a killed
	// one had done is done again.
	loadSeconds = 10
	// waves is in how many loads of each slot small work is done, at least: the last to end must not end long after the
	// others, and who comes later finds something left.
	waves = 4
)

// Chunk is work that may be granted.
type Chunk struct {
	ID    uint64
	Bytes int64
	// Held: an attempt had a floor already, which holds the stream: such chunks go first.
	Held bool
	// Ready is false while the chunk waits: for its snapshot, or for a retry's time.
	Ready bool
	// Alone chunks are not packed with others, because an attempt had them: one that failed must not fail its neighbours,
	// and one that the target has already must not be read beside others that it has not.
	Alone bool
	// Shelf: only chunks of the same shelf are packed together (they share a snapshot).
	Shelf int
}

// View is all that a decision depends on.
type View struct {
	// Pending are chunks not in flight, biggest tables first. Of those that are ready there need not be more than Most;
	// Behind is how many bytes there are in those that were left out.
	Pending []Chunk
	Behind  int64
	// InFlight are the loads that run. Parallel is the spec's bound on them, 0: none.
	InFlight []Pair
	Parallel int
	// Agents are those that may run loads now. Apart are pairs of them that must not work together.
	Agents []Agent
	Apart  map[Pair]bool
	// Speed is how many bytes a second the latest load of a pair moved; none: not known yet.
	Speed map[Pair]int64
	// Splitting counts the tables that are being split.
	Splitting int
	// Unsplit are tables whose chunks are not known yet, biggest first.
	Unsplit []uint32
}

// Grant is a load task: its chunks are read once and written in one target transaction.
type Grant struct {
	Pair
	Chunks []uint64
}

// Commands are what to do now.
type Commands struct {
	Grants []Grant
	Split  []uint32
}

// ahead is how many chunks for each slot should be known beyond those that are granted.
const ahead = 2

// Most is how many chunks that are ready a decision can use: it is made after every message, and must not cost more the more
// there are.
func (v View) Most() int {
	n := len(v.pairs())
	return mostChunks*n + ahead*(len(v.InFlight)+n)
}

// Decide fills the credits. Splitting stays a little ahead of the readers, one table at a time.
func Decide(v View) Commands {
	var out Commands
	pairs := v.pairs()
	slots := len(v.InFlight) + len(pairs)
	queue := ordered(v.Pending)
	fair := v.fairBytes(queue, slots)
	for _, p := range pairs {
		if len(queue) == 0 {
			break
		}
		g := Grant{Pair: p}
		g.Chunks, queue = pack(queue, min(fair, v.inTime(p)))
		out.Grants = append(out.Grants, g)
	}
	if v.Splitting == 0 && len(v.Unsplit) > 0 && len(queue) < ahead*slots {
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

// fairBytes shares work out in smaller and smaller parts, so that packing does not leave slots idle.
func (v View) fairBytes(queue []Chunk, slots int) int64 {
	if slots == 0 {
		return mostBytes
	}
	sum := v.Behind
	for _, c := range queue {
		sum += c.Bytes
	}
	return max(sum/int64(waves*slots), 1<<20)
}

// inTime is what the pair moves in the time that a load should take.
func (v View) inTime(p Pair) int64 {
	speed, known := v.Speed[p]
	if !known {
		return firstBytes
	}
	return min(mostBytes, speed*loadSeconds)
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
