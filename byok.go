package byok

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/lease"
	"github.com/byok-go/byok/internal/random"
)

// Scope says whose data, and what for. It is part of every KMS request's
// encryption context, and so in clear in the tenant's CloudTrail: use opaque ids.
// It is comparable.
type Scope struct {
	Tenant  string `json:"tenant"`            // 1 to 128 bytes 0x21..0x7e
	Purpose string `json:"purpose,omitempty"` // a class of data: 1 to 64 bytes of [a-z0-9._-]; "" means "default"
}

// Options of a Keeper; nil and the zero Options are safe defaults.
type Options struct {
	// MaxAge is the hard end of a lease: how long a data key may be used
	// after the KMS request that proved access was issued. It bounds how long data stays readable after a
	// revocation that this process has not heard of, and what an outage of KMS
	// is ridden out for. 1 s to 5 min. Defaults to 60 s; nothing means "for ever".
	MaxAge time.Duration

	// PerOperation makes every Seal and Open ask KMS. Nothing is cached; each Seal
	// has a data key of its own, inside its envelope. MaxAge must be 0. A stream asks
	// twice as it begins, and is leased for DefaultMaxAge at a time while it runs.
	PerOperation bool

	// Parallelism is how many goroutines at most seal or open the segments of one stream
	// at once; 1 means none but the caller's. 1 to 64. Defaults to GOMAXPROCS, up to 4.
	Parallelism int

	// AllowUnboundPolicy accepts CMKs whose policy would let the platform in for
	// any tenant. By default they are refused (ErrPolicyUnbound): nothing
	// but the platform's own records would then tell two tenants' keys apart.
	AllowUnboundPolicy bool

	// AllowAnyKeyToOpenAlone permits tenants with several keys under PolicyAny, and to
	// seal under data keys that each of them opens alone. Without it such a tenant's data is opened, and Seal is
	// ErrArgument, whichever process registered the keys and made the data key. Think before you set it: if anybody but the
	// tenant controls one of a tenant's keys, the platform for one, then the tenant's revocation of
	// the others is worth nothing to whoever has the data and that key. In this library
	// a denial by one of them still stops the tenant.
	AllowAnyKeyToOpenAlone bool

	// PlatformKeys are CMKs of the platform's own, for tenants that never registered a key: at most 8. None:
	// such a tenant cannot seal (ErrNotRegistered). With them it seals under the first, with data keys of its own, from its first
	// Seal on. It goes on under that one until it registers a key (see [Tenant.Register]), after which nothing brings it
	// back; or until [Tenant.Move] to another of PlatformKeys. A Keeper never asks for a platform's CMK that is not among them, and
	// no tenant can register one. These tenants have no key to revoke: think of what you tell them.
	PlatformKeys []KeyID

	// Schedule rotates data keys by age and by use. By default only the limits of a data key do.
	Schedule Schedule

	// JobRequests is how many KMS requests a second the jobs of all tenants (moves, rotations of type RotateFull, and re-sealings) may make in this
	// process, so a fleet makes as many times that. They also never take the last half of their tenant's budget. 1 to MaxJobRequests.
	// Defaults to DefaultJobRequests.
	JobRequests int

	// Waiver replaces DefaultWaiver.
	Waiver *Waiver

	// Observer's hooks are told of KMS calls and changes of state.
	Observer *Observer

	// Logger gets what operators must see. Defaults to slog.Default().
	Logger *slog.Logger
}

// Observer is a set of hooks, any of which may be nil. They are called
// synchronously, outside of all locks: return soon. None is called per record.
type Observer struct {
	KMSCall      func(tenant string, c KMSCall) // after each attempt
	StateChange  func(old, now KeyStatus)       // of access, as seen by this process, and of lifecycle, as made by it
	AuditFailure func(error)                    // an event could not be recorded
	Warning      func(tenant string, w Warning) // something is about to go wrong; tenant is "" if it concerns all
}

