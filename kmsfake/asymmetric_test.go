package kmsfake

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func newKeyOf(t testing.TB, fake *KMS, spec types.KeySpec, usage types.KeyUsageType) *types.KeyMetadata {
	t.Helper()
	out, err := fake.Client(customer).CreateKey(context.Background(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
	if err != nil {
		t.Fatal(err)
	}
	return out.KeyMetadata
}

func publicKeyOf(t testing.TB, c *Client, id *string) (any, *kms.GetPublicKeyOutput) {
	t.Helper()
	out, err := c.GetPublicKey(context.Background(), &kms.GetPublicKeyInput{KeyId: id})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return public, out
}

// verifiesOutside checks a signature without the fake's code.
func verifiesOutside(public any, a types.SigningAlgorithmSpec, message, sig []byte) bool {
	name := string(a)
	h := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[name[len(name)-3:]]
	sum := h.New()
	sum.Write(message)
	digest := sum.Sum(nil)
	switch key := public.(type) {
	case *rsa.PublicKey:
		if strings.HasPrefix(name, "RSASSA_PSS") {
			return rsa.VerifyPSS(key, h, digest, sig, &rsa.PSSOptions{SaltLength: h.Size()}) == nil
		}
		return rsa.VerifyPKCS1v15(key, h, digest, sig) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, digest, sig)
	case ed25519.PublicKey:
		if a == types.SigningAlgorithmSpecEd25519Sha512 {
			return ed25519.Verify(key, message, sig)
		}
		twice := sha512.Sum512(digest) // as KMS documents: once by the caller, once by itself
		return ed25519.VerifyWithOptions(key, twice[:], sig, &ed25519.Options{Hash: crypto.SHA512}) == nil
	}
	return false
}

// Every signing algorithm of every spec, of messages and of digests: Verify and
// the public key agree, and nothing that was changed verifies.
func TestSignAndVerify(t *testing.T) {
	fake := New(&Options{TB: t})
	c, ctx := fake.Client(customer), context.Background()
	message := []byte("a message")
	signatures := 0
	for _, spec := range []types.KeySpec{types.KeySpecRsa2048, types.KeySpecRsa3072, types.KeySpecEccNistP256, types.KeySpecEccNistP384,
		types.KeySpecEccNistP521, types.KeySpecEccNistEdwards25519} {
		md := newKeyOf(t, fake, spec, usageSign)
		public, out := publicKeyOf(t, c, md.KeyId)
		if !slices.Equal(out.SigningAlgorithms, md.SigningAlgorithms) || out.KeySpec != spec || out.KeyUsage != usageSign ||
			md.CurrentKeyMaterialId != nil || len(md.EncryptionAlgorithms) != 0 || len(md.SigningAlgorithms) == 0 {
			t.Errorf("%+v %+v", md, out)
		}
		for _, a := range types.SigningAlgorithmSpec("").Values() {
			kinds := []types.MessageType{"", types.MessageTypeRaw, types.MessageTypeDigest}
			if !slices.Contains(md.SigningAlgorithms, a) {
				_, err := c.Sign(ctx, &kms.SignInput{KeyId: md.KeyId, Message: message, SigningAlgorithm: a})
				wantText(t, err, "Algorithm "+string(a)+" is incompatible with key spec "+string(spec)+".")
				continue
			}
			for _, kind := range kinds {
				signed := message
				if kind == types.MessageTypeDigest {
					sum := signingHashes[a].HashFunc()
					if a == types.SigningAlgorithmSpecEd25519Sha512 {
						sum = crypto.SHA512
					}
					h := sum.New()
					h.Write(message)
					signed = h.Sum(nil)
				}
				out, err := c.Sign(ctx, &kms.SignInput{KeyId: md.KeyId, Message: signed, MessageType: kind, SigningAlgorithm: a})
				raw := kind != types.MessageTypeDigest
				if a == types.SigningAlgorithmSpecEd25519Sha512 && !raw || a == types.SigningAlgorithmSpecEd25519PhSha512 && raw {
					wantCode(t, err, "ValidationException")
					continue
				}
				if err != nil {
					t.Fatal(spec, a, kind, err)
				}
				signatures++
				if !verifiesOutside(public, a, message, out.Signature) || out.SigningAlgorithm != a || *out.KeyId != *md.Arn {
					t.Errorf("%s %s %s: the signature does not verify with the public key", spec, a, kind)
				}
				verify := func(sig, message []byte) error {
					out, err := c.Verify(ctx, &kms.VerifyInput{KeyId: md.KeyId, Message: message, MessageType: kind, SigningAlgorithm: a, Signature: sig})
					if err == nil && !out.SignatureValid {
						t.Error("an answer that says no")
					}
					return err
				}
				if err := verify(out.Signature, signed); err != nil {
					t.Errorf("%s %s %s: %v", spec, a, kind, err)
				}
				bad := bytes.Clone(signed)
				bad[0] ^= 1
				wantCode(t, verify(out.Signature, bad), "KMSInvalidSignatureException")
				sig := bytes.Clone(out.Signature)
				sig[len(sig)-1] ^= 1
				wantCode(t, verify(sig, signed), "KMSInvalidSignatureException")
				wantCode(t, verify([]byte("x"), signed), "KMSInvalidSignatureException")
				if kind == types.MessageTypeDigest {
					_, err := c.Sign(ctx, &kms.SignInput{KeyId: md.KeyId, Message: signed[1:], MessageType: kind, SigningAlgorithm: a})
					wantText(t, err, "Digest is invalid length for algorithm "+string(a)+".")
				}
			}
			_, err := c.Sign(ctx, &kms.SignInput{KeyId: md.KeyId, Message: message, MessageType: types.MessageTypeExternalMu, SigningAlgorithm: a})
			wantCode(t, err, "ValidationException")
		}
	}
	t.Logf("%d signatures", signatures)
	if signatures < 2*6*3+3*3+2 {
		t.Errorf("only %d", signatures)
	}
}

// HMACs are those of the standard library, one algorithm per spec.
func TestMACs(t *testing.T) {
	fake := New(&Options{TB: t})
	c, ctx := fake.Client(customer), context.Background()
	for spec, a := range map[types.KeySpec]types.MacAlgorithmSpec{
		types.KeySpecHmac224: types.MacAlgorithmSpecHmacSha224, types.KeySpecHmac256: types.MacAlgorithmSpecHmacSha256,
		types.KeySpecHmac384: types.MacAlgorithmSpecHmacSha384, types.KeySpecHmac512: types.MacAlgorithmSpecHmacSha512,
	} {
		md := newKeyOf(t, fake, spec, usageMac)
		if len(md.MacAlgorithms) != 1 || md.MacAlgorithms[0] != a || md.CurrentKeyMaterialId != nil {
			t.Errorf("%+v", md)
		}
		out, err := c.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: md.KeyId, MacAlgorithm: a, Message: []byte("m")})
		if err != nil {
			t.Fatal(err)
		}
		newHash := map[types.KeySpec]crypto.Hash{types.KeySpecHmac224: crypto.SHA224, types.KeySpecHmac256: crypto.SHA256,
			types.KeySpecHmac384: crypto.SHA384, types.KeySpecHmac512: crypto.SHA512}[spec]
		mac := hmac.New(newHash.New, fake.st.Keys[*md.Arn].current().Key)
		mac.Write([]byte("m"))
		if !hmac.Equal(out.Mac, mac.Sum(nil)) || out.MacAlgorithm != a || *out.KeyId != *md.Arn {
			t.Errorf("%s: %+v", spec, out)
		}
		verify := func(mac []byte, message string) error {
			return second2(c.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: md.KeyId, MacAlgorithm: a, Message: []byte(message), Mac: mac}))
		}
		if err := verify(out.Mac, "m"); err != nil {
			t.Error(err)
		}
		wantCode(t, verify(out.Mac, "n"), "KMSInvalidMacException")
		wantCode(t, verify(out.Mac[1:], "m"), "KMSInvalidMacException")
		for _, other := range types.MacAlgorithmSpec("").Values() {
			if other != a {
				_, err := c.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: md.KeyId, MacAlgorithm: other, Message: []byte("m")})
				wantText(t, err, "Algorithm "+string(other)+" is incompatible with key spec "+string(spec)+".")
			}
		}
	}
}

