package kmsfake

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// importer imports as a customer's own tool does: by the public API alone.
type importer struct {
	t   testing.TB
	c   *Client
	key string
	alg types.AlgorithmSpec

	made map[string]*kms.GetParametersForImportOutput // they are good for a day, and slow to make
}

func (im *importer) parameters() (*rsa.PublicKey, *kms.GetParametersForImportOutput) {
	im.t.Helper()
	name := im.key + string(im.alg)
	if im.made[name] == nil {
		im.made = map[string]*kms.GetParametersForImportOutput{name: im.newParameters()}
	}
	out := *im.made[name]
	out.ImportToken = bytes.Clone(out.ImportToken)
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		im.t.Fatal(err)
	}
	return public.(*rsa.PublicKey), &out
}

func (im *importer) newParameters() *kms.GetParametersForImportOutput {
	im.t.Helper()
	out, err := im.c.GetParametersForImport(context.Background(), &kms.GetParametersForImportInput{
		KeyId: aws.String(im.key), WrappingAlgorithm: im.alg, WrappingKeySpec: types.WrappingKeySpecRsa2048})
	if err != nil {
		im.t.Fatal(err)
	}
	return out
}

func (im *importer) wrap(public *rsa.PublicKey, raw []byte) []byte {
	im.t.Helper()
	newHash := sha256.New
	if im.alg == types.AlgorithmSpecRsaesOaepSha1 || im.alg == types.AlgorithmSpecRsaAesKeyWrapSha1 {
		newHash = sha1.New
	}
	if im.alg == types.AlgorithmSpecRsaesOaepSha1 || im.alg == types.AlgorithmSpecRsaesOaepSha256 {
		return mustOAEP(im.t, newHash(), public, raw)
	}
	kek := randomMaterial(32)
	return append(mustOAEP(im.t, newHash(), public, kek), wrapKWP(im.t, kek, raw)...)
}