// Limits of Options.MaxAge and Options.JobRequests.
const (
	MinMaxAge     = time.Second
	MaxMaxAge     = 5 * time.Minute
	DefaultMaxAge = 60 * time.Second

	MaxJobRequests     = 10_000
	DefaultJobRequests = 200
)

// Keeper is the data plane: it seals and opens, under each tenant's own key. It
// is safe for concurrent use, and one process should have one per Store.
type Keeper struct {
	service      string
	keys         Keyring
	store        Store
	sink         AuditSink
	maxAge       time.Duration
	perOperation bool
	parallelism  int
	allowUnbound bool
	allowAny     bool
	platform     []KeyID
	waiver       Waiver
	waiverHash   string
	observer     Observer
	log          *slog.Logger
	clock        lease.Clock
	ids          eventIDs
	limits       sealLimits
	fleet        fleet
	jobs         jobTurns
	schedule     Schedule

	tenants sync.Map // tenant -> *tenantCache
	lru     leaseList
	stats   counters

	closed atomic.Bool
	gate   sync.RWMutex // orders enter before Close
	work   sync.WaitGroup
	idle   sync.Cond       // on gate: a tenant's last operation has ended, after closed was set
	done   context.Context // of everything that outlives its caller
	stop   context.CancelFunc
}

// New returns a Keeper. service names the platform ("billing.example.com"; 1 to
// 64 bytes of [A-Za-z0-9._-]): it is in the encryption context of every data key, so changing it
// orphans them all, and there is no default. opts may be nil. The error is ErrArgument; or ErrInternal, if
// crypto/rand.Reader had been replaced by something that is not random before this
// package was initialised. What replaces it later has no effect on a Keeper.
//
// New does no I/O. Close the Keeper when done.
func New(service string, keys Keyring, store Store, sink AuditSink, opts *Options) (*Keeper, error) {
	if opts == nil {
		opts = &Options{}
	}
	bad := func(what string) (*Keeper, error) { return nil, fmt.Errorf("%w: %s", ErrArgument, what) }
	k := &Keeper{
		service: service, keys: keys, store: store, sink: sink,
		maxAge: opts.MaxAge, perOperation: opts.PerOperation, parallelism: opts.Parallelism, allowUnbound: opts.AllowUnboundPolicy, allowAny: opts.AllowAnyKeyToOpenAlone,
		waiver: DefaultWaiver(), log: opts.Logger, clock: lease.System(), limits: defaultLimits,
	}
	if err := random.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	switch {
	case len(service) < 1 || len(service) > 64 || !only(service, isVersionByte):
		return bad("service must be 1 to 64 bytes of [A-Za-z0-9._-]")
	case keys == nil || store == nil || sink == nil:
		return bad("a Keyring, a Store and an AuditSink are required")
	case k.perOperation && k.maxAge != 0:
		return bad("MaxAge has no meaning with PerOperation")
	case k.maxAge == 0:
		k.maxAge = DefaultMaxAge
	case k.maxAge < MinMaxAge || k.maxAge > MaxMaxAge:
		return bad("MaxAge must be 1 s to 5 min")
	}
	if k.parallelism < 0 || k.parallelism > 64 {
		return bad("Parallelism must be 1 to 64")
	}
	if k.parallelism == 0 {
		k.parallelism = min(runtime.GOMAXPROCS(0), 4)
	}
	if opts.JobRequests < 0 || opts.JobRequests > MaxJobRequests {
		return bad("JobRequests must be 1 to 10000")
	}
	if k.platform = slices.Clone(opts.PlatformKeys); !platformKeysOK(k.platform) {
		return bad("PlatformKeys must be at most 8 different keys")
	}
	if err := opts.Schedule.use(k); err != nil {
		return nil, err
	}
	if opts.Waiver != nil {
		k.waiver = *opts.Waiver
	}
	if err := k.waiver.check(); err != nil {
		return nil, err
	}
	k.waiverHash = k.waiver.SHA256()
	if opts.Observer != nil {
		k.observer = *opts.Observer
	}
	if k.log == nil {
		k.log = slog.Default()
	}
	k.lru.max = maxLeases
	k.ids.init()
	k.fleet.init()
	k.jobs.init(cmp.Or(opts.JobRequests, DefaultJobRequests))
	k.idle.L = &k.gate
	k.done, k.stop = context.WithCancel(context.Background())
	return k, nil
}