// RSA encryption: with the public key outside, and by KMS; nothing without the
// key id and the right algorithm.
func TestRSAEncryption(t *testing.T) {
	fake := New(&Options{TB: t})
	c, ctx := fake.Client(customer), context.Background()
	md := newKeyOf(t, fake, types.KeySpecRsa2048, usageEncrypt)
	sym := fake.Account(customer).CreateKey("")
	public, _ := publicKeyOf(t, c, md.KeyId)
	outside, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), []byte("from outside"), nil)
	if err != nil {
		t.Fatal(err)
	}
	const oaep = types.EncryptionAlgorithmSpecRsaesOaepSha256
	out, err := c.Decrypt(ctx, &kms.DecryptInput{KeyId: md.KeyId, CiphertextBlob: outside, EncryptionAlgorithm: oaep})
	if err != nil || string(out.Plaintext) != "from outside" || out.KeyMaterialId != nil || out.EncryptionAlgorithm != oaep {
		t.Errorf("%+v, %v", out, err)
	}
	wantCode(t, second2(c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: outside, EncryptionAlgorithm: oaep})), "ValidationException")
	wantCode(t, second2(c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: outside})), "InvalidCiphertextException")
	wantText(t, second2(c.Decrypt(ctx, &kms.DecryptInput{KeyId: md.KeyId, CiphertextBlob: outside})),
		"Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.")
	outside[3] ^= 1
	wantCode(t, second2(c.Decrypt(ctx, &kms.DecryptInput{KeyId: md.KeyId, CiphertextBlob: outside, EncryptionAlgorithm: oaep})), "InvalidCiphertextException")
	encrypt := func(n int, a types.EncryptionAlgorithmSpec, ec map[string]string) error {
		return second2(c.Encrypt(ctx, &kms.EncryptInput{KeyId: md.KeyId, Plaintext: make([]byte, n), EncryptionAlgorithm: a, EncryptionContext: ec}))
	}
	if err := encrypt(190, oaep, nil); err != nil {
		t.Error(err)
	}
	wantText(t, encrypt(191, oaep, nil), "Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes.")
	wantCode(t, encrypt(1, oaep, map[string]string{"a": "b"}), "ValidationException")
	wantCode(t, encrypt(1, types.EncryptionAlgorithmSpecSm2pke, nil), "InvalidKeyUsageException")
	sha1 := encrypt(215, types.EncryptionAlgorithmSpecRsaesOaepSha1, nil)
	if fips140.Enforced() {
		wantCode(t, sha1, "UnsupportedOperationException")
	} else {
		wantText(t, sha1, "Algorithm RSAES_OAEP_SHA_1 and key spec RSA_2048 cannot encrypt data larger than 214 bytes.")
	}
	// ReEncrypt there and back again.
	first, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(sym.ARN()), Plaintext: []byte("x"), EncryptionContext: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	there, err := c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: first.CiphertextBlob, SourceEncryptionContext: map[string]string{"a": "b"},
		DestinationKeyId: md.KeyId, DestinationEncryptionAlgorithm: oaep})
	if err != nil || there.DestinationKeyMaterialId != nil || there.SourceKeyMaterialId == nil {
		t.Fatal(there, err)
	}
	back, err := c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: there.CiphertextBlob, SourceKeyId: md.KeyId, SourceEncryptionAlgorithm: oaep,
		DestinationKeyId: aws.String(sym.ARN())})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: back.CiphertextBlob}); err != nil || string(out.Plaintext) != "x" {
		t.Errorf("%+v, %v", out, err)
	}
	wantCode(t, second2(c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: md.KeyId, NumberOfBytes: aws.Int32(32)})), "InvalidKeyUsageException")
}

