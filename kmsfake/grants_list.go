package kmsfake

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// KMS's model allows a Limit of 1000 in the lists of grants, and answers 100.
const (
	grantPage    = 50
	maxGrantPage = 100
)

func grantLimit(limit *int32) *int32 {
	if limit != nil && *limit > maxGrantPage {
		return aws.Int32(maxGrantPage)
	}
	return limit
}

func (r *request) listGrants(in *kms.ListGrantsInput) (*kms.ListGrantsOutput, error) {
	var c checks
	c.key("keyId", in.KeyId)
	c.page(in.Limit, in.Marker)
	c.str("grantId", in.GrantId, 1, 128)
	principalErr := c.oneOf("granteePrincipal", in.GranteePrincipal, in.GranteeServicePrincipal, false)
	if err := firstOf(c.err(), principalErr, servicesOnly("granteeServicePrincipal", in.GranteeServicePrincipal)); err != nil {
		return nil, err
	}
	if _, err := grantPrincipal(aws.ToString(in.GranteePrincipal)); err != nil {
		return nil, err
	}
	if err := noAlias(*in.KeyId); err != nil {
		return nil, err
	}
	k, err := r.authorized(aim{action: "kms:ListGrants", id: *in.KeyId})
	if err != nil {
		return nil, err
	}
	if err := r.usable(k); err != nil {
		return nil, err
	}
	if in.GrantId != nil && !isGrantID(*in.GrantId) {
		return nil, fail("InvalidGrantIdException", "Grant ID %s is invalid.", *in.GrantId)
	}
	byID := make(map[string]types.GrantListEntry)
	for _, g := range k.Grants {
		if g.exists() && (in.GrantId == nil || g.ID == *in.GrantId) &&
			(in.GranteePrincipal == nil || g.Grantee == *in.GranteePrincipal) {
			byID[g.ID] = g.entry(k)
		}
	}
	entries, next, err := grantEntries(byID, in.Limit, in.Marker)
	if err != nil {
		return nil, err
	}
	return &kms.ListGrantsOutput{Grants: entries, NextMarker: next, Truncated: next != nil}, nil
}

// listRetirableGrants asks only the caller's own account, about the retiring
// principal as a resource: it may list grants on keys that the caller may not see.
func (r *request) listRetirableGrants(in *kms.ListRetirableGrantsInput) (*kms.ListRetirableGrantsOutput, error) {
	var c checks
	c.page(in.Limit, in.Marker)
	principalErr := c.oneOf("retiringPrincipal", in.RetiringPrincipal, in.RetiringServicePrincipal, true)
	if err := firstOf(c.err(), principalErr, servicesOnly("retiringServicePrincipal", in.RetiringServicePrincipal)); err != nil {
		return nil, err
	}
	retiring, err := grantPrincipal(*in.RetiringPrincipal)
	if err != nil {
		return nil, err
	}
	if retiring.account != r.who.account {
		return nil, r.denied("kms:ListRetirableGrants", "on resource: "+*in.RetiringPrincipal, noKeyPolicyAllows)
	}
	if err := r.own("kms:ListRetirableGrants", *in.RetiringPrincipal); err != nil {
		return nil, err
	}
	byID := make(map[string]types.GrantListEntry)
	for arn, k := range r.st.Keys {
		if k.Region != r.region || len(k.Grants) == 0 || r.live(arn) == nil {
			continue
		}
		for _, g := range k.Grants {
			if g.Retiring == *in.RetiringPrincipal && g.exists() {
				byID[k.ID+" "+g.ID] = g.entry(k)
			}
		}
	}
	entries, next, err := grantEntries(byID, in.Limit, in.Marker)
	if err != nil {
		return nil, err
	}
	return &kms.ListRetirableGrantsOutput{Grants: entries, NextMarker: next, Truncated: next != nil}, nil
}

// servicesOnly refuses the filters that only a service may use: none calls the fake.
func servicesOnly(at string, service *string) error {
	if service == nil {
		return nil
	}
	return validation("%s can be used by service principals only.", at)
}

func grantEntries(byID map[string]types.GrantListEntry, limit *int32, marker *string) ([]types.GrantListEntry, *string, error) {
	ids := make([]string, 0, len(byID))
	for id := range byID {
		ids = append(ids, id)
	}
	ids, next, err := page(ids, grantLimit(limit), marker, grantPage)
	if err != nil {
		return nil, nil, err
	}
	entries := make([]types.GrantListEntry, 0, len(ids))
	for _, id := range ids {
		entries = append(entries, byID[id])
	}
	return entries, next, nil
}

func (g *grantState) entry(k *keyState) types.GrantListEntry {
	e := types.GrantListEntry{
		CreationDate: aws.Time(g.Created), GrantId: aws.String(g.ID), KeyId: aws.String(k.ARN()), Name: some(g.Name),
		GranteePrincipal: some(g.Grantee), GranteeServicePrincipal: some(g.GranteeService),
		RetiringPrincipal: some(g.Retiring), RetiringServicePrincipal: some(g.RetiringService),
		IssuingAccount: aws.String("arn:" + partitionOf(k.Region) + ":iam::" + g.Issuer + ":root"),
		Operations:     slices.Clone(g.Operations),
	}
	if c := &g.Constraints; c.Equals != nil || c.Subset != nil || c.SourceARN != "" {
		e.Constraints = &types.GrantConstraints{
			EncryptionContextEquals: cloneContext(c.Equals), EncryptionContextSubset: cloneContext(c.Subset), SourceArn: some(c.SourceARN),
		}
	}
	return e
}

// some is nil for an empty string, which KMS leaves out.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
