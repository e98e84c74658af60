package job

import "testing"

func TestProblems_AllAtOnce(t *testing.T) {
	if p := Problems(Spec{Name: "Bad Name", Verify: "maybe", ChunkBytes: -1}); len(p) != 6 {
		t.Fatal(p)
	}
	ok := Spec{Version: 1, Name: "shop", Mode: 2, SourceURL: "a", TargetURL: "b", SourceKind: "x", TargetKind: "x", Verify: "checksum"}
	if p := Problems(ok); len(p) != 0 {
		t.Fatal(p)
	}
}
