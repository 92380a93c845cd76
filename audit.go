package byok

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/byok-go/byok/internal/random"
)

// AuditSink receives the events of every operation.
//
// Record returns nil only once the event is as durable as the sink promises;
// the Keeper withholds the result of the operation until then. Deliveries can be
// repeated: an event whose ID is known is ignored and nil. Whoever reads gets
// Time in UTC. Record is called
// concurrently and returns when ctx is done. If it fails, Seal and Open fail with
// [ErrAudit]; what stops a tenant takes effect all the same.
//
// MemAudit and FileAudit are in this package; sqlstore has one in SQL, dynamostore one in DynamoDB.
type AuditSink interface {
	Record(ctx context.Context, e Event) error
}

// AuditReader is an optional ability of an AuditSink: it returns one tenant's
// events, newest first (by Time, then ID).
type AuditReader interface {
	Events(ctx context.Context, tenant string, q AuditQuery) (AuditPage, error)
}

// AuditQuery selects events. The zero AuditQuery is the newest 100.
type AuditQuery struct {
	Limit  int       // 1 to 1000; 0 is 100; else ErrArgument
	Cursor string    // NextCursor of the page before; one that no page gave is ErrArgument
	Start  time.Time // inclusive; zero: no bound
	End    time.Time // exclusive; zero: no bound
	Op     Op        // "" is all
}

// AuditPage is a part of an audit log.
type AuditPage struct {
	Events     []Event
	NextCursor string // "" on the last page
	Total      int    // of all pages; exact up to 10 000, and -1 beyond
}

// AuditTotalLimit is the largest AuditPage.Total.
const AuditTotalLimit = 10_000

// Op names an audited operation.
type Op string

// The operations.
const (
	OpRegister Op = "register"
	OpActivate Op = "activate" // a key became usable: registered, and waiver acknowledged
	OpWaiver   Op = "waiver"
	OpSeal     Op = "seal"
	OpOpen     Op = "open"
	OpRotate   Op = "rotate"
	OpRewrap   Op = "rewrap" // a data key was wrapped anew: one of the Store by a job, or one that an envelope carries
	OpMove     Op = "move"   // a move to another CMK was begun, and it switched
	OpJob      Op = "job"    // what became of a rotation of type full, or a move: paused, cancelled, done; and a re-sealing: begun, too. Reason says which
	OpReseal   Op = "reseal" // records were opened and sealed anew by a re-sealing; Reason counts them
	OpRevoke   Op = "revoke"
	OpSuspend  Op = "suspend"
	OpResume   Op = "resume"
	OpHealth   Op = "health"
	OpRecheck  Op = "recheck"
	OpLease    Op = "lease"    // a data key was made or unwrapped, and a lease on it begun, for the operations that wait for it
	OpRenew    Op = "renew"    // a lease was renewed in the background
	OpDeny     Op = "deny"     // this process saw KMS deny the key
	OpRestore  Op = "restore"  // and saw access granted again
	OpProbe    Op = "probe"    // the CMK and its policy were probed again, by Run
	OpMaterial Op = "material" // the CMK encrypts with other key material than before
	OpRelease  Op = "release"  // another tenant proved to own the CMK that this one had claimed

	OpExport Op = "export" // the tenant's wrapped data keys and sealed records were written to an export; Reason counts them

	// OpPlatformKey: the tenant, which never registered a key, began to seal under the platform's, with this operation
	// or a Suspend; or to seal envelopes that carry their data key (Options.PerOperation).
	OpPlatformKey Op = "platform_key"

	OpDrillable Op = "drillable" // whether drills may block the tenant was set; Reason says to which
)

// Outcome is how an operation ended.
type Outcome string

// The outcomes.
const (
	OutcomeSuccess  Outcome = "success"
	OutcomeFailure  Outcome = "failure"  // Code and Class say why
	OutcomeDenied   Outcome = "denied"   // refused: the key is denied, removed or suspended
	OutcomeWithheld Outcome = "withheld" // recorded as a success before, but a denial came first: nothing was released, or of a stream not all. Reason holds the id of that event
	OutcomeAborted  Outcome = "aborted"  // a stream that its user gave up: Reason says how. Part of it may have been released
)

// Event is one line of a tenant's audit log. It holds no plaintext, no
// ciphertext, no key and no token: ids, times and outcomes only.
type Event struct {
	ID      string    `json:"id"`   // unique: 1 to 255 bytes of 0x21..0x7e
	Time    time.Time `json:"time"` // UTC
	Actor   string    `json:"actor,omitempty"`
	Op      Op        `json:"op"`
	Outcome Outcome   `json:"outcome"`
	Class   Class     `json:"class,omitzero"`      // what KMS's refusal meant
	Code    string    `json:"code,omitempty"`      // BYOK_..., of the error that the caller got
	Reason  string    `json:"reason,omitempty"`    // given by the actor, or explaining Op
	Scope   Scope     `json:"scope"`               // whose data, and what for
	Key     KeyID     `json:"key,omitzero"`        // the CMK
	DataKey DataKeyID `json:"data_key,omitzero"`   // the data key
	Version uint64    `json:"version,omitempty"`   // its generation, or the one that a rotation made
	Proof   string    `json:"proof,omitempty"`     // request id of the KMS call that decided this: the one under the lease, or the one that refused
	Calls   []KMSCall `json:"kms_calls,omitempty"` // made for this event, refused ones too; nil when a lease served it
}

// KMSCall is one attempt at a KMS request. It stands in exactly one event.
type KMSCall struct {
	Receipt
	Op    string        `json:"op"`
	Code  string        `json:"code,omitempty"`
	Key   KeyID         `json:"key"`
	Class Class         `json:"class,omitzero"` // zero: success
	Took  time.Duration `json:"took_ns"`
}

// DataKeyID is the random identity of a data key.
type DataKeyID [16]byte

// String returns 32 lower-case hex digits.
func (id DataKeyID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id DataKeyID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *DataKeyID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return fmt.Errorf("%w: a data key id is 32 hex digits", ErrArgument)
	}
	if _, err := hex.Decode(id[:], b); err != nil {
		return fmt.Errorf("%w: a data key id is 32 hex digits", ErrArgument)
	}
	return nil
}

func newDataKeyID() (id DataKeyID) {
	random.Read(id[:])
	return id
}

type actorKey struct{}

// WithActor names who acts, for the events of operations under ctx. It grants
// nothing. Bytes outside 0x20..0x7e become '?', and it is cut at 256 bytes.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, printable(actor, 256))
}

func actorFrom(ctx context.Context) string {
	a, _ := ctx.Value(actorKey{}).(string)
	return a
}

// printable makes a text harmless to terminals and line-based logs.
func printable(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	b := []byte(s)
	for i, c := range b {
		if c < 0x20 || c > 0x7e {
			b[i] = '?'
		}
	}
	return string(b)
}
