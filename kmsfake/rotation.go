package kmsfake

import (
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const (
	defaultRotationDays  = 365
	maxRotationsOnDemand = 25
)

// suits refuses operations that the kind of key does not have, in any state.
func (r *request) suits(k *keyState) error {
	origin := func() error {
		return fail("UnsupportedOperationException", "%s origin is %s which is not valid for this operation.", k.ARN(), k.Origin)
	}
	switch r.op {
	case "EnableKeyRotation", "DisableKeyRotation", "GetKeyRotationStatus":
		switch {
		case !k.symmetric():
			return errUnsupportedKey
		case k.imported():
			return origin()
		}
	case "RotateKeyOnDemand", "ListKeyRotations":
		if !k.symmetric() {
			return errUnsupportedKey
		}
	case "GetPublicKey":
		if f := k.kind().family; f == familyAES || f == familyHMAC {
			return errUnsupportedKey
		}
	case "GetParametersForImport", "ImportKeyMaterial", "DeleteImportedKeyMaterial":
		if !k.imported() {
			return origin()
		}
	}
	switch r.op {
	case "EnableKeyRotation", "DisableKeyRotation", "RotateKeyOnDemand":
		if k.isReplica() {
			return notPrimary(k)
		}
	case "ReplicateKey", "UpdatePrimaryRegion":
		if !k.isPrimary() {
			return notPrimary(k)
		}
	}
	return nil
}

// errUnsupportedKey has no text at all, as recorded from the service.
var errUnsupportedKey = &apiError{code: "UnsupportedOperationException", silent: true}

func notPrimary(k *keyState) error {
	return fail("UnsupportedOperationException", "%s is not a multi-region primary key.", k.ARN())
}

func (r *request) enableKeyRotation(in *kms.EnableKeyRotationInput) (*kms.EnableKeyRotationOutput, error) {
	var extra map[string][]string
	if in.RotationPeriodInDays != nil {
		extra = map[string][]string{"kms:rotationperiodindays": {strconv.Itoa(int(*in.RotationPeriodInDays))}}
	}
	k, err := r.aboutKeyWith(in.KeyId, extra, func(c *checks) { c.num("rotationPeriodInDays", in.RotationPeriodInDays, 90, 2560) })
	if err != nil {
		return nil, err
	}
	days := int32(defaultRotationDays)
	switch {
	case in.RotationPeriodInDays != nil:
		days = *in.RotationPeriodInDays
	case k.Rotation.Enabled:
		days = k.Rotation.Days
	}
	k.Rotation = rotation{Enabled: true, Days: days, Next: r.now.Add(time.Duration(days) * day)}
	r.st.share(k)
	r.f.dirty = true
	return &kms.EnableKeyRotationOutput{}, nil
}

func (r *request) disableKeyRotation(in *kms.DisableKeyRotationInput) (*kms.DisableKeyRotationOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	k.Rotation = rotation{}
	r.st.share(k)
	r.f.dirty = true
	return &kms.DisableKeyRotationOutput{}, nil
}

// getKeyRotationStatus shows no rotation of a key that waits for its deletion,
// though a cancellation brings the schedule back. Rotations on demand are done
// at once, so that none is ever in progress.
func (r *request) getKeyRotationStatus(in *kms.GetKeyRotationStatusInput) (*kms.GetKeyRotationStatusOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	deleted := k.State == types.KeyStatePendingDeletion || k.State == types.KeyStatePendingReplicaDeletion
	out := &kms.GetKeyRotationStatusOutput{KeyId: aws.String(k.ID), KeyRotationEnabled: k.Rotation.Enabled && !deleted}
	if out.KeyRotationEnabled {
		out.RotationPeriodInDays = aws.Int32(k.Rotation.Days)
		out.NextRotationDate = aws.Time(k.Rotation.Next)
	}
	return out, nil
}

// rotateKeyOnDemand makes new material, or takes the imported one that waits for
// it. It leaves the schedule of automatic rotation as it is.
func (r *request) rotateKeyOnDemand(in *kms.RotateKeyOnDemandInput) (*kms.RotateKeyOnDemandOutput, error) {
	k, err := r.aboutKey(in.KeyId)
	if err != nil {
		return nil, err
	}
	if k.OnDemand >= maxRotationsOnDemand {
		return nil, fail("LimitExceededException", "The on-demand rotations limit has been reached for the given keyId. "+
			"No more on-demand rotations can be performed for this key: %s", k.ARN())
	}
	if k.imported() {
		next := k.pendingMaterial()
		if next == nil || !r.st.everywhere(k, next.ID) {
			return nil, fail(invalidState, "No available key material pending rotation for the key: %s.", k.ARN())
		}
		next.Pending, next.Created, next.Rotated = false, r.now, types.RotationTypeOnDemand
	} else {
		k.rotate(r.now, types.RotationTypeOnDemand)
	}
	k.OnDemand++
	r.st.share(k)
	r.f.dirty = true
	return &kms.RotateKeyOnDemandOutput{KeyId: aws.String(k.ID)}, nil
}

// pendingMaterial is imported material that waits for a rotation, or nil. There
// is at most one, and it is the last.
func (k *keyState) pendingMaterial() *material {
	if n := len(k.Materials); n > 0 && k.Materials[n-1].Pending {
		return &k.Materials[n-1]
	}
	return nil
}

// everywhere reports whether all members of a multi-Region key have a material.
func (st *state) everywhere(k *keyState, id string) bool {
	for _, o := range st.related(k) {
		if m := o.material(id); m == nil || m.Key == nil {
			return false
		}
	}
	return true
}

func (r *request) listKeyRotations(in *kms.ListKeyRotationsInput) (*kms.ListKeyRotationsOutput, error) {
	k, err := r.aboutKey(in.KeyId, func(c *checks) {
		c.page(in.Limit, in.Marker)
		enum(c, "includeKeyMaterial", in.IncludeKeyMaterial, in.IncludeKeyMaterial.Values())
	})
	if err != nil {
		return nil, err
	}
	var places []string // in the order of time, which is that of the materials
	for i := range k.Materials {
		if in.IncludeKeyMaterial == types.IncludeKeyMaterialAllKeyMaterial || k.Materials[i].Rotated != "" {
			places = append(places, fmt.Sprintf("%08d", i))
		}
	}
	places, next, err := page(places, in.Limit, in.Marker, 100)
	if err != nil {
		return nil, err
	}
	out := &kms.ListKeyRotationsOutput{NextMarker: next, Truncated: next != nil, Rotations: []types.RotationsListEntry{}}
	for _, p := range places {
		i, err := strconv.Atoi(p)
		if err != nil {
			panic("kmsfake: internal error: " + err.Error()) // written above
		}
		out.Rotations = append(out.Rotations, r.st.rotationEntry(k, &k.Materials[i]))
	}
	return out, nil
}

func (st *state) rotationEntry(k *keyState, m *material) types.RotationsListEntry {
	e := types.RotationsListEntry{
		KeyId: aws.String(k.ID), KeyMaterialId: aws.String(m.ID), KeyMaterialState: types.KeyMaterialStateNonCurrent,
	}
	switch {
	case m.Pending && !st.everywhere(k, m.ID):
		e.KeyMaterialState = types.KeyMaterialStatePendingMultiRegionImportAndRotation
	case m.Pending:
		e.KeyMaterialState = types.KeyMaterialStatePendingRotation
	case m == k.current():
		e.KeyMaterialState = types.KeyMaterialStateCurrent
	}
	if m.Rotated != "" {
		e.RotationDate, e.RotationType = aws.Time(m.Created), m.Rotated
	}
	if !k.imported() {
		return e
	}
	e.ImportState = types.ImportStatePendingImport
	if m.Key != nil {
		e.ImportState, e.ExpirationModel = types.ImportStateImported, types.ExpirationModelTypeKeyMaterialDoesNotExpire
		if !m.Expires.IsZero() {
			e.ExpirationModel, e.ValidTo = types.ExpirationModelTypeKeyMaterialExpires, aws.Time(m.Expires)
		}
	}
	if m.Description != "" {
		e.KeyMaterialDescription = aws.String(m.Description)
	}
	return e
}
