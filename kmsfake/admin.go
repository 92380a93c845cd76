package kmsfake

import (
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

//lint:file-ignore SA1019 CustomerMasterKeySpec is deprecated, but still on the wire.

const day = 24 * time.Hour

func (r *request) createKey(in *kms.CreateKeyInput) (*kms.CreateKeyOutput, error) {
	var c checks
	c.str("policy", in.Policy, 1, 131072)
	c.str("description", in.Description, 0, 8192)
	enum(&c, "keyUsage", in.KeyUsage, in.KeyUsage.Values())
	enum(&c, "customerMasterKeySpec", in.CustomerMasterKeySpec, in.CustomerMasterKeySpec.Values())
	enum(&c, "keySpec", in.KeySpec, in.KeySpec.Values())
	enum(&c, "origin", in.Origin, in.Origin.Values())
	tags, tagErr := checkTags(&c, in.Tags)
	if err := firstOf(c.err(), supportedKey(in), tagErr, r.own("kms:CreateKey", "*")); err != nil {
		return nil, err
	}
	document := aws.ToString(in.Policy)
	if document == "" {
		document = defaultPolicy(r.region, r.who.account)
	}
	p, err := parsePolicy(document, true)
	if err != nil {
		return nil, malformed(err)
	}
	if !in.BypassPolicyLockoutSafetyCheck && !r.keepsControl(p, &keyState{Account: r.who.account, Region: r.region}) {
		return nil, errLockout
	}
	k := r.st.newKey(r.who.account, r.region, document, p, r.now)
	k.Description, k.Tags = aws.ToString(in.Description), tags
	r.f.dirty = true
	r.about(k)
	return &kms.CreateKeyOutput{KeyMetadata: k.metadata()}, nil
}

// supportedKey refuses the kinds of key that are not built yet, as an operation
// that KMS does not support there, never by silently making another kind.
func supportedKey(in *kms.CreateKeyInput) error {
	unsupported := func(what string) error {
		return fail("UnsupportedOperationException", "kmsfake does not support %s.", what)
	}
	if in.KeySpec != "" && in.CustomerMasterKeySpec != "" {
		return validation("You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	}
	spec := in.KeySpec
	if spec == "" {
		spec = types.KeySpec(in.CustomerMasterKeySpec)
	}
	switch {
	case spec != "" && spec != types.KeySpecSymmetricDefault && in.KeyUsage == "":
		return validation("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	case spec != "" && spec != types.KeySpecSymmetricDefault:
		return unsupported("KeySpec " + string(spec))
	case in.KeyUsage != "" && in.KeyUsage != types.KeyUsageTypeEncryptDecrypt:
		return validation("KeyUsage %s is not compatible with KeySpec SYMMETRIC_DEFAULT", in.KeyUsage)
	case in.Origin != "" && in.Origin != types.OriginTypeAwsKms:
		return unsupported("Origin " + string(in.Origin))
	case in.CustomKeyStoreId != nil, in.XksKeyId != nil:
		return unsupported("custom key stores")
	case aws.ToBool(in.MultiRegion):
		return unsupported("multi-Region keys")
	}
	return nil
}

func checkTags(c *checks, in []types.Tag) (out []tag, err error) {
	seen := make(map[string]bool)
	for _, t := range in {
		k, v := aws.ToString(t.TagKey), aws.ToString(t.TagValue)
		switch {
		case len(k) == 0 || len(k) > 128:
			c.length(quoted(k), "tags.member.tagKey", len(k), 1, 128)
		case len(v) > 256:
			c.length(quoted(v), "tags.member.tagValue", len(v), 0, 256)
		case strings.HasPrefix(strings.ToLower(k), "aws:"):
			err = fail("TagException", "Tags beginning with aws: are reserved")
		case seen[k]:
			err = fail("TagException", "Duplicate tag keys")
		}
		seen[k] = true
		out = append(out, tag{k, v})
	}
	if len(in) > 50 {
		err = fail("TagException", "Too many tags")
	}
	return out, err
}

func (k *keyState) metadata() *types.KeyMetadata {
	m := &types.KeyMetadata{
		AWSAccountId:          aws.String(k.Account),
		Arn:                   aws.String(k.ARN()),
		CreationDate:          aws.Time(k.Created),
		CurrentKeyMaterialId:  aws.String(k.current().ID),
		CustomerMasterKeySpec: types.CustomerMasterKeySpecSymmetricDefault,
		Description:           aws.String(k.Description),
		Enabled:               k.State == types.KeyStateEnabled,
		EncryptionAlgorithms:  []types.EncryptionAlgorithmSpec{symmetric},
		KeyId:                 aws.String(k.ID),
		KeyManager:            types.KeyManagerTypeCustomer,
		KeySpec:               types.KeySpecSymmetricDefault,
		KeyState:              k.State,
		KeyUsage:              types.KeyUsageTypeEncryptDecrypt,
		MultiRegion:           aws.Bool(false),
		Origin:                types.OriginTypeAwsKms,
	}
	if k.State == types.KeyStatePendingDeletion {
		m.DeletionDate = aws.Time(k.DeletionDate)
	}
	return m
}

// aboutKey is the common start of the operations whose only subject is one key.
func (r *request) aboutKey(id *string, more ...func(*checks)) (*keyState, error) {
	var c checks
	c.key("keyId", id)
	for _, check := range more {
		check(&c)
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	k, err := r.authorized(aim{action: "kms:" + r.op, id: *id})
	if err != nil {
		return nil, err
	}
	return k, r.usable(k)
}

func (r *request) describeKey(in *kms.DescribeKeyInput) (*kms.DescribeKeyOutput, error) {
	k, err := r.aboutKey(in.KeyId, func(c *checks) { c.tokens(in.GrantTokens) })
	if err := firstOf(err, grantTokens(in.GrantTokens)); err != nil {
		return nil, err
	}
	return &kms.DescribeKeyOutput{KeyMetadata: k.metadata()}, nil
}

func (r *request) enableKey(in *kms.EnableKeyInput) (*kms.EnableKeyOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	k.State, r.f.dirty = types.KeyStateEnabled, true
	return &kms.EnableKeyOutput{}, nil
}

func (r *request) disableKey(in *kms.DisableKeyInput) (*kms.DisableKeyOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	k.State, r.f.dirty = types.KeyStateDisabled, true
	return &kms.DisableKeyOutput{}, nil
}

func (r *request) scheduleKeyDeletion(in *kms.ScheduleKeyDeletionInput) (*kms.ScheduleKeyDeletionOutput, error) {
	k, err := r.aboutKey(in.KeyId, func(c *checks) { c.num("pendingWindowInDays", in.PendingWindowInDays, 7, 30) })
	if err != nil {
		return nil, err
	}
	days := int32(30)
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	k.State, k.Window, k.DeletionDate = types.KeyStatePendingDeletion, days, r.now.Add(time.Duration(days)*day)
	r.f.dirty = true
	return &kms.ScheduleKeyDeletionOutput{
		DeletionDate:        aws.Time(k.DeletionDate),
		KeyId:               aws.String(k.ARN()),
		KeyState:            k.State,
		PendingWindowInDays: aws.Int32(days),
	}, nil
}

// cancelKeyDeletion leaves the key disabled: whoever wants it back enables it.
func (r *request) cancelKeyDeletion(in *kms.CancelKeyDeletionInput) (*kms.CancelKeyDeletionOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	k.State, k.Window, k.DeletionDate = types.KeyStateDisabled, 0, time.Time{}
	r.f.dirty = true
	return &kms.CancelKeyDeletionOutput{KeyId: aws.String(k.ARN())}, nil
}

func (r *request) enableKeyRotation(in *kms.EnableKeyRotationInput) (*kms.EnableKeyRotationOutput, error) {
	k, err := r.aboutKey(in.KeyId, func(c *checks) { c.num("rotationPeriodInDays", in.RotationPeriodInDays, 90, 2560) })
	if err != nil {
		return nil, err
	}
	days := int32(365)
	switch {
	case in.RotationPeriodInDays != nil:
		days = *in.RotationPeriodInDays
	case k.Rotation.Enabled:
		days = k.Rotation.Days
	}
	k.Rotation = rotation{Enabled: true, Days: days, Next: r.now.Add(time.Duration(days) * day)}
	r.f.dirty = true
	return &kms.EnableKeyRotationOutput{}, nil
}

func (r *request) disableKeyRotation(in *kms.DisableKeyRotationInput) (*kms.DisableKeyRotationOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	k.Rotation, r.f.dirty = rotation{}, true
	return &kms.DisableKeyRotationOutput{}, nil
}

func (r *request) getKeyRotationStatus(in *kms.GetKeyRotationStatusInput) (*kms.GetKeyRotationStatusOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	out := &kms.GetKeyRotationStatusOutput{KeyId: aws.String(k.ID), KeyRotationEnabled: k.Rotation.Enabled}
	if k.Rotation.Enabled {
		out.RotationPeriodInDays = aws.Int32(k.Rotation.Days)
		out.NextRotationDate = aws.Time(k.Rotation.Next)
	}
	return out, nil
}
