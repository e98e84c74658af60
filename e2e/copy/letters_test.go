package copy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/droverdb/drover/deploy/dev"
	"github.com/droverdb/drover/e2e/harness"
)

// lettersTables fail by what streams into them; mark does not. big is read again, whole is matched by all its values, keyed
// is found by its text.
const lettersTables = `CREATE TABLE mark (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, v text); CREATE TABLE many (id int PRIMARY KEY, v varchar(99));
	CREATE TABLE keyed (v text PRIMARY KEY, n int); CREATE TABLE big (id int PRIMARY KEY, v text, w text); CREATE TABLE whole (v text, n int); ALTER TABLE whole REPLICA IDENTITY FULL;
	CREATE TABLE list (id int PRIMARY KEY, v text[]); CREATE TABLE doc (id int PRIMARY KEY, v json);
	INSERT INTO b VALUES (1, 'b'); INSERT INTO keyed VALUES ('k', 1), ('l', 1); INSERT INTO whole VALUES ('w', 1), ('w', 1); INSERT INTO big VALUES (1, 'b', 'w'); INSERT INTO doc VALUES (1, '{}')`

// asLetters are changes with a letter, each of another table, and what mends them.
func asLetters(letter string) (changes [][2]string) {
	in := func(sql string) string { return strings.ReplaceAll(sql, "LETTER", letter) }
	return [][2]string{
		{"b", in("UPDATE b SET v = LETTER || 'a'")},
		{"many", in("INSERT INTO many SELECT i, repeat(LETTER, i / 5000) FROM generate_series(1, 5000) i WHERE i = 5000 OR i < 4000")},
		{"keyed", in("UPDATE keyed SET v = v || LETTER WHERE v = 'k'")},
		{"big", in("INSERT INTO big SELECT 2, 'small', string_agg(md5(i::text), '') || LETTER FROM generate_series(1, 300000) i")},
		{"whole", in("UPDATE whole SET v = 'e' || LETTER WHERE ctid = (SELECT min(ctid) FROM whole)")},
		{"list", in("INSERT INTO list VALUES (1, ARRAY['a', LETTER])")},
		{"doc", in(`UPDATE doc SET v = ('{"a": "' || LETTER || '"}')::json`)},
	}
}

// letters runs a pipeline of which one table after the other gets a letter that the target cannot have, mends them all at
// the source, and brings them back.
func letters(t *testing.T, source, target, lane, letter string, codes map[string]string) {
	t.Helper()
	r := &asideRun{verbs: verbs{name: "letters", data: t.TempDir(), source: source, target: target}}
	dev.MustExec(t, source, lettersTables)
	p := harness.Start(t, harness.Command{Args: []string{"copy", source, target, "--follow", "--lane", lane, "--name", r.name, "--data", r.data}})
	awaitPhase(t, r.name, r.data, "streaming")
	r.mark(t, "all")
	for i, c := range asLetters(letter) {
		want := codes[c[0]]
		if want == "" {
			want = codes[""]
		}
		r.fails(t, refusal{name: c[0], change: c[1], code: want}, i)
		r.mark(t, c[0])
	}
	if strings.Contains(source, "sql_ascii") { // as docs/how-to/postgresql.md has it
		const isUTF8 = `CREATE FUNCTION is_utf8(v text) RETURNS bool LANGUAGE plpgsql AS $$
			BEGIN PERFORM convert(convert_to(v, 'SQL_ASCII'), 'UTF8', 'UTF8'); RETURN true; EXCEPTION WHEN character_not_in_repertoire THEN RETURN false; END $$`
		dev.MustExec(t, source, isUTF8, "INSERT INTO b VALUES (2, 'Grüße')")
		if got := one(t, source, "SELECT string_agg(id::text, ',') FROM b WHERE NOT is_utf8(v)"); got != "1" {
			t.Errorf("rows %s are not UTF-8", got)
		}
		dev.MustExec(t, source, "DELETE FROM b WHERE id = 2", "DROP FUNCTION is_utf8")
	}
	dev.MustExec(t, source, "UPDATE b SET v = 'mended'; DELETE FROM many WHERE id = 5000; DELETE FROM keyed WHERE v <> 'l'; DELETE FROM big WHERE id = 2; DELETE FROM whole; DELETE FROM list; DELETE FROM doc")
	r.run(t, 0, "reload", r.name)
	awaitMended(t, r.name, r.data)
	dev.MustExec(t, source, "UPDATE b SET v = 'later'; INSERT INTO keyed VALUES ('m', 2)")
	harness.Eventually(t, 30*time.Second, func() error {
		if got := one(t, target, "SELECT (SELECT string_agg(v, ',') FROM b) || (SELECT string_agg(v, ',' ORDER BY v) FROM keyed)"); got != "laterl,m" {
			return fmt.Errorf("the target has %s", got)
		}
		return nil
	})
	p.Stop(15 * time.Second)
	dev.MustExec(t, source, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active")
}

// A letter that one side cannot have sets its table aside, wherever in a change it stands, and on both lanes.
func TestAside_ALetterThatTheOtherSideDoesNotHave(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		source, letter string
		codes          map[string]string
	}{
		"from SQL_ASCII": {"SQL_ASCII", `convert_from('\xff'::bytea, 'SQL_ASCII')`, map[string]string{"": "E3016", "list": "E5005", "doc": "E5005"}},
		"from WIN1252":   {"WIN1252", "chr(129)", map[string]string{"": "E3016"}},
	} {
		for _, lane := range []string{"native", "arrow"} {
			t.Run(name+" "+lane, func(t *testing.T) {
				letters(t, encoded(t, c.source), dev.TargetDatabase(t), lane, c.letter, c.codes)
			})
		}
	}
}
