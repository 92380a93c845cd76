package byokhttp

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/byok-go/byok"
)

// keyStatus is the key status of the contract. Every member is always there;
// what never happened is null.
type keyStatus struct {
	OrganizationID     string      `json:"organization_id"`
	CMKARN             string      `json:"cmk_arn"`
	CMKAlias           string      `json:"cmk_alias"`
	Description        string      `json:"description"`
	Status             byok.Status `json:"status"`
	StatusReason       *string     `json:"status_reason"`
	Access             byok.Access `json:"access"` // what this process saw last; beyond the contract
	LastValidatedAt    *string     `json:"last_validated_at"`
	LastRotationAt     *string     `json:"last_rotation_at"`
	CreatedAt          *string     `json:"created_at"`
	DEKVersion         uint64      `json:"dek_version"`
	DataKeys           uint64      `json:"data_keys"` // that need this key or an earlier one; beyond the contract
	WaiverAcknowledged bool        `json:"waiver_acknowledged"`
	Warnings           []string    `json:"warnings"`
	Audited            *bool       `json:"audited,omitempty"` // false: see deleteKey

	// Of an organization that has, or had, no CMK of its own and is under the platform's: beyond the contract.
	PlatformKey   bool   `json:"platform_key,omitempty"`
	OnceElsewhere uint64 `json:"data_keys_once_wrapped_elsewhere,omitempty"` // see byok.WarnDataKeysOnceElsewhere

	MovingTo string `json:"moving_to_cmk_arn,omitempty"` // while a move, or the registration of such an organization, is under way
	Job      string `json:"job_id,omitempty"`            // of that, or of a full rotation

	// Of an organization with several CMKs, which this API shows, moves to, and does not register: beyond the contract.
	Policy byok.Policy `json:"policy,omitempty"`
	CMKs   []cmk       `json:"cmks,omitempty"`
}

// cmk is one of several.
type cmk struct {
	CMKARN           string      `json:"cmk_arn"`
	Access           byok.Access `json:"access"`
	LastProofAt      *string     `json:"last_proof_at"`
	LastProofRequest *string     `json:"last_proof_request_id"`
	CMKDeletionAt    *string     `json:"cmk_deletion_at"`
}

func newKeyStatus(s byok.KeyStatus) keyStatus {
	out := keyStatus{
		OrganizationID:     s.Tenant,
		CMKARN:             s.Key.ID,
		CMKAlias:           s.Alias,
		Description:        s.Description,
		Status:             s.Status,
		StatusReason:       orNull(s.Reason),
		Access:             s.Access,
		LastValidatedAt:    stamp(s.LastValidatedAt),
		LastRotationAt:     stamp(s.LastRotationAt),
		CreatedAt:          stamp(s.CreatedAt),
		DEKVersion:         s.DEKVersion,
		DataKeys:           s.DataKeys,
		WaiverAcknowledged: s.WaiverAcknowledged,
		Warnings:           notNull(s.Warnings),
		Policy:             s.Policy,
		PlatformKey:        s.PlatformKey,
		MovingTo:           s.MovingTo.ID,
		Job:                s.Job,
		OnceElsewhere:      s.OnceElsewhere,
	}
	if s.PlatformKey { // which is none of the organization's
		out.CMKARN = ""
	}
	for _, k := range s.Keys {
		out.CMKs = append(out.CMKs, cmk{k.Key.ID, k.Access, stamp(k.LastProof), orNull(k.LastProofRequestID), stamp(k.DeletionAt)})
	}
	return out
}

// tookEffect splits byok.ErrNotAudited from the errors that mean "nothing
// happened": with it a command did take effect, and only its event waits for the
// audit sink. That is answered as a success with "audited": false, since what
// the customer must know above all is, say, that access has stopped.
func tookEffect(err error) (audited *bool, failed error) {
	if errors.Is(err, byok.ErrNotAudited) {
		return new(bool), nil
	}
	return nil, err
}

