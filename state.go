package byok

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/shares"
)

// This file is the layout of what a Keeper keeps in its Store. Every item is
// JSON with a version; partitions and IDs are ours, and listed here:
//
//	tenants           <tenant>                     the tenant exists
//	tenant:<tenant>   state                        state, below
//	                  outbox                       events that wait for delivery
//	                  ack:<n>                      the nth waiver acknowledgement
//	                  gen:<purpose>:<generation>   which data key; its absence is what makes creation race-free
//	                  dek:<data key id>            a wrapped data key
//	                  use:<data key id>            how much of its limits is reserved
//	                  used:<generation>            about when its data keys were last used
//	                  job:<id>                     a rotation, a move or a re-sealing: what it is, and how far
//	                  shard:<id>:<n>               how far a part of a re-sealing is
//	openjobs          000 to 255                   the jobs that are under way, by a hash of the tenant; see jobindex.go
//	cmk               <SHA-256 of the key id>      which tenant uses this CMK
//	waiver            <SHA-256 of the waiver>      a text that somebody acknowledged
//	changes           head, log                    what changed lately, see changelog.go
const (
	partTenants  = "tenants"
	partCMK      = "cmk"
	partWaiver   = "waiver"
	partChanges  = "changes"
	partOpenJobs = "openjobs"
	idState      = "state"
	idOutbox     = "outbox"
)

func partTenant(tenant string) string { return "tenant:" + tenant }

func refState(tenant string) Ref  { return Ref{partTenant(tenant), idState} }
func refOutbox(tenant string) Ref { return Ref{partTenant(tenant), idOutbox} }
func refDataKey(tenant string, id DataKeyID) Ref {
	return Ref{partTenant(tenant), prefixDataKey + id.String()}
}
func refGeneration(tenant, purpose string, generation uint64) Ref {
	return Ref{partTenant(tenant), fmt.Sprintf("gen:%s:%020d", purpose, generation)}
}
func refAck(tenant string, n uint64) Ref {
	return Ref{partTenant(tenant), fmt.Sprintf("ack:%020d", n)}
}

const prefixDataKey = "dek:"

// refClaim names the claim on a CMK. The hash keeps the ID short and its bytes tame.
func refClaim(key KeyID) Ref {
	sum := sha256.Sum256([]byte(strconv.Itoa(len(key.Provider)) + ":" + key.Provider + key.ID))
	return Ref{partCMK, hex.EncodeToString(sum[:])}
}

const layoutVersion = 1

// Lifecycle, the durable axis of a tenant's key.
const (
	lifecycleNone    = "" // never registered; a waiver may have been acknowledged
	lifecyclePending = "pending_waiver"
	lifecycleActive  = "active"
	lifecycleRevoked = "revoked"
	// Nothing comes here but from lifecycleNone; see platform.go.
	lifecyclePlatform = "platform"
)

// Binding: what the negative probes of the registration found.
const (
	bindingBound   = "bound"
	bindingUnbound = "unbound"
	bindingUnknown = "unknown"
)

// state is one tenant's item. Once read it is shared and not changed.
type state struct {
	keySet
	V               int        `json:"v"`
	Lifecycle       string     `json:"lifecycle,omitempty"`
	Alias           string     `json:"alias,omitempty"`
	Description     string     `json:"description,omitempty"`
	Binding         string     `json:"binding,omitempty"`
	Generation      uint64     `json:"generation,omitempty"`
	DataKeys        uint64     `json:"data_keys,omitempty"`
	Suspended       bool       `json:"suspended,omitempty"`
	SuspendReason   string     `json:"suspend_reason,omitempty"`
	RevokeReason    string     `json:"revoke_reason,omitempty"`
	Drillable       bool       `json:"drillable,omitempty"`
	CreatedAt       time.Time  `json:"created_at,omitzero"`
	LastValidatedAt time.Time  `json:"last_validated_at,omitzero"`
	LastRotationAt  time.Time  `json:"last_rotation_at,omitzero"`
	ProbedAt        time.Time  `json:"probed_at,omitzero"`    // when a process last took it upon itself to probe the CMK
	MaterialID      string     `json:"material_id,omitempty"` // key material of the CMK that encrypted last
	MaterialAt      time.Time  `json:"material_at,omitzero"`  // since when, as far as we saw
	Former          []KeyID    `json:"former,omitempty"`      // from which the tenant was moved: for Rewrap, and nothing else
	Platform        bool       `json:"platform,omitempty"`    // Key is the platform's: the tenant never had one of its own
	Carried         bool       `json:"carried,omitempty"`     // beside that, envelopes carry data keys that it wrapped
	Elsewhere       *elsewhere `json:"elsewhere,omitempty"`   // what was wrapped before the tenant had a key; not changed in place
	Reseal          uint64     `json:"reseal,omitempty"`      // what is sealed by an older generation is due, see Keeper.Due
	Job             *activeJob `json:"job,omitempty"`         // not changed in place: a clone has the same
	Acks            uint64     `json:"acks,omitempty"`        // how many ack:<n> there are
	Ack             *ack       `json:"ack,omitempty"`         // the newest
	Recent          []string   `json:"recent"`                // newest events, to find out after an error whether a write took place

	revision uint64
}

