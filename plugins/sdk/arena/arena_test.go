package arena

import (
	"bytes"
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
)

func pair(t *testing.T) (source, sink *Arena) {
	t.Helper()
	o, err := Create()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []**Arena{&source, &sink} {
		v, err := Open(o.Path())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { v.Close() })
		*a = v
	}
	if err := o.Close(); err != nil { // open views do not need the name any more
		t.Fatal(err)
	}
	return source, sink
}

func TestArena_CarriesPayloadsFromOneViewToTheOther(t *testing.T) {
	source, sink := pair(t)
	pool := source.Pool(t.Context())
	for i := range 3 * slots {
		b := pool.Get(SlotBytes)
		for k := range *b {
			(*b)[k] = byte(i)
		}
		out := mem.NewBuffer(b, pool)
		slot, ok := source.Slot(out.ReadOnlyData())
		if !ok {
			t.Fatal("a slot's buffer is not recognised")
		}
		in, err := sink.Payload(slot, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(in.ReadOnlyData(), bytes.Repeat([]byte{byte(i)}, 1000)) {
			t.Fatalf("payload %d arrived changed", i)
		}
		in.Free()
	}
}

func TestArena_WaitsForAFreeSlot(t *testing.T) {
	source, sink := pair(t)
	pool := source.Pool(t.Context())
	for range slots {
		pool.Get(SlotBytes)
	}
	go func() {
		time.Sleep(20 * time.Millisecond)
		if b, err := sink.Payload(3, 10); err == nil {
			b.Free()
		}
	}()
	began := time.Now()
	if slot, ok := source.Slot(*pool.Get(SlotBytes)); !ok || slot != 3 || time.Since(began) < 15*time.Millisecond {
		t.Errorf("got slot %d, %v after %v; the freed one is 3", slot, ok, time.Since(began))
	}
}

func TestArena_GivesOrdinaryMemoryOnceTheCallHasEnded(t *testing.T) {
	source, _ := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	pool := source.Pool(ctx)
	for range slots {
		pool.Get(SlotBytes)
	}
	cancel()
	b := pool.Get(SlotBytes)
	if _, ok := source.Slot(*b); ok || len(*b) != SlotBytes {
		t.Error("a slot was given twice")
	}
	pool.Put(b) // no slot: nothing may happen
}

func TestArena_RefusesWhatIsNotInUse(t *testing.T) {
	_, sink := pair(t)
	for _, c := range [][2]uint32{{0, 10}, {slots, 10}, {0, SlotBytes + 1}} {
		if _, err := sink.Payload(c[0], c[1]); err == nil {
			t.Errorf("slot %d with %d bytes was handed out", c[0], c[1])
		}
	}
	if _, err := Open("/proc/self/status"); err == nil {
		t.Error("another file was mapped")
	}
}

func TestOwner_TellsHowMuchIsInUse(t *testing.T) {
	o, err := Create()
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(o.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	pool := a.Pool(t.Context())
	b := pool.Get(10)
	pool.Get(10)
	if got := o.Used(); got != 2.0/slots {
		t.Errorf("two slots in use are %v", got)
	}
	pool.Put(b)
	if got := o.Used(); got != 1.0/slots {
		t.Errorf("one slot in use is %v", got)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if got := o.Used(); got != 0 {
		t.Errorf("a closed one tells %v", got)
	}
}
