package byokhttp

import (
	"net/http"

	"github.com/byok-go/byok"
)

// dataKeys is what depends on which CMK. It is beyond the contract, and has a path of its own
// since it reads an item of the Store for each data key, which GET /keys does not.
type dataKeys struct {
	OrganizationID string         `json:"organization_id"`
	DataKeys       uint64         `json:"data_keys"`
	OldestAt       *string        `json:"oldest_at"`
	Damaged        uint64         `json:"damaged"`
	Groups         []dataKeyGroup `json:"groups"` // the newest generation first
}

type dataKeyGroup struct {
	DEKVersion uint64   `json:"dek_version"`
	CMKARNs    []string `json:"cmk_arns"`
	Policy     *string  `json:"policy"` // of several CMKs: "any" or "all"
	DataKeys   uint64   `json:"data_keys"`
	OldestAt   *string  `json:"oldest_at"`
	NewestAt   *string  `json:"newest_at"`
	LastUsedAt *string  `json:"last_used_at"` // to about a minute, and null if not known: no proof of anything
}

func (h *handler) dataKeys(c *call) (int, any, error) {
	k, err := c.tenant.DataKeys(c.Context())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, newDataKeys(c.id.Tenant, k), nil
}

func newDataKeys(tenant string, k byok.DataKeyCounts) dataKeys {
	out := dataKeys{OrganizationID: tenant, DataKeys: k.DataKeys, OldestAt: stamp(k.Oldest), Damaged: k.Damaged, Groups: []dataKeyGroup{}}
	for _, g := range k.Groups {
		line := dataKeyGroup{DEKVersion: g.Generation, CMKARNs: []string{}, Policy: orNull(string(g.Policy)), DataKeys: g.DataKeys,
			OldestAt: stamp(g.Oldest), NewestAt: stamp(g.Newest), LastUsedAt: stamp(g.LastUsed)}
		for _, key := range g.Keys {
			line.CMKARNs = append(line.CMKARNs, key.ID)
		}
		out.Groups = append(out.Groups, line)
	}
	return out
}