func mustOAEP(t testing.TB, h hash.Hash, public *rsa.PublicKey, raw []byte) []byte {
	t.Helper()
	out, err := rsa.EncryptOAEP(h, rand.Reader, public, raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wrapKWP is the wrapping of RFC 5649, written independently of its inverse.
func wrapKWP(t testing.TB, kek, raw []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	padded := append(bytes.Clone(raw), make([]byte, (8-len(raw)%8)%8)...)
	buf := append(binary.BigEndian.AppendUint32([]byte{0xA6, 0x59, 0x59, 0xA6}, uint32(len(raw))), padded...)
	if len(buf) == 16 {
		block.Encrypt(buf, buf)
		return buf
	}
	var b [16]byte
	copy(b[:8], buf)
	for step := 1; step <= 6*len(padded)/8; step++ {
		at := 8 + 8*((step-1)%(len(padded)/8))
		copy(b[8:], buf[at:at+8])
		block.Encrypt(b[:], b[:])
		binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^uint64(step))
		copy(buf[at:], b[8:])
	}
	copy(buf, b[:8])
	return buf
}

// do imports; change may spoil the request.
func (im *importer) do(raw []byte, change func(*kms.ImportKeyMaterialInput)) error {
	im.t.Helper()
	public, out := im.parameters()
	in := &kms.ImportKeyMaterialInput{KeyId: aws.String(im.key), ImportToken: out.ImportToken,
		EncryptedKeyMaterial: im.wrap(public, raw), ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire}
	if change != nil {
		change(in)
	}
	return second2(im.c.ImportKeyMaterial(context.Background(), in))
}

func externalKey(t testing.TB, fake *KMS, in kms.CreateKeyInput) *importer {
	t.Helper()
	c := fake.Client(customer)
	in.Origin = types.OriginTypeExternal
	out, err := c.CreateKey(context.Background(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return &importer{t: t, c: c, key: *out.KeyMetadata.Arn, alg: types.AlgorithmSpecRsaesOaepSha256}
}

// The vectors of RFC 5649, section 6.
func TestKeyWrapVectors(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	kek := unhex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	for plain, wrapped := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		if got := wrapKWP(t, kek, unhex(plain)); hex.EncodeToString(got) != wrapped {
			t.Errorf("the test's own wrapping of %s is %x", plain, got)
		}
		got, err := unwrapKWP(kek, unhex(wrapped))
		if err != nil || hex.EncodeToString(got) != plain {
			t.Errorf("%s: %x, %v", wrapped, got, err)
		}
		for bit := range len(wrapped) * 4 {
			bad := unhex(wrapped)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := unwrapKWP(kek, bad); err == nil {
				t.Errorf("%s opens with bit %d flipped", wrapped, bit)
			}
		}
	}
	for n := range 64 { // any length, and no panic on any other
		raw := randomMaterial(n + 1)
		if got, err := unwrapKWP(kek, wrapKWP(t, kek, raw)); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%d bytes: %v", n+1, err)
		}
		if _, err := unwrapKWP(kek, raw); err == nil {
			t.Errorf("%d random bytes are a wrapped key", n+1)
		}
	}
}

// The life of imported material: waiting, in use, deleted, back; what was sealed
// before opens again with the same material, and no other is taken in between.
func TestImportDeleteAndReimport(t *testing.T) {
	fake := New(&Options{TB: t})
	ctx := context.Background()
	for _, alg := range []types.AlgorithmSpec{types.AlgorithmSpecRsaesOaepSha256, types.AlgorithmSpecRsaAesKeyWrapSha256} {
		im := externalKey(t, fake, kms.CreateKeyInput{})
		im.alg = alg
		id, raw := aws.String(im.key), randomMaterial(32)
		describe := func() *types.KeyMetadata {
			out, err := im.c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
			if err != nil {
				t.Fatal(err)
			}
			return out.KeyMetadata
		}
		if m := describe(); m.KeyState != types.KeyStatePendingImport || m.Enabled || m.CurrentKeyMaterialId != nil || m.ExpirationModel != "" ||
			m.Origin != types.OriginTypeExternal {
			t.Errorf("before the import: %+v", m)
		}
		if err := im.do(raw, nil); err != nil {
			t.Fatal(err)
		}
		imported := describe()
		if imported.KeyState != types.KeyStateEnabled || imported.CurrentKeyMaterialId == nil ||
			imported.ExpirationModel != types.ExpirationModelTypeKeyMaterialDoesNotExpire || imported.ValidTo != nil {
			t.Errorf("after the import: %+v", imported)
		}
		sealed, err := im.c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		opens := func() error {
			out, err := im.c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
			if err == nil && (string(out.Plaintext) != "x" || *out.KeyMaterialId != *imported.CurrentKeyMaterialId) {
				t.Errorf("%+v", out)
			}
			return err
		}
		if err := opens(); err != nil {
			t.Error(err)
		}
		gone, err := im.c.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: id})
		if err != nil || *gone.KeyId != im.key || *gone.KeyMaterialId != *imported.CurrentKeyMaterialId {
			t.Errorf("%+v, %v", gone, err)
		}
		wantText(t, opens(), im.key+" is pending import.")
		if m := describe(); m.KeyState != types.KeyStatePendingImport || m.ExpirationModel != "" ||
			*m.CurrentKeyMaterialId != *imported.CurrentKeyMaterialId {
			t.Errorf("after the deletion: %+v", m)
		}
		if fake.st.Keys[im.key].current().Key != nil {
			t.Error("the material is still there")
		}
		for _, other := range [][]byte{randomMaterial(32), raw[:31], append(bytes.Clone(raw), 0), raw[:16]} {
			wantCode(t, im.do(other, nil), "IncorrectKeyMaterialException")
		}
		if err := im.do(raw, nil); err != nil {
			t.Fatal(err)
		}
		if err := opens(); err != nil {
			t.Errorf("after the same material came back: %v", err)
		}
		wantCode(t, im.do(raw, func(in *kms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeNewKeyMaterial }), "IncorrectKeyMaterialException")
	}
}

