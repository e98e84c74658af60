// Package apply computes what a round of changes leaves behind, independently of any dialect.
//
// A Planner turns the batches of a Round into a Plan: for every table and key the net effect, as
// references to rows of the batches (nothing is copied). Run executes a plan against a Target in the one
// order that is always right: deletes, then updates, then inserts. Planning needs no database, so the
// plan of round n+1 is made while the target commits round n.
//
// The algebra, per key and in source order: I+U = I, U+U = U with partial images merged column by column,
// U+D = D, I+D = D (the row may have been there before), D+I = replace. A change of key is a D of the old
// key and an I of the new one. Rows of a table without a key (UNIT_FULL_ROW) are counted instead: D is -1,
// I is +1, and what remains is deleted or inserted that many times.
//
// An I that moved from another key may lack columns which the source left out (bit in _unchanged). They are
// completed, in this order: from what the round did to the old key, from the target's row at the old key
// (unless its D is dropped), from the target's row at the new key, or by reading the new key again at the
// source. Such an answer has its own coverage: it is kept in Covers, and rows it covers are dropped until
// the stream has passed it.
//
// An R says that a row was written with values too large to be in a batch. Whatever becomes of it later in the round,
// unless that is a D or a whole image, only the source has the row: it is sent again piece by piece when all else of the
// table is done (Target.Renew), and its coverage is kept in the same way. So is a row that proves too large when it is
// to be completed from the target or by a question to the source.
//
// Test double: implement Target over a map, feed Batches made by NewBatch, call Planner.Plan and Run.
package apply