// A key does what its usage says, and nothing else.
func TestKeyUsage(t *testing.T) {
	fake := New(&Options{TB: t})
	c, ctx := fake.Client(customer), context.Background()
	sym := aws.String(fake.Account(customer).CreateKey("").ARN())
	mac, sign := newKeyOf(t, fake, types.KeySpecHmac256, usageMac).Arn, newKeyOf(t, fake, types.KeySpecEccNistP256, usageSign).Arn
	agree := newKeyOf(t, fake, types.KeySpecEccNistP256, usageAgree).Arn
	m := []byte("m")
	for op, call := range map[string]func(id *string) error{
		"Encrypt": func(id *string) error { return second2(c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: m})) },
		"Decrypt": func(id *string) error {
			return second2(c.Decrypt(ctx, &kms.DecryptInput{KeyId: id, CiphertextBlob: m}))
		},
		"GenerateDataKey": func(id *string) error {
			return second2(c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: id, NumberOfBytes: aws.Int32(32)}))
		},
		"GenerateDataKeyPair": func(id *string) error {
			return second2(c.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: id, KeyPairSpec: types.DataKeyPairSpecEccNistP256}))
		},
		"GenerateMac": func(id *string) error {
			return second2(c.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: id, Message: m, MacAlgorithm: types.MacAlgorithmSpecHmacSha256}))
		},
		"VerifyMac": func(id *string) error {
			return second2(c.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: id, Message: m, Mac: m, MacAlgorithm: types.MacAlgorithmSpecHmacSha256}))
		},
		"Sign": func(id *string) error {
			return second2(c.Sign(ctx, &kms.SignInput{KeyId: id, Message: m, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256}))
		},
		"Verify": func(id *string) error {
			return second2(c.Verify(ctx, &kms.VerifyInput{KeyId: id, Message: m, Signature: m, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256}))
		},
		"DeriveSharedSecret": func(id *string) error {
			return second2(c.DeriveSharedSecret(ctx, &kms.DeriveSharedSecretInput{KeyId: id, PublicKey: testECPublic(),
				KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh}))
		},
	} {
		for usage, id := range map[types.KeyUsageType]*string{usageEncrypt: sym, usageMac: mac, usageSign: sign, usageAgree: agree} {
			refused := *id + " key usage is " + string(usage) + " which is not valid for " + op + "."
			err := call(id)
			right := usage == usageEncrypt && (op == "Encrypt" || op == "Decrypt" || strings.HasPrefix(op, "GenerateDataKey")) ||
				usage == usageMac && strings.HasSuffix(op, "Mac") || usage == usageSign && (op == "Sign" || op == "Verify") ||
				usage == usageAgree && op == "DeriveSharedSecret"
			if right == (code(err) == "InvalidKeyUsageException") {
				t.Errorf("%s with a key for %s: %v", op, usage, err)
			}
			if !right {
				wantText(t, err, refused)
			}
		}
	}
	for _, id := range []*string{sym, mac} {
		wantCode(t, second2(c.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: id})), "UnsupportedOperationException")
	}
}