// Tenant returns the control plane of one tenant. It does no I/O; a bad id is
// ErrArgument from each of its methods.
func (k *Keeper) Tenant(id string) *Tenant { return &Tenant{k: k, id: id} }

// Tenants returns all tenants that ever registered a key, acknowledged a
// waiver or sealed under one of Options.PlatformKeys, in byte order. An error ends the sequence.
func (k *Keeper) Tenants(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for after := ""; ; {
			items, err := k.store.List(ctx, partTenants, after, MaxListLimit)
			if err != nil {
				yield("", storeError(err))
				return
			}
			for _, i := range items {
				if !format.ValidTenant(i.ID) || i.ID <= after {
					yield("", fmt.Errorf("%w: its list of tenants is damaged", ErrStore))
					return
				}
				if after = i.ID; !yield(i.ID, nil) {
					return
				}
			}
			if len(items) < MaxListLimit {
				return
			}
		}
	}
}

// Waiver returns the text that tenants acknowledge.
func (k *Keeper) Waiver() Waiver { return k.waiver }

// HasAuditReader reports whether the AuditSink is an AuditReader, without which
// Tenant.Audit has nothing to read.
func (k *Keeper) HasAuditReader() bool {
	_, ok := k.sink.(AuditReader)
	return ok
}

// Close ends everything. Commands and loads that are under way are cancelled;
// operations that have their data key are waited for, as long as the AuditSink takes.
// When it returns, every data key is wiped, and no goroutine is left. Later calls
// are ErrClosed. It may be called more than once; its error is nil.
func (k *Keeper) Close() error {
	k.gate.Lock()
	k.closed.Store(true)
	k.gate.Unlock()
	k.stop()
	k.tenants.Range(func(_, v any) bool {
		v.(*tenantCache).wait()
		return true
	})
	k.work.Wait()
	k.tenants.Range(func(_, v any) bool {
		t := v.(*tenantCache)
		t.mu.Lock()
		gone := t.purge(func(*entry) bool { return true })
		t.mu.Unlock()
		k.wipe(gone)
		return true
	})
	return nil
}

// enter begins something that Close waits for. It fails once Close has begun.
func (k *Keeper) enter() bool {
	k.gate.RLock()
	defer k.gate.RUnlock()
	if k.closed.Load() {
		return false
	}
	k.work.Add(1)
	return true
}

func (k *Keeper) leave() { k.work.Done() }

// within is enter for what can take long: it returns a ctx that Close ends.
func (k *Keeper) within(ctx context.Context) (context.Context, func(), error) {
	if !k.enter() {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(k.done, cancel)
	return ctx, func() { unhook(); cancel(); k.leave() }, nil
}

// detach returns a ctx for work that belongs to no caller: with the values of
// one, but with an end of its own, and ended by Close.
func (k *Keeper) detach(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	unhook := context.AfterFunc(k.done, cancel)
	return ctx, func() { unhook(); cancel() }
}

func sameAccess(a, b KeyAccess) bool { return a.Key == b.Key && a.Access == b.Access }

// changed tells the observer.
func (k *Keeper) changed(old, now KeyStatus) {
	hook := k.observer.StateChange
	if hook != nil && (old.Status != now.Status || old.Access != now.Access || old.Key != now.Key ||
		old.Reason != now.Reason || old.DEKVersion != now.DEKVersion || !slices.EqualFunc(old.Keys, now.Keys, sameAccess)) {
		hook(old, now)
	}
}