// Material that expires is gone at that instant, by the engine's clock.
func TestImportedMaterialExpires(t *testing.T) {
	clock := newClock()
	fake := New(&Options{TB: t, Now: clock.Now})
	im := externalKey(t, fake, kms.CreateKeyInput{})
	raw := randomMaterial(32)
	key := fake.Account(customer).Key(im.key)
	expires := func(at time.Time) func(*kms.ImportKeyMaterialInput) {
		return func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel, in.ValidTo = "", &at }
	}
	for _, bad := range []struct {
		change func(*kms.ImportKeyMaterialInput)
		says   string
	}{
		{func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel = "" }, "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES"},
		{func(in *kms.ImportKeyMaterialInput) { in.ValidTo = aws.Time(clock.now.Add(time.Hour)) }, "KEY_MATERIAL_DOES_NOT_EXPIRE"},
		{expires(clock.now), "in the future"},
		{expires(clock.now.Add(366 * day)), "within 365 days of the request"},
	} {
		err := im.do(raw, bad.change)
		wantCode(t, err, "ValidationException")
		wantText(t, err, bad.says)
	}
	if err := im.do(raw, expires(clock.now.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	out, err := im.c.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: aws.String(im.key)})
	if err != nil || out.KeyMetadata.ExpirationModel != types.ExpirationModelTypeKeyMaterialExpires || !out.KeyMetadata.ValidTo.Equal(clock.now.Add(time.Hour)) {
		t.Errorf("%+v, %v", out, err)
	}
	clock.pass(time.Hour - 1)
	if key.State() != types.KeyStateEnabled {
		t.Error("expired too early")
	}
	clock.pass(1)
	if key.State() != types.KeyStatePendingImport || fake.st.Keys[im.key].current().Key != nil {
		t.Errorf("%s after the expiry", key.State())
	}
	// It comes back, for longer; a reimport resets the date.
	for range 2 {
		if err := im.do(raw, expires(clock.now.Add(2*time.Hour))); err != nil {
			t.Fatal(err)
		}
		clock.pass(time.Hour)
	}
	if key.State() != types.KeyStateEnabled {
		t.Error("the second date did not replace the first")
	}
	// While it is disabled it loses material all the same; while it waits for its
	// deletion its state tells of that, and the loss shows when that is cancelled.
	key.Disable()
	key.ScheduleDeletion(30)
	clock.pass(2 * time.Hour)
	if key.State() != types.KeyStatePendingDeletion {
		t.Error(key.State())
	}
	if _, err := im.c.CancelKeyDeletion(context.Background(), &kms.CancelKeyDeletionInput{KeyId: aws.String(im.key)}); err != nil {
		t.Fatal(err)
	}
	if key.State() != types.KeyStatePendingImport {
		t.Errorf("%s after the cancellation", key.State())
	}
	if key.Enable(); key.State() != types.KeyStatePendingImport {
		t.Error("a key without material was enabled")
	}
}

// A token belongs to one key of one KMS for a day, and to its own wrapping key.
func TestImportTokens(t *testing.T) {
	clock := newClock()
	fake := New(&Options{TB: t, Now: clock.Now})
	im, raw := externalKey(t, fake, kms.CreateKeyInput{}), randomMaterial(32)
	other := externalKey(t, fake, kms.CreateKeyInput{})
	elsewhere := externalKey(t, New(&Options{TB: t, Now: clock.Now}), kms.CreateKeyInput{})
	_, foreign := other.parameters()
	_, strange := elsewhere.parameters()
	public, mine := im.parameters()
	wrapped := im.wrap(public, raw)
	im.made = nil
	for name, tc := range map[string]struct {
		change func(*kms.ImportKeyMaterialInput)
		code   string
	}{
		"another key's token":      {func(in *kms.ImportKeyMaterialInput) { in.ImportToken = foreign.ImportToken }, "InvalidImportTokenException"},
		"another KMS's token":      {func(in *kms.ImportKeyMaterialInput) { in.ImportToken = strange.ImportToken }, "InvalidImportTokenException"},
		"a bit flipped":            {func(in *kms.ImportKeyMaterialInput) { in.ImportToken[40] ^= 1 }, "InvalidImportTokenException"},
		"a token cut short":        {func(in *kms.ImportKeyMaterialInput) { in.ImportToken = in.ImportToken[:8] }, "InvalidImportTokenException"},
		"another wrapping key":     {func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = wrapped }, "InvalidCiphertextException"},
		"material in clear":        {func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = raw }, "InvalidCiphertextException"},
		"a description with a tab": {func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialDescription = aws.String("a@b") }, "ValidationException"},
		"an id that is none":       {func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialId = aws.String(strings.Repeat("G", 64)) }, "ValidationException"},
		"an id for new material": {func(in *kms.ImportKeyMaterialInput) {
			in.KeyMaterialId, in.ImportType = aws.String(strings.Repeat("a", 64)), types.ImportTypeNewKeyMaterial
		}, "ValidationException"},
	} {
		if err := im.do(raw, tc.change); code(err) != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
	}
	in := &kms.ImportKeyMaterialInput{KeyId: aws.String(im.key), ImportToken: mine.ImportToken, EncryptedKeyMaterial: wrapped,
		ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire}
	if !mine.ParametersValidTo.Equal(clock.now.Add(24*time.Hour)) || *mine.KeyId != im.key {
		t.Errorf("%v", mine.ParametersValidTo)
	}
	clock.pass(24 * time.Hour)
	wantCode(t, second2(im.c.ImportKeyMaterial(context.Background(), in)), "ExpiredImportTokenException")
	clock.pass(-1)
	if _, err := im.c.ImportKeyMaterial(context.Background(), in); err != nil {
		t.Error(err)
	}
}