// Data key pairs come wrapped as GenerateDataKey's keys do, bound to the context.
func TestDataKeyPairs(t *testing.T) {
	fake := New(&Options{TB: t})
	c, ctx := fake.Client(customer), context.Background()
	id, ec := aws.String(fake.Account(customer).CreateKey("").ARN()), map[string]string{"tenant": "t1"}
	for _, spec := range types.DataKeyPairSpec("").Values() {
		out, err := c.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: id, KeyPairSpec: spec, EncryptionContext: ec})
		if keyKinds[types.KeySpec(spec)] == nil {
			wantCode(t, err, "UnsupportedOperationException")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		private, ok := parsePrivateKey(types.KeySpec(spec), out.PrivateKeyPlaintext)
		if !ok || !bytes.Equal(encodePublicKey(private), out.PublicKey) || out.KeyPairSpec != spec || out.KeyMaterialId == nil {
			t.Errorf("%s: %v", spec, ok)
		}
		dec, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: out.PrivateKeyCiphertextBlob, EncryptionContext: ec})
		if err != nil || !bytes.Equal(dec.Plaintext, out.PrivateKeyPlaintext) {
			t.Errorf("%s: %v", spec, err)
		}
		wantCode(t, second2(c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: out.PrivateKeyCiphertextBlob})), "InvalidCiphertextException")
	}
	out, err := c.GenerateDataKeyPairWithoutPlaintext(ctx, &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: id, KeyPairSpec: types.DataKeyPairSpecEccNistP256})
	if err != nil {
		t.Fatal(err)
	}
	dec, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: out.PrivateKeyCiphertextBlob})
	if err != nil {
		t.Fatal(err)
	}
	if private, ok := parsePrivateKey(types.KeySpecEccNistP256, dec.Plaintext); !ok || !bytes.Equal(encodePublicKey(private), out.PublicKey) {
		t.Error("not the private key of the public one")
	}
}

// Two sides of an agreement have the same secret, and points that are none, or
// of another curve, are refused.
func TestDeriveSharedSecret(t *testing.T) {
	fake := New(&Options{TB: t})
	c, ctx := fake.Client(customer), context.Background()
	for spec, curve := range map[types.KeySpec]ecdh.Curve{types.KeySpecEccNistP256: ecdh.P256(), types.KeySpecEccNistP384: ecdh.P384(), types.KeySpecEccNistP521: ecdh.P521()} {
		md := newKeyOf(t, fake, spec, usageAgree)
		if len(md.KeyAgreementAlgorithms) != 1 || len(md.SigningAlgorithms) != 0 {
			t.Errorf("%+v", md)
		}
		ours, err := curve.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(ours.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		derive := func(der []byte) (*kms.DeriveSharedSecretOutput, error) {
			return c.DeriveSharedSecret(ctx, &kms.DeriveSharedSecretInput{KeyId: md.KeyId, PublicKey: der, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh})
		}
		out, err := derive(der)
		if err != nil {
			t.Fatal(err)
		}
		public, _ := publicKeyOf(t, c, md.KeyId)
		theirs, err := public.(*ecdsa.PublicKey).ECDH()
		if err != nil {
			t.Fatal(err)
		}
		want, err := ours.ECDH(theirs)
		if err != nil || !bytes.Equal(out.SharedSecret, want) || out.KeyOrigin != types.OriginTypeAwsKms {
			t.Errorf("%s: %+v, %v", spec, out, err)
		}
		der[len(der)-1] ^= 1
		wantCode(t, second2(derive(der)), "ValidationException")
		if spec != types.KeySpecEccNistP256 {
			wantCode(t, second2(derive(testECPublic())), "ValidationException")
		}
		wantCode(t, second2(derive([]byte("x"))), "ValidationException")
	}
}
