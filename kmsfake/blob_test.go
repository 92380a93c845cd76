package kmsfake

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"pgregory.net/rapid"
)

// fixture is a key, its account's client, and a blob.
type fixture struct {
	fake *KMS
	key  *Key
	c    *Client
	blob []byte
}

func newFixture(t testing.TB, ec map[string]string) *fixture {
	t.Helper()
	fake := New(&Options{TB: t})
	f := &fixture{fake: fake, key: fake.Account(customer).CreateKey(""), c: fake.Client(customer)}
	f.blob = f.encrypt(t, "thirty-two bytes of a secret key", ec)
	return f
}

func (f *fixture) encrypt(t testing.TB, plaintext string, ec map[string]string) []byte {
	t.Helper()
	out, err := f.c.Encrypt(context.Background(), &kms.EncryptInput{
		KeyId: aws.String(f.key.ARN()), Plaintext: []byte(plaintext), EncryptionContext: ec})
	if err != nil {
		t.Fatal(err)
	}
	return out.CiphertextBlob
}

func (f *fixture) decrypt(blob []byte, ec map[string]string, keyID ...string) (string, error) {
	in := &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: ec}
	if len(keyID) > 0 {
		in.KeyId = aws.String(keyID[0])
	}
	out, err := f.c.Decrypt(context.Background(), in)
	if err != nil {
		return "", err
	}
	return string(out.Plaintext), nil
}