// A key with imported symmetric material rotates to material that was imported
// for that, and needs all of its generations to work at all.
func TestRotationOfImportedMaterial(t *testing.T) {
	fake := New(&Options{TB: t})
	ctx := context.Background()
	im := externalKey(t, fake, kms.CreateKeyInput{})
	id, key := aws.String(im.key), fake.Account(customer).Key(im.key)
	old, next, third := randomMaterial(32), randomMaterial(32), randomMaterial(32)
	asNew := func(in *kms.ImportKeyMaterialInput) {
		in.ImportType, in.KeyMaterialDescription = types.ImportTypeNewKeyMaterial, aws.String("the next one")
	}
	states := func() string {
		out, err := im.c.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: id, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range out.Rotations {
			all = append(all, string(e.KeyMaterialState)+"/"+string(e.ImportState))
		}
		return strings.Join(all, " ")
	}
	rotate := func() error {
		return second2(im.c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id}))
	}
	if err := im.do(old, nil); err != nil {
		t.Fatal(err)
	}
	sealed, err := im.c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, rotate(), "No available key material pending rotation for the key: "+im.key+".")
	if err := im.do(next, asNew); err != nil {
		t.Fatal(err)
	}
	first := key.MaterialID()
	if got := states(); got != "CURRENT/IMPORTED PENDING_ROTATION/IMPORTED" {
		t.Error(got)
	}
	err = im.do(third, asNew)
	wantCode(t, err, "KMSInvalidStateException")
	wantText(t, err, " is pending rotation.")
	if err := rotate(); err != nil || key.MaterialID() == first {
		t.Fatal("not rotated", err)
	}
	if got := states(); got != "NON_CURRENT/IMPORTED CURRENT/IMPORTED" {
		t.Error(got)
	}
	opens := func() error {
		return second2(im.c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}))
	}
	if err := opens(); err != nil {
		t.Error(err)
	}
	// Without the old generation the key does nothing at all.
	if _, err := im.c.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: id, KeyMaterialId: &first}); err != nil {
		t.Fatal(err)
	}
	if got := states(); got != "NON_CURRENT/PENDING_IMPORT CURRENT/IMPORTED" || key.State() != types.KeyStatePendingImport {
		t.Error(got, key.State())
	}
	wantCode(t, second2(im.c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})), "KMSInvalidStateException")
	named := func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialId = &first }
	wantCode(t, im.do(next, named), "IncorrectKeyMaterialException")
	if err := im.do(old, named); err != nil {
		t.Fatal(err)
	}
	if err := opens(); err != nil || key.State() != types.KeyStateEnabled {
		t.Error(err, key.State())
	}
	// Material that was never rotated to is forgotten when it is deleted.
	if err := im.do(third, asNew); err != nil {
		t.Fatal(err)
	}
	pending := fake.st.Keys[im.key].pendingMaterial().ID
	if _, err := im.c.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: id, KeyMaterialId: &pending}); err != nil {
		t.Fatal(err)
	}
	if got := states(); got != "NON_CURRENT/IMPORTED CURRENT/IMPORTED" || key.State() != types.KeyStateEnabled {
		t.Error(got, key.State())
	}
	wantCode(t, second2(im.c.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: id, KeyMaterialId: &pending})), "NotFoundException")
}

