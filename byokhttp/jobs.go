package byokhttp

import (
	"math"
	"net/http"

	"github.com/byok-go/byok"
)

// job is how far a rotation, a move or a re-sealing is.
type job struct {
	ID             string  `json:"id"`
	OrganizationID string  `json:"organization_id"`
	Type           string  `json:"type"`
	State          string  `json:"state"`
	PausedBy       *string `json:"paused_by"` // BYOK_..., of what stopped it last
	Method         *string `json:"method"`
	FromCMKARN     string  `json:"from_cmk_arn"`
	ToCMKARN       string  `json:"to_cmk_arn"`

	// Beside these, of an organization that has several CMKs, or will: beyond the contract.
	FromOthers []string    `json:"from_other_cmk_arns,omitempty"`
	FromPolicy byok.Policy `json:"from_policy,omitempty"`
	ToOthers   []string    `json:"to_other_cmk_arns,omitempty"`
	ToPolicy   byok.Policy `json:"to_policy,omitempty"`

	Done               int64   `json:"done"`
	Failed             int64   `json:"failed"`
	Left               int64   `json:"left"`
	PreviousDEKVersion *uint64 `json:"previous_dek_version"` // null: it is no rotation
	NewDEKVersion      *uint64 `json:"new_dek_version"`
	Actor              string  `json:"actor"`
	Reason             string  `json:"reason"`
	StartedAt          *string `json:"started_at"`
	UpdatedAt          *string `json:"updated_at"`
	CompletedAt        *string `json:"completed_at"`
	Audited            *bool   `json:"audited,omitempty"` // see tookEffect

	Unreadable []byok.DataKeyID `json:"unreadable_data_keys,omitempty"` // which keep a move from switching

	// Of a re-sealing, whose done, failed and left are records.
	Source     string               `json:"source,omitempty"`
	Generation uint64               `json:"oldest_dek_version,omitempty"` // that is to be left
	Total      int64                `json:"total,omitempty"`
	Verified   int64                `json:"verified,omitempty"`
	Pass       int                  `json:"pass,omitempty"`
	Again      int64                `json:"due_again,omitempty"`
	Rate       float64              `json:"records_per_second,omitempty"`
	ETA        int64                `json:"seconds_left,omitempty"`
	Failures   []byok.RecordFailure `json:"failures,omitempty"`
}

func newJob(tenant string, j byok.Job) job {
	out := job{
		ID:             j.ID,
		OrganizationID: tenant,
		Type:           j.Type,
		State:          string(j.State),
		PausedBy:       orNull(j.Why),
		Method:         orNull(j.Method),
		FromCMKARN:     j.From.ID,
		ToCMKARN:       j.To.ID,
		FromOthers:     arns(j.FromOthers),
		FromPolicy:     j.FromPolicy,
		ToOthers:       arns(j.ToOthers),
		ToPolicy:       j.ToPolicy,
		Done:           j.Done,
		Failed:         j.Failed,
		Left:           j.Left,
		Unreadable:     j.Unreadable,
		Source:         j.Source,
		Generation:     j.Generation,
		Total:          j.Total,
		Verified:       j.Verified,
		Pass:           j.Pass,
		Again:          j.Again,
		Rate:           math.Round(j.Rate*10) / 10,
		ETA:            int64(j.ETA.Seconds()),
		Failures:       j.Failures,
		Actor:          j.Actor,
		Reason:         j.Reason,
		StartedAt:      stamp(j.StartedAt),
		UpdatedAt:      stamp(j.UpdatedAt),
		CompletedAt:    stamp(j.EndedAt),
	}
	if j.NewVersion != 0 {
		out.PreviousDEKVersion, out.NewDEKVersion = &j.PreviousVersion, &j.NewVersion
	}
	return out
}

func arns(keys []byok.KeyID) (out []string) {
	for _, k := range keys {
		out = append(out, k.ID)
	}
	return out
}

// moveKey begins a move. It is 202, since nothing has moved yet: a process that Runs does the work. It does not end the say of a CMK
// (byok.Move.FewerConsents): a token is not enough for that.
func (h *handler) moveKey(c *call) (int, any, error) {
	o, err := readObject(c.Request, "cmk_arn", "other_cmk_arns[]", "policy", "reason")
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
	others, err := o.texts("other_cmk_arns", maxARN)
	if err != nil {
		return 0, nil, err
	}
	policy, err := o.text("policy", 8)
	if err != nil {
		return 0, nil, err
	}
	reason, err := o.text("reason", 1024)
	if err != nil {
		return 0, nil, err
	}
	if err := h.count(c); err != nil {
		return 0, nil, err
	}
	m := byok.Move{Key: byok.KeyID{Provider: h.provider, ID: arn}, Policy: byok.Policy(policy), Reason: reason}
	for _, other := range others {
		m.Others = append(m.Others, byok.KeyID{Provider: h.provider, ID: other})
	}
	j, err := c.tenant.MoveTo(c.Context(), m)
	return h.answerJob(c, http.StatusAccepted, j, err)
}

func (h *handler) getJob(c *call) (int, any, error) {
	j, err := c.tenant.Job(c.Context(), c.param)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, newJob(c.id.Tenant, j), nil
}

func (h *handler) cancelJob(c *call) (int, any, error) {
	j, err := c.tenant.CancelJob(c.Context(), c.param, "cancelled through the API")
	return h.answerJob(c, http.StatusOK, j, err)
}

func (h *handler) answerJob(c *call, status int, j byok.Job, err error) (int, any, error) {
	audited, err := tookEffect(err)
	if err != nil {
		return 0, nil, err
	}
	body := newJob(c.id.Tenant, j)
	body.Audited = audited
	return status, body, nil
}
