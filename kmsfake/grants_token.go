package kmsfake

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// A grant token names a grant: base64 of MAC (32 bytes), nonce (8 bytes), and
// "<key ARN> <grant id>". As in KMS each CreateGrant answers a token of its own,
// all tokens of a grant do the same, and a token is no secret: only the grantee
// has any use for it.
const tokenNonce = 8

var errGrantToken = fail("InvalidGrantTokenException", "Grant token is invalid.")

func tokenMAC(secret, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("kmsfake grant token\x00")) // the secret authenticates other things, too
	mac.Write(body)
	return mac.Sum(nil)
}

func newGrantToken(secret []byte, keyARN, grantID string) string {
	body := make([]byte, tokenNonce, 256)
	rand.Read(body)
	body = append(body, keyARN+" "+grantID...)
	return base64.StdEncoding.EncodeToString(append(tokenMAC(secret, body), body...))
}

// parseGrantToken tells which grant a token names. The grant may be gone.
func parseGrantToken(secret []byte, token string) (keyARN, grantID string, err error) {
	raw, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(raw) < sha256.Size+tokenNonce {
		return "", "", errGrantToken
	}
	body := raw[sha256.Size:]
	if !hmac.Equal(raw[:sha256.Size], tokenMAC(secret, body)) {
		return "", "", errGrantToken
	}
	keyARN, grantID, _ = strings.Cut(string(body[tokenNonce:]), " ")
	return keyARN, grantID, nil
}

// presented are the grants whose tokens came with the call, as "<key ARN> <grant id>".
// A token that KMS never made is an error, even if nothing depends on it; one of
// a grant that is gone is not, and changes nothing.
func (r *request) presented() (map[string]bool, error) {
	if len(r.tokens) == 0 {
		return nil, nil
	}
	out := make(map[string]bool, len(r.tokens))
	for _, t := range r.tokens {
		arn, id, err := parseGrantToken(r.st.Secret, t)
		if err != nil {
			return nil, err
		}
		out[arn+" "+id] = true
	}
	return out, nil
}
