package kmsfake

import (
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// maxImportLife is how far in the future imported material may expire.
const maxImportLife = 365 * day

var (
	materialIDChars          = regexp.MustCompile(`^[a-f0-9]+$`)
	materialDescriptionChars = regexp.MustCompile(`^[a-zA-Z0-9:/_\s.-]+$`)
)

func (c *checks) materialID(id *string) {
	c.str("keyMaterialId", id, 64, 64)
	if id != nil && !materialIDChars.MatchString(*id) {
		c.add(quoted(*id), "keyMaterialId", "satisfy regular expression pattern: "+materialIDChars.String())
	}
}

func (r *request) importKeyMaterial(in *kms.ImportKeyMaterialInput) (*kms.ImportKeyMaterialOutput, error) {
	model := in.ExpirationModel
	if model == "" {
		model = types.ExpirationModelTypeKeyMaterialExpires
	}
	extra := map[string][]string{"kms:expirationmodel": {string(model)}}
	if in.ValidTo != nil {
		extra["kms:validto"] = []string{in.ValidTo.UTC().Format(time.RFC3339)}
	}
	k, err := r.aboutKeyWith(in.KeyId, extra, func(c *checks) {
		c.blob("importToken", in.ImportToken, 6144, true)
		c.blob("encryptedKeyMaterial", in.EncryptedKeyMaterial, 6144, true)
		enum(c, "expirationModel", in.ExpirationModel, in.ExpirationModel.Values())
		enum(c, "importType", in.ImportType, in.ImportType.Values())
		c.str("keyMaterialDescription", in.KeyMaterialDescription, 0, 256)
		if d := in.KeyMaterialDescription; d != nil && *d != "" && !materialDescriptionChars.MatchString(*d) {
			c.add(quoted(*d), "keyMaterialDescription", "satisfy regular expression pattern: "+materialDescriptionChars.String())
		}
		c.materialID(in.KeyMaterialId)
	})
	if err == nil {
		err = firstOf(r.expiry(model, in.ValidTo), importOptions(k, in))
	}
	if err != nil {
		return nil, err
	}
	algorithm, private, err := r.openToken(k, in.ImportToken)
	if err != nil {
		return nil, err
	}
	raw, err := unwrapMaterial(private, algorithm, in.EncryptedKeyMaterial)
	if err != nil {
		return nil, errInvalidCiphertext
	}
	m, err := r.st.accept(k, raw, in.ImportType, aws.ToString(in.KeyMaterialId), r.now)
	if err != nil {
		return nil, err
	}
	m.Expires = aws.ToTime(in.ValidTo)
	if in.KeyMaterialDescription != nil {
		m.Description = *in.KeyMaterialDescription
	}
	r.f.dirty = true
	out := &kms.ImportKeyMaterialOutput{KeyId: aws.String(k.ARN())}
	if k.symmetric() {
		out.KeyMaterialId = aws.String(m.ID)
	}
	return out, nil
}

// expiry checks the two halves of the expiration model against each other.
func (r *request) expiry(model types.ExpirationModelType, validTo *time.Time) error {
	expires := model == types.ExpirationModelTypeKeyMaterialExpires
	switch {
	case expires && validTo == nil:
		return validation("A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
	case !expires && validTo != nil:
		return validation("A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE")
	case expires && !validTo.After(r.now):
		return validation("The validTo date must be in the future")
	case expires && validTo.After(r.now.Add(maxImportLife)):
		return validation("The validTo date must be within 365 days of the request")
	}
	return nil
}

func importOptions(k *keyState, in *kms.ImportKeyMaterialInput) error {
	switch {
	case !k.symmetric() && (in.ImportType != "" || in.KeyMaterialDescription != nil || in.KeyMaterialId != nil):
		return validation("ImportType, KeyMaterialDescription and KeyMaterialId are valid for symmetric encryption keys only.")
	case in.ImportType == types.ImportTypeNewKeyMaterial && in.KeyMaterialId != nil:
		return validation("KeyMaterialId is not valid with ImportType NEW_KEY_MATERIAL.")
	}
	return nil
}

func incorrectMaterial(why string) error { return fail("IncorrectKeyMaterialException", "%s", why) }

// accept takes unwrapped material into a key, as new material or as one that
// belongs there already; if kind does not say, by whether there is any. Other members of a multi-Region key learn which it is,
// and need their own import.
func (st *state) accept(k *keyState, raw []byte, kind types.ImportType, wanted string, now time.Time) (*material, error) {
	if !k.fits(raw) {
		return nil, incorrectMaterial("The key material is not valid for key spec " + string(k.Spec) + ".")
	}
	id := k.materialID(raw)
	m := k.material(id)
	if kind == types.ImportTypeExistingKeyMaterial || kind == "" && len(k.Materials) > 0 {
		if m == nil || wanted != "" && wanted != id {
			return nil, incorrectMaterial("The key material is not the same key material that was previously imported into the KMS key.")
		}
		m.Key = raw
		k.afterImport()
		return m, nil
	}
	switch next := k.pendingMaterial(); {
	case k.isReplica():
		return nil, notPrimary(k)
	case m != nil:
		return nil, incorrectMaterial("The key material is already associated with the KMS key.")
	case !k.symmetric() && len(k.Materials) > 0:
		return nil, incorrectMaterial("The key material of asymmetric and HMAC keys cannot be changed.")
	case next != nil:
		return nil, fail(invalidState, "New key material (id: %s) cannot be imported into KMS key %s, "+
			"because another key material (id: %s) is pending rotation.", id, k.ID, next.ID)
	}
	k.Materials = append(k.Materials, material{ID: id, Key: raw, Created: now, Pending: len(k.Materials) > 0})
	k.afterImport()
	st.share(k)
	return k.material(id), nil
}

// fits reports whether bytes are key material of the key's spec.
func (k *keyState) fits(raw []byte) bool {
	if kind := k.kind(); kind.family == familyAES || kind.family == familyHMAC {
		return len(raw) == kind.bits/8
	}
	_, ok := parsePrivateKey(k.Spec, raw)
	return ok
}

// afterImport lets a key be used whose last missing material has come. One that
// somebody disabled, or that is to be deleted, stays so.
func (k *keyState) afterImport() {
	switch types.KeyStatePendingImport {
	case k.State:
		k.State = k.wholeState(types.KeyStateEnabled)
	case k.Then:
		k.Then = k.wholeState(types.KeyStateEnabled)
	}
}

// deleteImportedKeyMaterial makes the key unusable until the same material comes
// back. Material that waits for a rotation was no part of the key yet: it is
// forgotten, by a primary in all Regions.
func (r *request) deleteImportedKeyMaterial(in *kms.DeleteImportedKeyMaterialInput) (*kms.DeleteImportedKeyMaterialOutput, error) {
	k, err := r.aboutKey(in.KeyId, func(c *checks) { c.materialID(in.KeyMaterialId) })
	if err != nil {
		return nil, err
	}
	out := &kms.DeleteImportedKeyMaterialOutput{KeyId: aws.String(k.ARN())}
	m := k.current()
	if in.KeyMaterialId != nil {
		if m = k.material(*in.KeyMaterialId); m == nil {
			return nil, fail("NotFoundException", "Key material '%s' does not exist", *in.KeyMaterialId)
		}
	}
	if m == nil { // never imported: nothing to delete, and no error either
		return out, nil
	}
	if k.symmetric() {
		out.KeyMaterialId = aws.String(m.ID)
	}
	pending := m.Pending
	m.drop()
	if pending && !k.isReplica() {
		k.Materials = k.Materials[:len(k.Materials)-1]
		r.st.share(k)
	}
	k.afterLoss()
	r.f.dirty = true
	return out, nil
}