// stamp is RFC 3339 in UTC, and nil for the zero time.
func stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format(time.RFC3339Nano)
	return &s
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func notNull[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

const maxARN = 2048 // of byok.KeyID

func (h *handler) registerKey(c *call) (int, any, error) {
	o, err := readObject(c.Request, "cmk_arn", "cmk_alias", "description", "abandon_existing_data")
	if err != nil {
		return 0, nil, err
	}
	arn, err := o.text("cmk_arn", maxARN)
	if err != nil {
		return 0, nil, err
	}
	if _, ok := o["cmk_arn"]; !ok {
		return 0, nil, badRequest("cmk_arn is required.")
	}
	alias, err := o.text("cmk_alias", 256)
	if err != nil {
		return 0, nil, err
	}
	description, err := o.text("description", 1024)
	if err != nil {
		return 0, nil, err
	}
	abandon, err := o.flag("abandon_existing_data")
	if err != nil {
		return 0, nil, err
	}
	if err := h.count(c); err != nil {
		return 0, nil, err
	}
	if err := mayLeave(c); err != nil {
		return 0, nil, err
	}
	s, err := c.tenant.Register(c.Context(), byok.Registration{
		Key:   byok.KeyID{Provider: h.provider, ID: arn},
		Alias: alias, Description: description, AbandonExistingData: abandon,
	})
	audited, err := tookEffect(err)
	if err != nil {
		return 0, nil, err
	}
	body := newKeyStatus(s)
	body.Audited = audited
	if s.PlatformKey { // not yet: GET /keys/move/{job_id} follows it
		return http.StatusAccepted, body, nil
	}
	return http.StatusCreated, body, nil
}

// mayLeave asks for more than the route does where a registration moves data keys: from under the platform's CMK.
func mayLeave(c *call) error {
	switch s, err := c.tenant.Status(c.Context()); {
	case errors.Is(err, byok.ErrNotRegistered):
		return nil
	case err != nil:
		return err
	case s.PlatformKey:
		return c.id.Require(ScopeMove)
	}
	return nil
}

func (h *handler) getKey(c *call) (int, any, error) {
	s, err := c.tenant.Status(c.Context())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, newKeyStatus(s), nil
}

// revokeTime is what a removal gets once it was asked for, client or no client.
const revokeTime = 30 * time.Second

// deleteKey is the emergency brake. It can be pulled again at any time: only a
// removal that removes something needs, and uses up, the budget; if the status
// cannot be read, the brake goes first. A client that hangs up does not stop it.
func (h *handler) deleteKey(c *call) (int, any, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), revokeTime)
	defer cancel()
	limit := c.route.limit(&h.limits.limits)
	before, err := c.tenant.Status(ctx)
	changes := err == nil && before.Status != byok.StatusRevoked
	if changes {
		if err := h.limits.check(c.key, limit); err != nil {
			return 0, nil, err
		}
	}
	s, err := c.tenant.Revoke(ctx, "removed through the API")
	audited, err := tookEffect(err)
	if err != nil {
		return 0, nil, err
	}
	if changes {
		// Not before, since a failure must not use up the budget. Of two
		// at a time one changed nothing: the bucket does not go below empty.
		_ = h.limits.take(c.key, limit)
	}
	if s.Tenant == "" { // it took effect, but could not be read back
		s = before
		s.Tenant, s.Status = c.id.Tenant, byok.StatusRevoked
	}
	body := newKeyStatus(s)
	body.Audited = audited
	return http.StatusOK, body, nil
}

// rotation is the rotation result of the contract.
type rotation struct {
	ID                 string  `json:"id"`
	OrganizationID     string  `json:"organization_id"`
	RotationType       string  `json:"rotation_type"`
	PreviousDEKVersion uint64  `json:"previous_dek_version"`
	NewDEKVersion      uint64  `json:"new_dek_version"`
	StartedAt          *string `json:"started_at"`
	CompletedAt        *string `json:"completed_at"`
	Reason             string  `json:"reason"`
	State              string  `json:"state,omitempty"` // this one and the next three: of rotation_type full
	Done               *int64  `json:"done,omitempty"`
	Failed             *int64  `json:"failed,omitempty"`
	Left               *int64  `json:"left,omitempty"`
	Audited            *bool   `json:"audited,omitempty"` // see tookEffect
}

func (h *handler) rotate(c *call) (int, any, error) {
	o, err := readObject(c.Request, "rotation_type", "reason")
	if err != nil {
		return 0, nil, err
	}
	kind, err := o.text("rotation_type", 64)
	if err != nil {
		return 0, nil, err
	}
	switch kind {
	case byok.RotateDEK, byok.RotateFull:
	default:
		return 0, nil, badRequest(`rotation_type is required and must be "dek" or "full".`)
	}
	reason, err := o.text("reason", 1024)
	if err != nil {
		return 0, nil, err
	}
	if err := h.count(c); err != nil {
		return 0, nil, err
	}
	res, err := c.tenant.Rotate(c.Context(), byok.Rotation{Type: kind, Reason: reason})
	if kind == byok.RotateFull && errors.Is(err, byok.ErrArgument) { // see byok.ReasonCompromise
		return 0, nil, badRequest(`The reason speaks of a compromise, against which a rotation of type "full" does not help: rotate with "dek", and have the platform re-seal your data.`)
	}
	audited, err := tookEffect(err)
	if err != nil {
		return 0, nil, err
	}
	body := rotation{
		ID:                 res.ID,
		OrganizationID:     c.id.Tenant,
		RotationType:       res.Type,
		PreviousDEKVersion: res.PreviousVersion,
		NewDEKVersion:      res.NewVersion,
		StartedAt:          stamp(res.StartedAt),
		CompletedAt:        stamp(res.CompletedAt),
		Reason:             res.Reason,
		Audited:            audited,
	}
	if kind == byok.RotateFull { // its job is followed at GET /keys/rotate/{id}
		body.State, body.Done, body.Failed, body.Left = string(res.Job.State), &res.Job.Done, &res.Job.Failed, &res.Job.Left
	}
	return http.StatusOK, body, nil
}
