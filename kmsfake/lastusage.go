package kmsfake

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// lastUse is the last successful cryptographic operation of a key. It reaches
// Options.File with the next change of anything else: a save for each data key
// would make the fake as slow as the disk.
type lastUse struct {
	Operation string
	Time      time.Time
	RequestID string
}

// used notes a cryptographic operation that is about to succeed.
func (r *request) used(k *keyState) {
	k.LastUse = lastUse{Operation: r.op, Time: r.now, RequestID: r.call.RequestID}
}

// getKeyLastUsage tells when a key last worked. Usage is tracked from the key's
// creation on, separately for each member of a multi-Region key.
func (r *request) getKeyLastUsage(in *kms.GetKeyLastUsageInput) (*kms.GetKeyLastUsageOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	out := &kms.GetKeyLastUsageOutput{
		KeyId: aws.String(k.ID), KeyCreationDate: aws.Time(k.Created), TrackingStartDate: aws.Time(k.Created),
		KeyLastUsage: &types.KeyLastUsageData{}, // empty, but there, for a key that was never used
	}
	if u := k.LastUse; u.Operation != "" {
		out.KeyLastUsage = &types.KeyLastUsageData{
			Operation: types.KeyLastUsageTrackingOperation(u.Operation), Timestamp: aws.Time(u.Time),
			KmsRequestId: aws.String(u.RequestID), CloudTrailEventId: aws.String(uuidOf(u.RequestID, "event", k.Account)),
		}
	}
	return out, nil
}
