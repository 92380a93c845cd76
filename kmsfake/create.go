package kmsfake

//lint:file-ignore SA1019 CustomerMasterKeySpec is deprecated, but still on the wire.

import (
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

//lint:file-ignore SA1019 CustomerMasterKeySpec is deprecated, but still on the wire.

// maxKeys is AWS's default quota of KMS keys in one account and Region.
const maxKeys = 100_000

func (r *request) createKey(in *kms.CreateKeyInput) (*kms.CreateKeyOutput, error) {
	var c checks
	c.str("policy", in.Policy, 1, 131072)
	c.policy(in.Policy)
	c.str("description", in.Description, 0, 8192)
	enum(&c, "keyUsage", in.KeyUsage, in.KeyUsage.Values())
	enum(&c, "customerMasterKeySpec", in.CustomerMasterKeySpec, in.CustomerMasterKeySpec.Values())
	enum(&c, "keySpec", in.KeySpec, in.KeySpec.Values())
	enum(&c, "origin", in.Origin, in.Origin.Values())
	c.tags(in.Tags)
	if err := c.err(); err != nil {
		return nil, err
	}
	k, err := kindOfKey(in)
	if err != nil {
		return nil, err
	}
	k.Account, k.Region, k.Created, k.ID = r.who.account, r.region, r.now, newKeyID(k.Primary != "")
	if k.Primary != "" {
		k.Primary, k.Regions = r.region, []string{r.region}
	}
	k.Description = aws.ToString(in.Description)
	extra := k.attributes()
	extra["kms:bypasspolicylockoutsafetycheck"] = []string{strconv.FormatBool(in.BypassPolicyLockoutSafetyCheck)}
	tags, tagErr := newTags(nil, in.Tags)
	k.Tags = tags
	err = firstOf(tagErr, r.mayCreate(in.Tags, extra), r.givePolicy(k, in.Policy, in.BypassPolicyLockoutSafetyCheck), r.roomForKey())
	if err != nil {
		return nil, err
	}
	if !k.imported() {
		raw, err := r.newMaterial(k)
		if err != nil {
			return nil, err
		}
		k.add(raw, r.now, "")
	}
	r.st.put(k)
	r.f.dirty = true
	r.about(k)
	return &kms.CreateKeyOutput{KeyMetadata: r.metadata(k)}, nil
}

// mayCreate asks for what CreateKey needs, in the Region of the request: tags at
// birth need the permission to tag as well.
func (r *request) mayCreate(tags []types.Tag, extra map[string][]string) error {
	for key, values := range tagConditions(tags) {
		extra[key] = values
	}
	if err := r.ownWith("kms:CreateKey", "*", extra); err != nil || len(tags) == 0 {
		return err
	}
	return r.ownWith("kms:TagResource", "*", extra)
}

// givePolicy gives a new key its policy, the default one without a document.
func (r *request) givePolicy(k *keyState, given *string, bypass bool) error {
	document := aws.ToString(given)
	if document == "" {
		document = defaultPolicy(k.Region, k.Account)
	}
	p, err := parsePolicy(document, true)
	if err != nil {
		return malformed(err)
	}
	if !bypass && !r.keepsControl(p, k) {
		return errLockout
	}
	k.Policy, k.policy = document, p
	return nil
}

// roomForKey is the quota. It counts only when it could have been reached.
func (r *request) roomForKey() error {
	if len(r.st.Keys) < maxKeys {
		return nil
	}
	n := 0
	for _, k := range r.st.Keys {
		if k.Account == r.who.account && k.Region == r.region {
			n++
		}
	}
	if n >= maxKeys {
		return fail("LimitExceededException", "The request was rejected because a quota was exceeded: %d keys in %s.", maxKeys, r.region)
	}
	return nil
}

func (r *request) metadata(k *keyState) *types.KeyMetadata {
	m := &types.KeyMetadata{
		AWSAccountId:             aws.String(k.Account),
		Arn:                      aws.String(k.ARN()),
		CreationDate:             aws.Time(k.Created),
		Description:              aws.String(k.Description),
		Enabled:                  k.State == types.KeyStateEnabled,
		KeyId:                    aws.String(k.ID),
		KeyManager:               types.KeyManagerTypeCustomer,
		KeyState:                 k.State,
		MultiRegion:              aws.Bool(k.Primary != ""),
		MultiRegionConfiguration: r.st.multiRegionConfiguration(k),
		Origin:                   k.Origin,
	}
	k.describeKind(m)
	if m0 := k.current(); m0 != nil && k.symmetric() {
		m.CurrentKeyMaterialId = aws.String(m0.ID)
	}
	switch k.State {
	case types.KeyStatePendingDeletion:
		m.DeletionDate = aws.Time(k.DeletionDate)
	case types.KeyStatePendingReplicaDeletion:
		m.PendingDeletionWindowInDays = aws.Int32(k.Window)
	}
	if k.imported() {
		k.describeExpiry(m)
	}
	return m
}

// describeExpiry tells when a key becomes unusable by itself: with the first of
// its materials that expires. Nothing imported, nothing to tell.
func (k *keyState) describeExpiry(m *types.KeyMetadata) {
	if !k.whole() {
		return
	}
	m.ExpirationModel = types.ExpirationModelTypeKeyMaterialDoesNotExpire
	for i := range k.Materials {
		at := k.Materials[i].Expires
		if k.Materials[i].Pending || at.IsZero() {
			continue
		}
		m.ExpirationModel = types.ExpirationModelTypeKeyMaterialExpires
		if m.ValidTo == nil || at.Before(*m.ValidTo) {
			m.ValidTo = aws.Time(at)
		}
	}
}
