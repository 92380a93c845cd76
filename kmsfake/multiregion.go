package kmsfake

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func (k *keyState) isPrimary() bool { return k.Primary != "" && k.Primary == k.Region }
func (k *keyState) isReplica() bool { return k.Primary != "" && k.Primary != k.Region }

// newKeyID is a random key id; those of multi-Region keys can be told by their prefix.
func newKeyID(multiRegion bool) string {
	if !multiRegion {
		return newUUID()
	}
	return "mrk-" + strings.ReplaceAll(newUUID(), "-", "")
}

// rawKeyID is a key id as its 16 bytes.
func rawKeyID(id string) []byte {
	raw, _ := hex.DecodeString(strings.ReplaceAll(strings.TrimPrefix(id, "mrk-"), "-", ""))
	return raw
}

// related are all members of a multi-Region key, k among them; of a single-Region
// key it is k alone.
func (st *state) related(k *keyState) []*keyState {
	if k.Primary == "" {
		return []*keyState{k}
	}
	out := make([]*keyState, 0, len(k.Regions))
	for _, region := range k.Regions {
		if o := st.Keys[keyARN(region, k.Account, k.ID)]; o != nil {
			out = append(out, o)
		}
	}
	return out
}

// share gives the replicas what members of a multi-Region key have in common:
// the schedule of rotation and, if KMS made it, the key material. Imported
// material has to be imported into each of them; they only learn which.
func (st *state) share(primary *keyState) {
	for _, k := range st.related(primary) {
		if k == primary {
			continue
		}
		k.Rotation, k.OnDemand = primary.Rotation, primary.OnDemand
		for _, m := range primary.Materials {
			own := k.material(m.ID)
			switch {
			case own != nil:
				own.Pending, own.Created, own.Rotated = m.Pending, m.Created, m.Rotated
			case k.imported():
				m.Key, m.private, m.Expires, m.Description = nil, nil, time.Time{}, ""
				k.Materials = append(k.Materials, m)
			default:
				m.Key, m.private = bytes.Clone(m.Key), nil
				k.Materials = append(k.Materials, m)
			}
		}
		k.Materials = slices.DeleteFunc(k.Materials, func(m material) bool { return primary.material(m.ID) == nil })
	}
}

// leave takes a deleted key out of its multi-Region key. With the last replica
// the waiting period of a primary that is to be deleted begins.
func (st *state) leave(gone *keyState, at time.Time) {
	for _, k := range st.related(gone) {
		k.Regions = slices.DeleteFunc(slices.Clone(k.Regions), func(r string) bool { return r == gone.Region })
		if k.State == types.KeyStatePendingReplicaDeletion && len(k.Regions) == 1 {
			k.State, k.DeletionDate = types.KeyStatePendingDeletion, at.Add(time.Duration(k.Window)*day)
			k.seen.state = k.State
		}
	}
}

func (st *state) multiRegionConfiguration(k *keyState) *types.MultiRegionConfiguration {
	if k.Primary == "" {
		return nil
	}
	member := func(region string) types.MultiRegionKey {
		return types.MultiRegionKey{Arn: aws.String(keyARN(region, k.Account, k.ID)), Region: aws.String(region)}
	}
	primary := member(k.Primary)
	out := &types.MultiRegionConfiguration{
		MultiRegionKeyType: types.MultiRegionKeyTypeReplica, PrimaryKey: &primary, ReplicaKeys: []types.MultiRegionKey{},
	}
	if k.isPrimary() {
		out.MultiRegionKeyType = types.MultiRegionKeyTypePrimary
	}
	for _, region := range k.Regions {
		if region != k.Primary {
			out.ReplicaKeys = append(out.ReplicaKeys, member(region))
		}
	}
	return out
}
