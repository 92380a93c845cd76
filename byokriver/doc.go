// Package byokriver runs re-sealings as jobs of River (https://riverqueue.com) on Postgres: for a platform that
// has River already. In process, byok.Resealer.Run does the same without it.
//
// A job that byok.Tenant.Reseal has begun becomes one job of River's for each shard. [Insert] inserts them, [AddWorker] has a
// process's client work at them, and Tenant.Job tells how far they are. A worker calls Resealer.Step for half a minute, and
// then lets other jobs have their turn: no job of River's runs for long, however many records there are. How far
// it is is in River every two seconds, durably, by its resumable cursors, and in the Store.
//
// # Kills
//
// River does not notice that a process was killed. It takes a job for stuck when it has been running for RescueStuckJobsAfter,
// an hour by default, and gives it to another worker then. River's other jobs permitting, set that to a few minutes: a shard's
// job never runs for longer than its timeout, which is 90 seconds. If both are at the shard, no harm is done: a step
// compares and replaces, so that of two that have read the same record one replaces it, and the other leaves it alone.
//
// # Stopping
//
// A client that is stopped waits for the slices that have begun. With SoftStopTimeout, or StopAndCancel, they end soon, how far they
// were is kept, and no attempt is used up.
//
// # Two states
//
// River's job says whether there is something to do still; byok's says what came out. Cancel byok's, with Tenant.CancelJob: River's
// follow. A job of River's that somebody cancels or deletes leaves its shard where it is: insert it again.
package byokriver