// ack is one acknowledgement of a waiver.
type ack struct {
	Version       string    `json:"version"`
	SHA256        string    `json:"sha256"`
	Actor         string    `json:"actor,omitempty"`
	At            time.Time `json:"at"`
	DataLossRisk  bool      `json:"acknowledge_data_loss_risk"`
	KeyManagement bool      `json:"acknowledge_key_management_responsibility"`
	NoLiability   bool      `json:"acknowledge_no_liability"`
}

// of reports whether a is an acknowledgement of w, in full. An item that lacks a
// flag or has another text's hash is none, whoever wrote it (threat E19).
func (a *ack) of(w *Waiver, hash string) bool {
	return a != nil && a.Version == w.Version && a.SHA256 == hash && a.DataLossRisk && a.KeyManagement && a.NoLiability
}

// claim says which tenant uses a CMK; none if Tenant is "", or several if Shared, or those without one if Platform.
type claim struct {
	V      int    `json:"v"`
	Tenant string `json:"tenant"`
	Key    KeyID  `json:"key"`
	Shared bool   `json:"shared,omitempty"`

	Platform bool `json:"platform,omitempty"` // for good: no tenant's, ever
}

// dataKeyItem is a wrapped data key.
type dataKeyItem struct {
	V          int       `json:"v"`
	Purpose    string    `json:"purpose"`
	Generation uint64    `json:"generation"`
	CreatedAt  time.Time `json:"created_at"`
	Header     []byte    `json:"header"`               // CORE | RECIPIENTS, as in an envelope
	Moved      []byte    `json:"moved,omitempty"`      // the data key itself, if what Header has wrapped are shares to unwrap it with
	Next       []byte    `json:"next,omitempty"`       // Header under the CMKs that the tenant is moved to
	NextMoved  []byte    `json:"next_moved,omitempty"` // Moved, to Next
	Made       uint8     `json:"made,omitempty"`       // the policy that envelopes which carry it say; 0: that of Header
	Job        string    `json:"job,omitempty"`        // that has wrapped it last: Next, or Header
}

// generationItem names the data key of a purpose and generation.
type generationItem struct {
	V       int       `json:"v"`
	DataKey DataKeyID `json:"data_key"`
}

// outbox holds events that are part of the state, but not yet with the sink.
type outbox struct {
	V      int     `json:"v"`
	Events []Event `json:"events"`

	revision uint64
}

// usable returns nil if the state permits data operations of k, or why not. KMS's
// own word comes on top of it.
func (s *state) usable(k *Keeper) error {
	switch {
	case s == nil || s.Lifecycle == lifecycleNone:
		return ErrNotRegistered
	case s.Lifecycle == lifecycleRevoked:
		return ErrKeyRemoved
	case s.Suspended:
		return ErrSuspended
	case s.Lifecycle == lifecyclePending:
		return ErrWaiverRequired
	case s.Lifecycle == lifecycleActive && k.platformOwns(s):
		return errPlatformOwns
	case s.Lifecycle == lifecyclePlatform && !k.platformKey(s.Key):
		return errNotGiven
	case s.Lifecycle == lifecycleActive, s.Lifecycle == lifecyclePlatform:
		return nil
	}
	return fmt.Errorf("%w: unknown lifecycle", ErrStore)
}

func (s *state) clone() *state {
	c := *s
	c.Recent, c.Others = slices.Clone(s.Recent), slices.Clone(s.Others)
	return &c
}

// getJSON reads an item into v, strictly: an item of a newer layout or with a
// missing version is an error, not a guess.
func (k *Keeper) getJSON(ctx context.Context, r Ref, v any) (revision uint64, err error) {
	item, err := k.store.Get(ctx, r)
	switch {
	case errors.Is(err, ErrNotFound):
		return 0, ErrNotFound
	case err != nil:
		return 0, storeError(err)
	case item.Ref != r || item.Revision == 0:
		return 0, fmt.Errorf("%w: it answered with another item", ErrStore)
	}
	return item.Revision, decodeItem(item.Value, v)
}

func decodeItem(value []byte, v any) error {
	var head struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(value, &head); err != nil || head.V != layoutVersion {
		return errDamaged
	}
	if err := json.Unmarshal(value, v); err != nil {
		return errDamaged
	}
	return nil
}

var errDamaged = newError(ErrStore, "the store failed: an item is damaged or of a newer version")

func encodeItem(r Ref, revision uint64, v any) Item {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // no browser reads this, and it makes six bytes of one
	if err := enc.Encode(v); err != nil {
		panic("byok: internal error: " + err.Error())
	}
	return Item{Ref: r, Revision: revision, Value: bytes.TrimSuffix(b.Bytes(), []byte("\n"))}
}

