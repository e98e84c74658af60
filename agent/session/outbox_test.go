package session

import (
	"slices"
	"testing"
	"time"

	fleetv1 "github.com/droverdb/drover/proto/drover/fleet/v1"
)

func result(id uint64) *fleetv1.SessionRequest {
	return &fleetv1.SessionRequest{Kind: &fleetv1.SessionRequest_Result{Result: &fleetv1.Result{Task: id}}}
}

// drain takes everything there is to send.
func drain(o *outbox) (ids []uint64) {
	for m := o.take(); m != nil; m = o.take() {
		ids = append(ids, m.GetResult().GetTask())
	}
	return ids
}

func TestOutbox_SendsAgainWhatMayBeLostAndForgetsWhatArrived(t *testing.T) {
	o := newOutbox()
	o.put(result(1))
	o.put(result(2))
	o.put(result(3))
	if got := drain(o); len(got) != 3 || o.unsent() != 0 {
		t.Fatal(got)
	}
	o.rewind()
	if got := drain(o); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Fatalf("after a reconnect: %v", got)
	}
	o.put(result(4))
	o.settle(time.Now().Add(time.Second)) // 4 was not sent yet
	o.rewind()
	if got := drain(o); len(got) != 1 || got[0] != 4 {
		t.Fatalf("after settling: %v", got)
	}
}
