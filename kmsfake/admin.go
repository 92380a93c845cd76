package kmsfake

import (
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const day = 24 * time.Hour

// aboutKey is the common start of the operations whose only subject is one key.
func (r *request) aboutKey(id *string, more ...func(*checks)) (*keyState, error) {
	return r.aboutKeyWith(id, nil, more...)
}

// aboutKeyWith is aboutKey for a call that carries condition keys, in lower case.
func (r *request) aboutKeyWith(id *string, extra map[string][]string, more ...func(*checks)) (*keyState, error) {
	var c checks
	c.key("keyId", id)
	for _, check := range more {
		check(&c)
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	if r.op != "DescribeKey" && r.op != "GetPublicKey" {
		if err := noAlias(*id); err != nil {
			return nil, err
		}
	}
	k, err := r.authorized(aim{action: "kms:" + r.op, id: *id, extra: extra})
	if err != nil {
		return nil, err
	}
	// An operation that no state of this kind of key allows says so first.
	return k, firstOf(r.suits(k), r.usable(k))
}

func (r *request) describeKey(in *kms.DescribeKeyInput) (*kms.DescribeKeyOutput, error) {
	k, err := r.aboutKey(in.KeyId, func(c *checks) { c.tokens(in.GrantTokens) })
	if err != nil {
		return nil, err
	}
	return &kms.DescribeKeyOutput{KeyMetadata: r.metadata(k)}, nil
}

func (r *request) enableKey(in *kms.EnableKeyInput) (*kms.EnableKeyOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	k.switchTo(types.KeyStateEnabled)
	r.f.dirty = true
	return &kms.EnableKeyOutput{}, nil
}

func (r *request) disableKey(in *kms.DisableKeyInput) (*kms.DisableKeyOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	k.switchTo(types.KeyStateDisabled)
	r.f.dirty = true
	return &kms.DisableKeyOutput{}, nil
}

// switchTo is what EnableKey and DisableKey do. An unavailable key stays so.
func (k *keyState) switchTo(s types.KeyState) {
	if k.State != types.KeyStateUnavailable {
		k.State = s
	}
}

func (r *request) updateKeyDescription(in *kms.UpdateKeyDescriptionInput) (*kms.UpdateKeyDescriptionOutput, error) {
	k, err := r.aboutKey(in.KeyId, func(c *checks) { c.need("description", in.Description, 0, 8192) })
	if err != nil {
		return nil, err
	}
	k.Description, r.f.dirty = *in.Description, true
	return &kms.UpdateKeyDescriptionOutput{}, nil
}

func (r *request) scheduleKeyDeletion(in *kms.ScheduleKeyDeletionInput) (*kms.ScheduleKeyDeletionOutput, error) {
	var extra map[string][]string
	if in.PendingWindowInDays != nil {
		extra = map[string][]string{"kms:schedulekeydeletionpendingwindowindays": {strconv.Itoa(int(*in.PendingWindowInDays))}}
	}
	k, err := r.aboutKeyWith(in.KeyId, extra, func(c *checks) { c.num("pendingWindowInDays", in.PendingWindowInDays, 7, 30) })
	if err != nil {
		return nil, err
	}
	days := int32(30)
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	r.st.schedule(k, days, r.now)
	r.f.dirty = true
	out := &kms.ScheduleKeyDeletionOutput{
		KeyId:               aws.String(k.ARN()),
		KeyState:            k.State,
		PendingWindowInDays: aws.Int32(days),
	}
	if k.State == types.KeyStatePendingDeletion {
		out.DeletionDate = aws.Time(k.DeletionDate)
	}
	return out, nil
}

// schedule begins the waiting period; that of a primary with replicas begins
// when the last of those is gone.
func (st *state) schedule(k *keyState, days int32, now time.Time) {
	k.become(types.KeyStatePendingDeletion)
	k.Window, k.DeletionDate = days, now.Add(time.Duration(days)*day)
	if k.isPrimary() && len(k.Regions) > 1 {
		k.State, k.DeletionDate = types.KeyStatePendingReplicaDeletion, time.Time{}
	}
}

// cancelKeyDeletion leaves the key disabled: whoever wants it back enables it.
func (r *request) cancelKeyDeletion(in *kms.CancelKeyDeletionInput) (*kms.CancelKeyDeletionOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	k.State, k.Window, k.DeletionDate = k.wholeState(types.KeyStateDisabled), 0, time.Time{}
	r.f.dirty = true
	return &kms.CancelKeyDeletionOutput{KeyId: aws.String(k.ARN())}, nil
}