// storeError makes an ErrStore of a Store's error. The cause stays reachable
// for operators, but not in the text: drivers put arguments into theirs.
func storeError(err error) error {
	if errors.Is(err, ErrStore) {
		return err
	}
	return &hiddenCause{ErrStore, err}
}

// hiddenCause is an error with a cause that errors.Is and errors.As find and
// that its text does not show.
type hiddenCause struct{ err, cause error }

func (h *hiddenCause) Error() string   { return h.err.Error() }
func (h *hiddenCause) Unwrap() []error { return []error{h.err, h.cause} }

// readState reads a tenant's state and shows it to the cache. A tenant that the
// Store does not know has the empty state at revision 0.
func (t *tenantCache) readState(ctx context.Context) (*state, error) {
	for range changeTries {
		t.mu.RLock()
		var floor uint64
		if t.state != nil {
			floor = t.state.revision
		}
		t.mu.RUnlock()
		s, err := t.storedState(ctx)
		if err != nil {
			return nil, err
		}
		// What had been seen before the Store was asked must be in its answer: else
		// somebody put an old copy back, and what it says may have been revoked since (I17).
		if s.revision < floor {
			return nil, errRolledBack
		}
		if t.see(s) {
			return s, nil
		}
		// Overtaken by a newer one while it was under way.
	}
	return nil, fmt.Errorf("%w: the tenant is being changed all the time", ErrStore)
}

// storedState reads a tenant's state and tells nobody.
func (t *tenantCache) storedState(ctx context.Context) (*state, error) {
	s := &state{V: layoutVersion}
	rev, err := t.k.getJSON(ctx, refState(t.tenant), s)
	if err != nil && err != ErrNotFound {
		return nil, err
	}
	if !s.keysOK() || !s.platformOK() {
		return nil, errDamaged
	}
	s.revision = rev
	return s, nil
}

// readDataKey reads and checks a wrapped data key of the Store. ErrNotFound is
// authoritative. Whoever can write to the Store can put anything here, so it is
// parsed as strictly as an envelope, and KMS checks the rest by the context.
func (t *tenantCache) readDataKey(ctx context.Context, purpose string, id DataKeyID) (*dataKeyItem, wrapping, error) {
	var item dataKeyItem
	if _, err := t.k.getJSON(ctx, refDataKey(t.tenant, id), &item); err == errDamaged {
		return nil, wrapping{}, errDataKey
	} else if err != nil {
		return nil, wrapping{}, err
	}
	t.mu.RLock()
	keys := t.state.keys()
	t.mu.RUnlock()
	w, ok := item.settle(t.tenant, id, keys)
	if !ok {
		return nil, wrapping{}, errDataKey
	}
	if item.Purpose != purpose {
		return nil, wrapping{}, ErrOpen // another purpose's data key: the envelope is not of this scope
	}
	return &item, w, nil
}

var errDataKey = newError(ErrStore, "the store failed: a data key is damaged")

// settle returns how the data key is wrapped for whoever has keys, after the switch of a move under the new
// CMKs, and makes Header that. It reports false if the item is damaged.
func (d *dataKeyItem) settle(tenant string, id DataKeyID, keys []KeyID) (wrapping, bool) {
	w, ok := d.parse(d.Header, d.Moved, tenant, id)
	if d.Next == nil || !ok || w.opens(keys) {
		return w, ok
	}
	if next, ok := d.next(tenant, id); ok && next.opens(keys) {
		d.Header, d.Moved = d.Next, d.NextMoved
		return next, true
	}
	return w, true
}

// next is how the data key is wrapped for the CMKs that the tenant is moved to.
func (d *dataKeyItem) next(tenant string, id DataKeyID) (wrapping, bool) {
	w, ok := d.parse(d.Next, d.NextMoved, tenant, id)
	if ok && w.made == 0 { // nobody has said that it changes
		was, wok := parseWrapping(d.Header, tenant, id)
		ok = wok && was.policy == w.policy
	}
	return w, ok
}

// parse parses one of the two, with what belongs to it.
func (d *dataKeyItem) parse(header, moved []byte, tenant string, id DataKeyID) (w wrapping, ok bool) {
	if w, ok = parseWrapping(header, tenant, id); !ok {
		return w, false
	}
	w.moved, w.made = moved, d.Made
	return w, moved == nil || w.policy == format.PolicyALL && len(moved) == shares.WrappedSize
}

// parseWrapping parses what the Store has of a data key as strictly as an envelope, and reports
// whether it is that data key's.
func parseWrapping(header []byte, tenant string, id DataKeyID) (wrapping, bool) {
	h, _, rest, err := format.Parse(header)
	if err != nil || len(rest) != 0 || h.Policy == format.PolicyREF || h.Tenant != tenant || h.DataKey != id {
		return wrapping{}, false
	}
	return wrappingOf(h), true
}