func wantCode(t testing.TB, err error, want string) {
	t.Helper()
	if code(err) != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// Whatever bit is flipped, with and without a key id, the answer is the same:
// InvalidCiphertext, nothing about which part was wrong.
func TestEveryBitFlipIsRefused(t *testing.T) {
	f := newFixture(t, map[string]string{"tenant": "t1"})
	if n := len(f.blob); n < 150 || n > 190 {
		t.Errorf("a blob of a 32-byte key has %d bytes; AWS's have about 180", n)
	}
	for i := range len(f.blob) * 8 {
		bad := bytes.Clone(f.blob)
		bad[i/8] ^= 1 << (i % 8)
		_, err := f.decrypt(bad, map[string]string{"tenant": "t1"})
		if code(err) != "InvalidCiphertextException" {
			t.Fatalf("bit %d, without key id: %v", i, err)
		}
		if _, err = f.decrypt(bad, map[string]string{"tenant": "t1"}, f.key.ARN()); code(err) != "InvalidCiphertextException" {
			t.Fatalf("bit %d, with key id: %v", i, err)
		}
	}
	for n := range len(f.blob) {
		if _, err := f.decrypt(f.blob[:n:n], map[string]string{"tenant": "t1"}); err == nil {
			t.Fatalf("the first %d bytes open", n)
		}
	}
	wantCode(t, second(f.decrypt(append(bytes.Clone(f.blob), 0), map[string]string{"tenant": "t1"})), "InvalidCiphertextException")
}

func second[T any](_ T, err error) error { return err }

// The header is authenticated twice: by its tag, and as data of the ciphertext.
// Whoever could make tags still could not move a ciphertext to another key.
func TestCiphertextIsBoundToItsHeader(t *testing.T) {
	f := newFixture(t, nil)
	k := f.fake.st.Keys[f.key.ARN()]
	h, err := parseBlob(f.fake.st.Secret, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.open(k.current(), nil); err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(f.blob)
	forged[len(blobMagic)] ^= 1 // another account
	end := len(h.raw) - blobTag
	copy(forged[end:], headerTag(f.fake.st.Secret, forged[:end]))
	if h, err = parseBlob(f.fake.st.Secret, forged); err != nil {
		t.Fatal(err)
	}
	if _, err := h.open(k.current(), nil); err == nil {
		t.Error("a ciphertext opens under a header of another account")
	}
}

// A context opens only as it was, pair by pair and length by length.
func TestContextIsBound(t *testing.T) {
	contexts := []map[string]string{
		nil, {"a": "bc"}, {"ab": "c"}, {"abc": ""}, {"": "abc"}, {"a": "b", "c": ""}, {"a": "", "b": "c"},
		{"tenant": "t1"}, {"tenantt": "1"}, {"Tenant": "t1"}, {"tenant": "T1"}, {"tenant": "t1", "x": ""},
		{"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "1b2"}, {"a": "1", "b": "2", "c": "3"},
		{"a\x00": "b"}, {"a": "\x00b"}, {"a": "b\x01c"}, {"ä": "b"}, {"a\u0308": "b"},
	}
	f := newFixture(t, nil)
	pairs := 0
	for i, made := range contexts {
		blob := f.encrypt(t, "x", made)
		for j, given := range contexts {
			pairs++
			got, err := f.decrypt(blob, given, f.key.ARN())
			switch {
			case i == j && (err != nil || got != "x"):
				t.Errorf("%q does not open under itself: %v", made, err)
			case i != j && code(err) != "InvalidCiphertextException":
				t.Errorf("made under %q, given %q: %v", made, given, err)
			}
		}
	}
	t.Logf("%d pairs of contexts", pairs)
	// An empty map is no context.
	if _, err := f.decrypt(f.encrypt(t, "x", map[string]string{}), nil); err != nil {
		t.Error(err)
	}
}

// Material accumulates: all that was ever sealed opens, and tells under what.
func TestRotationKeepsOldCiphertexts(t *testing.T) {
	f := newFixture(t, nil)
	var blobs [][]byte
	var ids []string
	for range 4 {
		blobs = append(blobs, f.encrypt(t, "x", nil))
		ids = append(ids, f.key.MaterialID())
		f.key.Rotate()
	}
	for i, blob := range blobs {
		out, err := f.c.Decrypt(context.Background(), &kms.DecryptInput{CiphertextBlob: blob})
		if err != nil || *out.KeyMaterialId != ids[i] || len(ids[i]) != 64 || i > 0 && ids[i] == ids[i-1] {
			t.Errorf("generation %d: %v, %v", i, out, err)
		}
	}
	re, err := f.c.ReEncrypt(context.Background(), &kms.ReEncryptInput{CiphertextBlob: blobs[0], DestinationKeyId: aws.String(f.key.ID())})
	if err != nil || *re.SourceKeyMaterialId != ids[0] || *re.DestinationKeyMaterialId != f.key.MaterialID() {
		t.Errorf("ReEncrypt: %+v, %v", re, err)
	}
}

// Two keys, another Region, another KMS: a blob belongs to exactly one key.
func TestBlobBelongsToItsKey(t *testing.T) {
	f := newFixture(t, nil)
	other := f.fake.Account(customer).CreateKey("")
	wantCode(t, second(f.decrypt(f.blob, nil, other.ARN())), "IncorrectKeyException")
	wantCode(t, second(f.decrypt([]byte("no blob"), nil, other.ARN())), "InvalidCiphertextException")

	here := f.c
	f.c = here.Region("eu-west-1")
	wantCode(t, second(f.decrypt(f.blob, nil)), "AccessDeniedException")
	wantCode(t, second(f.decrypt(f.blob, nil, f.key.ARN())), "NotFoundException")
	f.c = here

	second1 := newFixture(t, nil)
	wantCode(t, second(second1.decrypt(f.blob, nil)), "InvalidCiphertextException")
	// The same wording whether the key is gone, or never was another's to use.
	f.key.Delete()
	gone := second(f.decrypt(f.blob, nil))
	wantCode(t, gone, "AccessDeniedException")
	if !strings.Contains(gone.Error(), "on the resource associated with this ciphertext because the resource does not exist in this Region") {
		t.Error(gone)
	}
}

// To a stranger, all reasons for no are one, but for the ARN he wrote himself.
func TestStrangersLearnNothing(t *testing.T) {
	fake := New(&Options{TB: t})
	policy := `{"Statement":{"Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":"kms:*","Resource":"*"}}`
	open := fake.Account(customer).CreateKey(policy)
	ctx, c := context.Background(), fake.Client(role)
	enc, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(open.ARN()), Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	removed, deleted, elsewhere := fake.Account(customer).CreateKey(""), fake.Account(customer).CreateKey(policy),
		fake.Account(customer).Region("eu-west-1").CreateKey(policy)
	deleted.Delete()
	off := fake.Account(customer).CreateKey("")
	off.Disable()
	never := keyARN(DefaultRegion, customer, newUUID())
	seen := make(map[string]string)
	for name, arn := range map[string]string{"policy removed": removed.ARN(), "deleted": deleted.ARN(), "another Region": elsewhere.ARN(),
		"disabled and not ours": off.ARN(), "never existed": never, "alias that never existed": aliasARN(DefaultRegion, customer, "alias/none")} {
		for op, call := range map[string]func() error{
			"Decrypt": func() error {
				_, err := c.Decrypt(ctx, &kms.DecryptInput{KeyId: &arn, CiphertextBlob: enc.CiphertextBlob})
				return err
			},
			"DescribeKey": func() error { _, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &arn}); return err },
		} {
			err := call()
			wantCode(t, err, "AccessDeniedException")
			text := err.Error()
			text = text[strings.Index(text, "User:"):]
			text = strings.ReplaceAll(text, arn, "ARN")
			if seen[op] == "" {
				seen[op] = text
			}
			if seen[op] != text {
				t.Errorf("%s, %s: %q, where others say %q", op, name, text, seen[op])
			}
		}
	}
	// An alias of theirs does not tell which key is behind it.
	owner := fake.Client(customer)
	if _, err := owner.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/theirs"), TargetKeyId: aws.String(removed.ID())}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(aliasARN(DefaultRegion, customer, "alias/theirs"))})
	if code(err) != "AccessDeniedException" || strings.Contains(err.Error(), removed.ID()) {
		t.Error(err)
	}
	// And without a key id: a removed policy and a deleted key.
	in := &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob}
	open.SetPolicy(defaultPolicy(DefaultRegion, customer))
	_, e1 := c.Decrypt(ctx, in)
	open.DenyTo(role)
	_, e2 := c.Decrypt(ctx, in)
	open.Delete()
	_, e3 := c.Decrypt(ctx, in)
	cut := func(err error) string { s := err.Error(); return s[strings.Index(s, "User:"):] }
	if cut(e1) != cut(e2) || cut(e2) != cut(e3) {
		t.Errorf("by blob:\n%v\n%v\n%v", e1, e2, e3)
	}
}

// No two contexts are the same bytes to the cipher, however they are cut.
func TestContextsAreInjective(t *testing.T) {
	text := rapid.StringMatching(`[ab\x00\x01]{0,3}`)
	contexts := rapid.MapOfN(text, text, 0, 3)
	header := rapid.SliceOfN(rapid.Byte(), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		h1, h2 := header.Draw(t, "h1"), header.Draw(t, "h2")
		a, b := contexts.Draw(t, "a"), contexts.Draw(t, "b")
		same := bytes.Equal(h1, h2) && maps.Equal(a, b)
		if bytes.Equal(additional(h1, a), additional(h2, b)) != same {
			t.Fatalf("%x %q and %x %q", h1, a, h2, b)
		}
	})
}
