// Package dynamofake is a DynamoDB in memory, for the tests of dynamostore: as much of
// it as that sends, and everything else is refused by name. It is a
// http.RoundTripper, so that the real SDK is between it and what is tested.
//
// It is as awkward as DynamoDB is allowed to be:
//
//   - The writes of a transaction become visible one after another. Meanwhile other
//     transactions on these entries are cancelled with TransactionConflict, those that read too, while Query
//     and BatchGetItem show what is there.
//   - A read that does not ask for consistency gets each entry as it was before its last write.
//   - Answers end after 1 MB, or whatever Options says, and with a LastEvaluatedKey also when
//     nothing follows.
//   - A token makes a transaction idempotent, and one that is still being carried out is
//     TransactionInProgressException.
//   - Faults: requests are throttled, answers are lost, cut short and damaged, and writes are
//     made after their request failed.
//
// Its answers to what dynamostore sends are held against dynalite's in the
// integration tests, as far as that goes, which is without transactions.
package dynamofake