// Keys of other specs take their own kind of material, once.
func TestImportOfOtherKinds(t *testing.T) {
	fake := New(&Options{TB: t})
	ctx := context.Background()
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	im := externalKey(t, fake, kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP384, KeyUsage: usageSign})
	wantCode(t, im.do(encodePrivateKey(wrong), nil), "IncorrectKeyMaterialException")
	if err := im.do(encodePrivateKey(ec), nil); err != nil {
		t.Fatal(err)
	}
	out, err := im.c.Sign(ctx, &kms.SignInput{KeyId: aws.String(im.key), Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha384})
	if err != nil {
		t.Fatal(err)
	}
	digest := crypto.SHA384.New()
	digest.Write([]byte("m"))
	if !ecdsa.VerifyASN1(&ec.PublicKey, digest.Sum(nil), out.Signature) {
		t.Error("not signed with the imported key")
	}
	im = externalKey(t, fake, kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: usageEncrypt})
	_, err = im.c.GetParametersForImport(ctx, &kms.GetParametersForImportInput{KeyId: aws.String(im.key),
		WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa4096})
	wantCode(t, err, "ValidationException") // too long for RSA alone
	im.alg = types.AlgorithmSpecRsaAesKeyWrapSha256
	if err := im.do(encodePrivateKey(testRSA()), nil); err != nil {
		t.Fatal(err)
	}
	im = externalKey(t, fake, kms.CreateKeyInput{KeySpec: types.KeySpecHmac384, KeyUsage: usageMac})
	wantCode(t, im.do(randomMaterial(32), nil), "IncorrectKeyMaterialException")
	if err := im.do(randomMaterial(48), nil); err != nil {
		t.Fatal(err)
	}
	wantCode(t, im.do(randomMaterial(48), func(in *kms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeNewKeyMaterial }), "ValidationException")
	wantCode(t, im.do(randomMaterial(48), nil), "IncorrectKeyMaterialException")
}

// What cannot wrap is refused before anything is made: SM2 and PKCS #1 v1.5 in
// any case, SHA-1 where FIPS forbids it, and nowhere else.
func TestWrappingAlgorithms(t *testing.T) {
	fake := New(&Options{TB: t})
	im := externalKey(t, fake, kms.CreateKeyInput{})
	for alg, want := range map[types.AlgorithmSpec]string{
		types.AlgorithmSpecRsaesOaepSha256: "", types.AlgorithmSpecRsaAesKeyWrapSha256: "",
		types.AlgorithmSpecRsaesOaepSha1: "sha1", types.AlgorithmSpecRsaAesKeyWrapSha1: "sha1",
		types.AlgorithmSpecRsaesPkcs1V15: "UnsupportedOperationException", types.AlgorithmSpecSm2pke: "UnsupportedOperationException",
		"ROT13": "ValidationException",
	} {
		if want == "sha1" {
			want = ""
			if fips140.Enforced() {
				want = "UnsupportedOperationException"
			}
		}
		_, err := im.c.GetParametersForImport(context.Background(), &kms.GetParametersForImportInput{KeyId: aws.String(im.key),
			WrappingAlgorithm: alg, WrappingKeySpec: types.WrappingKeySpecRsa2048})
		if code(err) != want {
			t.Errorf("%s: %v, want %q", alg, err, want)
		}
		if err == nil {
			im.alg = alg
			im.key = externalKey(t, fake, kms.CreateKeyInput{}).key
			if err := im.do(randomMaterial(32), nil); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
		}
	}
	_, err := im.c.GetParametersForImport(context.Background(), &kms.GetParametersForImportInput{KeyId: aws.String(im.key),
		WrappingAlgorithm: types.AlgorithmSpecSm2pke, WrappingKeySpec: types.WrappingKeySpecSm2})
	wantCode(t, err, "UnsupportedOperationException")
	ours := fake.Account(customer).CreateKey("")
	for _, err := range []error{
		second2(im.c.GetParametersForImport(context.Background(), &kms.GetParametersForImportInput{KeyId: aws.String(ours.ARN()),
			WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048})),
		second2(im.c.DeleteImportedKeyMaterial(context.Background(), &kms.DeleteImportedKeyMaterialInput{KeyId: aws.String(ours.ARN())})),
	} {
		wantText(t, err, ours.ARN()+" origin is AWS_KMS which is not valid for this operation.")
	}
}
