package postgres

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/droverdb/drover/plugins/sdk/apply"
)

// storeCovers keeps what rereads covered in the transaction of the rows they brought. The values of the keys are kept
// too, as text: a TRUNCATE has to find the rows that outlive it, also after a restart.
func (a *applier) storeCovers() error {
	for _, c := range a.added {
		t, err := a.ses.table(c.e)
		if err != nil {
			return err
		}
		keys := t.keyColumns()
		if err := a.ses.refParams(t, c.e, keys, c.keys); err != nil {
			return err
		}
		names := make([][]byte, len(c.keys))
		for i, k := range c.keys {
			names[i] = c.e.Batches[k.Batch].Key(int(k.Row))
		}
		params := append(a.ses.params, byteaArray(names), []byte(a.open.Pipeline), int8Param(int64(c.e.Table.Index)), c.coverage)
		a.ses.exec(sentOther, subject{where: "target › drover.key_coverage"}, t.statement("cover", t.coverSQL),
			t.arrayOIDs(keys, oidByteaArray, oidText, oidInt8, oidBytea), params)
	}
	return nil
}

func (a *applyTable) coverSQL() string {
	keys := a.keyColumns()
	vals := make([]string, len(keys))
	for n, i := range keys {
		vals[n] = fmt.Sprintf("s.c%d::text", i)
	}
	n := len(keys)
	return fmt.Sprintf(`INSERT INTO drover.key_coverage (pipeline, tbl, key, coverage, vals) SELECT $%d, $%d, s.key, $%d, ARRAY[%s] FROM %s
		ON CONFLICT (pipeline, tbl, key) DO UPDATE SET coverage = excluded.coverage`, n+2, n+3, n+4, strings.Join(vals, ", "), a.source(keys, false, "key"))
}

// forgetCovers removes what the stream has passed. It comes before storeCovers: a key may have been read again since.
func (a *applier) forgetCovers() {
	byTable := map[uint32][]apply.CoverKey{}
	for _, k := range a.passed {
		byTable[k.Table] = append(byTable[k.Table], k)
	}
	for table, keys := range byTable {
		names := make([][]byte, len(keys))
		for i, k := range keys {
			names[i] = []byte(k.Key)
		}
		a.ses.exec(sentOther, subject{where: "target › drover.key_coverage"}, "DELETE FROM drover.key_coverage WHERE pipeline = $1 AND tbl = $2 AND key = ANY ($3)",
			[]uint32{oidText, oidInt8, oidByteaArray}, [][]byte{[]byte(a.open.Pipeline), int8Param(int64(table)), byteaArray(names)})
	}
}

// byteaArray is an array of byte strings in PostgreSQL's binary form.
func byteaArray(values [][]byte) []byte {
	out := beginArray(nil, oidBytea, len(values))
	for _, v := range values {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(v))), v...)
	}
	return out
}
