package byokhttp

import (
	"net/http"
	"strings"

	"github.com/byok-go/byok"
)

type waiver struct {
	Version       string       `json:"version"`
	EffectiveDate string       `json:"effective_date"`
	Title         string       `json:"title"`
	Text          string       `json:"text"`
	SHA256        string       `json:"sha256"`
	Flags         []waiverFlag `json:"flags"`
}

type waiverFlag struct {
	Name    string `json:"name"`
	Wording string `json:"wording"`
}

func (h *handler) getWaiver(*call) (int, any, error) {
	w := h.waiver()
	return http.StatusOK, waiver{
		Version:       w.Version,
		EffectiveDate: w.EffectiveDate,
		Title:         w.Title,
		Text:          w.Text,
		SHA256:        w.SHA256(),
		Flags: []waiverFlag{
			{byok.FlagDataLossRisk, w.Flags.DataLossRisk},
			{byok.FlagKeyManagement, w.Flags.KeyManagement},
			{byok.FlagNoLiability, w.Flags.NoLiability},
		},
	}, nil
}

type acknowledgement struct {
	OrganizationID string  `json:"organization_id"`
	Acknowledged   bool    `json:"acknowledged"`
	AcknowledgedAt *string `json:"acknowledged_at"`
	AcknowledgedBy string  `json:"acknowledged_by"`
	WaiverVersion  string  `json:"waiver_version"`
	WaiverSHA256   string  `json:"waiver_sha256"`
	Audited        *bool   `json:"audited,omitempty"` // see tookEffect
}

func (h *handler) acknowledge(c *call) (int, any, error) {
	flags := []string{byok.FlagDataLossRisk, byok.FlagKeyManagement, byok.FlagNoLiability}
	o, err := readObject(c.Request, append(flags, "waiver_version")...)
	if err != nil {
		return 0, nil, err
	}
	version, err := o.text("waiver_version", 64)
	if err != nil {
		return 0, nil, err
	}
	// Literally true, each of them: consent is not inferred from "true", 1 or null.
	var missing []string
	for _, f := range flags {
		if o[f] != true {
			missing = append(missing, f)
		}
	}
	if missing != nil {
		return 0, nil, &Problem{Status: http.StatusBadRequest, Code: "BYOK_004",
			Detail: "These must be given and be literally true: " + strings.Join(missing, ", ") + "."}
	}
	if _, ok := o["waiver_version"]; ok && version != h.waiver().Version {
		return 0, nil, &Problem{Status: http.StatusBadRequest, Code: "BYOK_004",
			Detail: "waiver_version is not the current version: read GET /legal-waiver and acknowledge that."}
	}
	if err := h.count(c); err != nil {
		return 0, nil, err
	}
	s, err := c.tenant.AcknowledgeWaiver(c.Context(), byok.Acknowledgement{
		DataLossRisk: true, KeyManagement: true, NoLiability: true, Version: version,
	})
	audited, err := tookEffect(err)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, acknowledgement{
		OrganizationID: c.id.Tenant,
		Acknowledged:   s.Acknowledged,
		AcknowledgedAt: stamp(s.AcknowledgedAt),
		AcknowledgedBy: s.AcknowledgedBy,
		WaiverVersion:  s.AcknowledgedVersion,
		WaiverSHA256:   s.AcknowledgedSHA256,
		Audited:        audited,
	}, nil
}

type waiverStatus struct {
	OrganizationID       string  `json:"organization_id"`
	Acknowledged         bool    `json:"acknowledged"`
	AcknowledgedAt       *string `json:"acknowledged_at"`
	AcknowledgedBy       *string `json:"acknowledged_by"`
	AcknowledgedVersion  *string `json:"acknowledged_version"`
	AcknowledgedSHA256   *string `json:"acknowledged_sha256"`
	CurrentVersion       string  `json:"current_version"`
	CurrentSHA256        string  `json:"current_sha256"`
	NeedsAcknowledgement bool    `json:"needs_acknowledgement"`
}

func (h *handler) waiverStatus(c *call) (int, any, error) {
	s, err := c.tenant.WaiverStatus(c.Context())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, waiverStatus{
		OrganizationID:       c.id.Tenant,
		Acknowledged:         s.Acknowledged,
		AcknowledgedAt:       stamp(s.AcknowledgedAt),
		AcknowledgedBy:       orNull(s.AcknowledgedBy),
		AcknowledgedVersion:  orNull(s.AcknowledgedVersion),
		AcknowledgedSHA256:   orNull(s.AcknowledgedSHA256),
		CurrentVersion:       s.CurrentVersion,
		CurrentSHA256:        s.CurrentSHA256,
		NeedsAcknowledgement: s.NeedsAcknowledgement,
	}, nil
}
