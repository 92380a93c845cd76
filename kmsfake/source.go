package kmsfake

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// source is the ciphertext side of Decrypt and ReEncrypt: a blob, and perhaps
// the key that the caller expects it to be under.
type source struct {
	aim
	blob []byte
	onto string // ReEncrypt's destination, for kms:ReEncryptOnSameKey

	key    *keyState
	header *blobHeader
}

// findSource finds and authorizes the key of a source.
//
// With a key id, permission and state of that key come before the first look at
// the blob. Without one, the blob names the key, and every refusal that could
// tell a stranger whether the key exists is worded alike.
func (r *request) findSource(s *source) error {
	if s.id != "" {
		if s.onto != "" { // the condition key needs the key, so it is looked up twice
			if k, _, err := r.find(s.id); err == nil && k != nil {
				s.extra = map[string][]string{"kms:reencryptonsamekey": {r.sameKey(k, s.onto)}}
			}
		}
		k, err := r.authorized(s.aim)
		s.key = k
		return err
	}
	if s.blob == nil { // a dry run without a blob
		return validation("KeyId is required when the ciphertext is ignored.")
	}
	if s.alg != string(symmetric) { // such ciphertexts do not name their key
		return validation("KeyId is required for ciphertexts of asymmetric KMS keys.")
	}
	h, err := parseBlob(r.st.Secret, s.blob)
	if err != nil {
		return errInvalidCiphertext
	}
	s.header = h
	if _, err := r.presented(); err != nil {
		return err
	}
	var k *keyState
	if arn, ok := h.arnIn(r.region); ok {
		k = r.live(arn)
	}
	if k == nil {
		r.unseen(s.action, "the key of the ciphertext")
		return r.deniedByBlob(s.action)
	}
	r.about(k)
	if s.onto != "" {
		s.extra = map[string][]string{"kms:reencryptonsamekey": {r.sameKey(k, s.onto)}}
	}
	if v := r.judge(k, s.aim, ""); v != allowed {
		if k.Account != r.who.account && v != noIdentityAllows && v != deniedByIdentity {
			return r.deniedByBlob(s.action)
		}
		return r.denied(s.action, "on the resource associated with this ciphertext", v)
	}
	s.key = k
	return nil
}

// deniedByBlob is AWS's answer for a ciphertext whose key is elsewhere, gone, or
// another account's that does not allow: on purpose it does not say which.
func (r *request) deniedByBlob(action string) error {
	return fail("AccessDeniedException", "User: %s is not authorized to perform: %s on the resource associated with this "+
		"ciphertext because the resource does not exist in this Region, no resource-based policies allow access, "+
		"or a resource-based policy explicitly denies access", r.who.caller(), action)
}

// openSource decrypts, after the key was found, authorized and usable. material
// is nil for keys that have no such id.
func (r *request) openSource(s *source) (plaintext []byte, material *string, err error) {
	if !s.key.symmetric() {
		plaintext, err = s.key.openOAEP(types.EncryptionAlgorithmSpec(s.alg), s.blob)
		return plaintext, nil, err
	}
	h := s.header
	if h == nil {
		if h, err = parseBlob(r.st.Secret, s.blob); err != nil {
			return nil, nil, errInvalidCiphertext
		}
		if !h.names(s.key) {
			return nil, nil, fail("IncorrectKeyException",
				"The key ID in the request does not identify a CMK that can perform this operation.")
		}
	}
	m := s.key.material(h.material)
	if m == nil || m.Key == nil {
		return nil, nil, errInvalidCiphertext
	}
	if plaintext, err = h.open(m, s.ec); err != nil {
		return nil, nil, errInvalidCiphertext
	}
	return plaintext, aws.String(m.ID), nil
}

// sameKey is the value of kms:ReEncryptOnSameKey.
func (r *request) sameKey(from *keyState, destination string) string {
	if to, _, err := r.find(destination); err == nil && to == from {
		return "true"
	}
	return "false"
}
