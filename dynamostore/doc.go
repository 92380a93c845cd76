// Package dynamostore is a byok.Store, a byok.AuditSink and a byok.AuditReader on
// Amazon DynamoDB, for any number of machines in one Region:
//
//	cfg, err := config.LoadDefaultConfig(ctx)
//	...
//	store, err := dynamostore.Open(ctx, dynamodb.NewFromConfig(cfg), "byok")
//	...
//	keeper, err := byok.New("example-saas", keys, store, store, nil)
//
// The table is the platform's to make; docs/dynamodb.md has Terraform for it, with the least
// policy for the program. CreateTable is for tests and development.
//
// # What is asked of DynamoDB
//
// Apply and Record are TransactWriteItems, Get is TransactGetItems, and the rest
// is Query and BatchGetItem with ConsistentRead. Nothing is read from an
// index, a replica or a cache, and nothing is ever deleted.
//
// # Repeating requests
//
// The SDK's own retries are switched off for these requests. What certainly did
// nothing (throttling, a transaction in the way of another) is repeated
// until ctx ends, with waits that grow to half a second. Where there was no
// answer, or a 5xx, the same request is sent six times in all, within a quarter of a
// second or so, and then the error is the caller's; a write carries a token, by which
// DynamoDB knows that it is the same one. So an Apply whose answer was lost is mostly resolved
// here; that it is certain for longer than the token lives is not claimed: see Apply.
// There is no other time-out than ctx's.
//
// # A limit of List
//
// DynamoDB's transactions are serializable, not strictly: a Query that runs while
// another process's transaction is being committed, which takes some milliseconds,
// can show one item of it and not yet another one. Each item is as Apply left it, and what
// was written when Apply returned is there. Get does not have this: see there.
package dynamostore
