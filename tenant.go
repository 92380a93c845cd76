package byok

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/byok-go/byok/internal/format"
)

// Tenant is the control plane of one tenant: a handle without state or I/O of
// its own, safe for concurrent use. Handing one to a request handler gives it
// authority over this tenant and no other. Whether the actor may do what it asks for is the
// caller's to decide.
type Tenant struct {
	k  *Keeper
	id string
}

// EncryptionContext returns what the tenant's key policy must require: tenant_id
// and service. The other two members of every KMS request vary.
func (t *Tenant) EncryptionContext() EncryptionContext {
	return EncryptionContext{ContextTenant: t.id, ContextService: t.k.service}
}

// open checks the handle, and returns the tenant's cache with a ctx that Close
// ends. Close waits until done is called.
func (t *Tenant) open(ctx context.Context) (_ context.Context, c *tenantCache, done func(), err error) {
	if !format.ValidTenant(t.id) {
		return nil, nil, nil, errTenant
	}
	ctx, done, err = t.k.within(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	return ctx, t.k.cache(t.id), done, nil
}

// Status returns the tenant's key, or ErrNotRegistered. It reads the Store and
// asks KMS nothing: Access, and with it StatusDisabled, is what this process
// saw last.
func (t *Tenant) Status(ctx context.Context) (KeyStatus, error) {
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return KeyStatus{}, err
	}
	defer done()
	s, err := c.readState(ctx)
	if err != nil {
		return KeyStatus{}, err
	}
	if s.Lifecycle == lifecycleNone {
		return KeyStatus{}, ErrNotRegistered
	}
	return c.snapshot(s), nil
}

// Audit returns a page of the tenant's audit log, newest first. It is
// errors.ErrUnsupported if the AuditSink cannot be read.
func (t *Tenant) Audit(ctx context.Context, q AuditQuery) (AuditPage, error) {
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return AuditPage{}, err
	}
	defer done()
	r, ok := t.k.sink.(AuditReader)
	if !ok {
		return AuditPage{}, errors.ErrUnsupported
	}
	if err := c.flush(ctx); err != nil { // what a crash left undelivered belongs into it
		return AuditPage{}, err
	}
	page, err := r.Events(ctx, t.id, q)
	switch {
	case errors.Is(err, ErrArgument):
		return AuditPage{}, err
	case err != nil:
		return AuditPage{}, &hiddenCause{ErrAudit, err}
	}
	return page, nil
}

// status returns the newest known state. The caller holds mu.
func (t *tenantCache) status() KeyStatus { return t.project(t.state) }

// snapshot returns the status of s, which was read from the Store just now.
func (t *tenantCache) snapshot(s *state) KeyStatus {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.project(s)
}

