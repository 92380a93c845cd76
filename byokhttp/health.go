package byokhttp

import (
	"net/http"
	"time"

	"github.com/byok-go/byok"
)

// health is the health of the contract. It is answered with 200 whatever it
// says: the question was answered. Load balancers must not ask it.
type health struct {
	OrganizationID  string            `json:"organization_id"`
	Status          byok.HealthStatus `json:"status"`
	KeyStatus       byok.Status       `json:"key_status"`
	StatusReason    *string           `json:"status_reason"`
	LastEncryption  *string           `json:"last_encryption"`
	LastDecryption  *string           `json:"last_decryption"`
	CMKAccessible   bool              `json:"cmk_accessible"`
	LatencyMS       float64           `json:"latency_ms"`
	Checks          []check           `json:"checks"`
	DEKVersion      uint64            `json:"dek_version"`
	RevocationBound float64           `json:"revocation_bound_seconds"`
	CMKDeletionAt   *string           `json:"cmk_deletion_at"`
	Warnings        []string          `json:"warnings"`

	// Beyond the contract: what this process knows of its access.
	Access           byok.Access `json:"access"`
	AccessClass      *string     `json:"access_class"`
	AccessSince      *string     `json:"access_since"`
	LastProofAt      *string     `json:"last_proof_at"`
	LastProofRequest *string     `json:"last_proof_request_id"`
	CMKMaterialID    *string     `json:"cmk_material_id"`
	CMKMaterialSince *string     `json:"cmk_material_since"`
	BudgetUsed       float64     `json:"kms_budget_used"`
}

type check struct {
	Name      string  `json:"name"`
	Status    string  `json:"status"`
	Code      string  `json:"code,omitempty"`
	RequestID string  `json:"request_id,omitempty"`
	LatencyMS float64 `json:"latency_ms"`
	CMKARN    string  `json:"cmk_arn,omitempty"` // of an organization with several CMKs
}

func (h *handler) health(c *call) (int, any, error) {
	s, err := c.tenant.Health(c.Context())
	if err != nil {
		return 0, nil, err
	}
	out := health{
		OrganizationID:  c.id.Tenant,
		Status:          s.Status,
		KeyStatus:       s.KeyStatus.Status,
		StatusReason:    orNull(s.KeyStatus.Reason),
		LastEncryption:  stamp(s.LastEncryption),
		LastDecryption:  stamp(s.LastDecryption),
		CMKAccessible:   s.CMKAccessible,
		LatencyMS:       millis(s.Latency),
		Checks:          make([]check, 0, len(s.Checks)),
		DEKVersion:      s.KeyStatus.DEKVersion,
		RevocationBound: s.RevocationBound.Seconds(),
		CMKDeletionAt:   stamp(s.DeletionAt),
		Warnings:        notNull(s.Warnings),

		Access:           s.KeyStatus.Access,
		AccessClass:      orNull(s.KeyStatus.AccessClass.String()),
		AccessSince:      stamp(s.KeyStatus.AccessSince),
		LastProofAt:      stamp(s.KeyStatus.LastProof),
		LastProofRequest: orNull(s.KeyStatus.LastProofRequestID),
		CMKMaterialID:    orNull(s.KeyStatus.KeyMaterialID),
		CMKMaterialSince: stamp(s.KeyStatus.KeyMaterialSince),
		BudgetUsed:       s.BudgetUsed,
	}
	for _, k := range s.Checks {
		out.Checks = append(out.Checks, check{k.Name, k.Status, k.Code, k.RequestID, millis(k.Took), k.Key.ID})
	}
	return http.StatusOK, out, nil
}

// millis keeps three decimals: an in-memory KMS answers in microseconds.
func millis(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
