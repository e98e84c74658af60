package main

import (
	"strings"
	"testing"
)

const events = `{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"loud\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p","Elapsed":1.5}
{"Action":"pass","Package":"q","Elapsed":0.1}
{"Action":"skip","Package":"empty"}
{"Action":"build-output","ImportPath":"r","Output":"r.go:1: undefined\n"}
{"Action":"fail","Package":"r","FailedBuild":"r"}
not an event
`

func TestRead_CountsWhatTheTestsSaid(t *testing.T) {
	var shown strings.Builder
	s, err := read(strings.NewReader(events), &shown)
	if err != nil {
		t.Fatal(err)
	}
	want := "skipped: p TestC\ntests: 1 passed, 1 failed, 1 skipped; packages: 3 tested, 2 of them failed, 1 without tests\n"
	if s.String() != want {
		t.Errorf("got %s", s)
	}
	for _, text := range []string{"loud", "undefined", "not an event", "fail p 1.5s"} {
		if !strings.Contains(shown.String(), text) {
			t.Errorf("%q is not shown in:\n%s", text, &shown)
		}
	}
	if strings.Contains(shown.String(), "quiet") {
		t.Error("output of a passed test is shown")
	}
}