// project makes one status of the two axes: the durable lifecycle, and the
// access that this process observed. The caller holds mu.
func (t *tenantCache) project(s *state) KeyStatus {
	out := KeyStatus{Tenant: t.tenant, Access: AccessUnknown}
	if s == nil || s.Lifecycle == lifecycleNone {
		return out
	}
	out.Key, out.Alias, out.Description = s.Key, s.Alias, s.Description
	out.CreatedAt, out.LastValidatedAt, out.LastRotationAt = s.CreatedAt, s.LastValidatedAt, s.LastRotationAt
	out.KeyMaterialID, out.KeyMaterialSince = s.MaterialID, s.MaterialAt
	out.DEKVersion, out.DataKeys = s.Generation, s.DataKeys
	out.Drillable = s.Drillable
	out.PlatformKey = s.Platform
	if s.Job != nil {
		if out.Job = s.Job.ID; s.Job.unswitched() {
			out.MovingTo = s.Job.To.Key
		}
	}
	out.WaiverAcknowledged = s.Ack.of(&t.k.waiver, t.k.waiverHash)
	decides := t.decisive(s)
	var denied bool
	var last *KeyError
	if decides != nil {
		denied, last = decides.lease.Denied(), decides.last
		a := decides.tell()
		out.Access, out.AccessClass, out.AccessSince, out.DeletionAt = a.Access, a.AccessClass, a.AccessSince, a.DeletionAt
		out.LastProof, out.LastProofRequestID = a.LastProof, a.LastProofRequestID
	}
	if out.Policy = s.Policy; s.Others != nil {
		for _, key := range s.keys() {
			if a := t.accessOf(key); a != nil {
				out.Keys = append(out.Keys, a.tell())
			}
		}
	}
	switch {
	case s.Lifecycle == lifecycleRevoked:
		out.Status, out.Reason = StatusRevoked, s.RevokeReason
		out.Access, out.AccessClass, out.AccessSince = AccessUnknown, 0, time.Time{} // not asked any more
	case s.Suspended:
		out.Status, out.Reason = StatusDisabled, "suspended by the platform"
		if s.SuspendReason != "" {
			out.Reason += ": " + s.SuspendReason
		}
	case s.usable(t.k) == errNotGiven:
		out.Status, out.Reason = StatusDisabled, "this process was not given the platform's key"
	case denied && last != nil && last.Class == ClassDenied:
		out.Status, out.Reason = StatusDisabled, "KMS denies access to the key: "+last.Code
		if s.Platform {
			out.Reason = "KMS denies access to the platform's key: " + last.Code
		}
		if !out.DeletionAt.IsZero() {
			out.Reason += "; it is to be deleted at " + out.DeletionAt.Format(time.RFC3339)
		}
	case s.Lifecycle == lifecyclePending:
		out.Status = StatusPendingWaiver
	case s.Lifecycle == lifecyclePlatform:
		out.Status = StatusPlatform
	default:
		out.Status = StatusActive
	}
	switch s.Binding {
	case bindingUnbound:
		out.Warnings = append(out.Warnings, WarnPolicyNotTenantBound)
	case bindingUnknown:
		out.Warnings = append(out.Warnings, WarnPolicyBindingUnknown)
	}
	if s.Lifecycle == lifecycleRevoked && s.DataKeys > 0 {
		out.Warnings = append(out.Warnings, WarnDataKeysRemain)
	}
	if e := s.Elsewhere; e != nil {
		out.OnceElsewhere = e.DataKeys
		out.Warnings = append(out.Warnings, WarnDataKeysOnceElsewhere)
	}
	if s.Lifecycle == lifecycleActive && !out.WaiverAcknowledged {
		out.Warnings = append(out.Warnings, WarnWaiverOutdated)
	}
	return out
}

// tell is the access as a status shows it. The caller holds the tenantCache's lock.
func (a *access) tell() KeyAccess {
	out := KeyAccess{Key: a.key, Access: a.seen, AccessSince: a.facts.since, LastProof: a.facts.proof,
		LastProofRequestID: a.facts.request, DeletionAt: a.facts.deletion.at}
	if a.last != nil {
		out.AccessClass = a.last.Class
	}
	return out
}

// decisive returns the key of s that decides whether the tenant can go on: one that is denied, else the
// best of any, or the worst of all. Nil: no key of s is in use here. The caller holds mu.
func (t *tenantCache) decisive(s *state) (out *access) {
	rank := map[Access]int{AccessUnknown: 1, AccessDegraded: 0, AccessAccessible: 2} // the better the higher
	for _, key := range s.keys() {
		switch a := t.accessOf(key); {
		case a == nil:
		case a.lease.Denied():
			return a
		case out == nil, s.all() && rank[a.seen] < rank[out.seen], !s.all() && rank[a.seen] > rank[out.seen]:
			out = a
		}
	}
	return out
}

// Limits of texts that tenants give, in bytes.
const (
	maxAlias = 256
	maxText  = 1024
)

// checkText refuses what does not belong into a log: it is kept as it is otherwise.
func checkText(what, s string, limit int) error {
	if len(s) > limit || !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s must be UTF-8 of at most %d bytes", ErrArgument, what, limit)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("%w: %s must not contain control characters", ErrArgument, what)
		}
	}
	return nil
}
