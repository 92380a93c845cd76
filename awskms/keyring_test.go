package awskms

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/keyringtest"
	"github.com/byok-go/byok/kmsfake"
)

// TestConformance runs the suite on the fake in process, and on a real
// *kms.Client that speaks to the fake's wire protocol, with one client given and
// with clients made on demand.
func TestConformance(t *testing.T) {
	open := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":"kms:*","Resource":"*"}]}`
	for name, keyring := range map[string]func(*testing.T, *kmsfake.KMS) (*Keyring, error){
		"in process": func(_ *testing.T, fake *kmsfake.KMS) (*Keyring, error) { return NewFromClient(fake.Client(role), nil) },
		"wire": func(t *testing.T, fake *kmsfake.KMS) (*Keyring, error) {
			cfg := onWire(t, fake)
			cfg.Region = "us-east-1"
			return NewFromClient(kms.NewFromConfig(cfg), nil)
		},
		"wire, client per Region": func(t *testing.T, fake *kmsfake.KMS) (*Keyring, error) { return New(onWire(t, fake), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			fake := kmsfake.New(&kmsfake.Options{TB: t})
			owner := fake.Account(tenantAccount)
			other := fake.Account("444455556666")
			if name == "wire, client per Region" {
				other = other.Region("eu-west-1")
			}
			one, two := owner.CreateKey(open), other.CreateKey(open)
			k, err := keyring(t, fake)
			if err != nil {
				t.Fatal(err)
			}
			h := keyringtest.Harness{
				Keyring: k, Key: Key(one.ARN()), Other: Key(two.ARN()),
				Calls:   func() int { return len(fake.Calls()) },
				Disable: func(key byok.KeyID) { owner.Key(key.ID).Disable() },
				Enable:  func(key byok.KeyID) { owner.Key(key.ID).Enable() },
				Stall:   func() func() { fake.Latency(time.Minute); return func() { fake.Latency(0) } },
			}
			for _, ids := range badARNs {
				for _, id := range ids {
					h.BadKeys = append(h.BadKeys, Key(id))
				}
			}
			keyringtest.Run(t, h)
		})
	}
}

// good answers every operation as KMS would.
func good() *stub {
	return &stub{
		generate: func(_ context.Context, in *kms.GenerateDataKeyInput) (*kms.GenerateDataKeyOutput, error) {
			return &kms.GenerateDataKeyOutput{KeyId: in.KeyId, Plaintext: bytes.Repeat([]byte{1}, 32), CiphertextBlob: []byte("wrapped"), KeyMaterialId: aws.String("0a")}, nil
		},
		encrypt: func(_ context.Context, in *kms.EncryptInput) (*kms.EncryptOutput, error) {
			return &kms.EncryptOutput{KeyId: in.KeyId, CiphertextBlob: []byte("wrapped")}, nil
		},
		decrypt: func(_ context.Context, in *kms.DecryptInput) (*kms.DecryptOutput, error) {
			return &kms.DecryptOutput{KeyId: in.KeyId, Plaintext: bytes.Repeat([]byte{1}, 32), KeyMaterialId: aws.String("0a")}, nil
		},
		describe: func(_ context.Context, in *kms.DescribeKeyInput) (*kms.DescribeKeyOutput, error) {
			return &kms.DescribeKeyOutput{KeyMetadata: &types.KeyMetadata{Arn: in.KeyId, KeyState: types.KeyStateEnabled}}, nil
		},
		rewrap: func(_ context.Context, in *kms.ReEncryptInput) (*kms.ReEncryptOutput, error) {
			return &kms.ReEncryptOutput{SourceKeyId: in.SourceKeyId, KeyId: in.DestinationKeyId, CiphertextBlob: []byte("wrapped anew"), DestinationKeyMaterialId: aws.String("0b")}, nil
		},
	}
}

// D2, C8, D16: an answer about another key, of another size, or none at all is
// ClassInternal, nothing of it is returned, and what was secret in it is wiped.
func TestD2_C8_D16_WrongAnswers(t *testing.T) {
	other := arn("aws", "kms", "us-east-1", tenantAccount, "key/00000000-90ab-cdef-1234-567890abcdef")
	var last []byte // the plaintext of the answer
	generate := func(change func(*kms.GenerateDataKeyOutput)) func(*stub) {
		return func(s *stub) {
			right := s.generate
			s.generate = func(ctx context.Context, in *kms.GenerateDataKeyInput) (*kms.GenerateDataKeyOutput, error) {
				out, err := right(ctx, in)
				change(out)
				last = out.Plaintext
				return out, err
			}
		}
	}
	decrypt := func(change func(*kms.DecryptOutput)) func(*stub) {
		return func(s *stub) {
			right := s.decrypt
			s.decrypt = func(ctx context.Context, in *kms.DecryptInput) (*kms.DecryptOutput, error) {
				out, err := right(ctx, in)
				change(out)
				last = out.Plaintext
				return out, err
			}
		}
	}
	encrypt := func(change func(*kms.EncryptOutput)) func(*stub) {
		return func(s *stub) {
			right := s.encrypt
			s.encrypt = func(ctx context.Context, in *kms.EncryptInput) (*kms.EncryptOutput, error) {
				out, err := right(ctx, in)
				change(out)
				last = nil
				return out, err
			}
		}
	}
	rewrap := func(change func(*kms.ReEncryptOutput)) func(*stub) {
		return func(s *stub) {
			right := s.rewrap
			s.rewrap = func(ctx context.Context, in *kms.ReEncryptInput) (*kms.ReEncryptOutput, error) {
				out, err := right(ctx, in)
				change(out)
				last = nil
				return out, err
			}
		}
	}
	key := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	for name, tt := range map[string]struct {
		op     string
		inject func(*stub)
	}{
		"generate, another key":   {"GenerateDataKey", generate(func(o *kms.GenerateDataKeyOutput) { o.KeyId = &other })},
		"generate, no key":        {"GenerateDataKey", generate(func(o *kms.GenerateDataKeyOutput) { o.KeyId = nil })},
		"generate, key id":        {"GenerateDataKey", generate(func(o *kms.GenerateDataKeyOutput) { o.KeyId = aws.String(uuid) })},
		"generate, 0 bytes":       {"GenerateDataKey", generate(func(o *kms.GenerateDataKeyOutput) { o.Plaintext = nil })},
		"generate, 16 bytes":      {"GenerateDataKey", generate(func(o *kms.GenerateDataKeyOutput) { o.Plaintext = key(16) })},
		"generate, 31 bytes":      {"GenerateDataKey", generate(func(o *kms.GenerateDataKeyOutput) { o.Plaintext = key(31) })},
		"generate, 33 bytes":      {"GenerateDataKey", generate(func(o *kms.GenerateDataKeyOutput) { o.Plaintext = key(33) })},
		"generate, no ciphertext": {"GenerateDataKey", generate(func(o *kms.GenerateDataKeyOutput) { o.CiphertextBlob = nil })},
		"generate, 6145 bytes":    {"GenerateDataKey", generate(func(o *kms.GenerateDataKeyOutput) { o.CiphertextBlob = key(6145) })},
		"decrypt, another key":    {"Decrypt", decrypt(func(o *kms.DecryptOutput) { o.KeyId = &other })},
		"decrypt, no key":         {"Decrypt", decrypt(func(o *kms.DecryptOutput) { o.KeyId = nil })},
		"decrypt, 0 bytes":        {"Decrypt", decrypt(func(o *kms.DecryptOutput) { o.Plaintext = []byte{} })},
		"decrypt, 31 bytes":       {"Decrypt", decrypt(func(o *kms.DecryptOutput) { o.Plaintext = key(31) })},
		"decrypt, 33 bytes":       {"Decrypt", decrypt(func(o *kms.DecryptOutput) { o.Plaintext = key(33) })},
		"encrypt, another key":    {"Encrypt", encrypt(func(o *kms.EncryptOutput) { o.KeyId = &other })},
		"encrypt, no ciphertext":  {"Encrypt", encrypt(func(o *kms.EncryptOutput) { o.CiphertextBlob = []byte{} })},
		"encrypt, 6145 bytes":     {"Encrypt", encrypt(func(o *kms.EncryptOutput) { o.CiphertextBlob = key(6145) })},
		"rewrap, another source":  {"ReEncrypt", rewrap(func(o *kms.ReEncryptOutput) { o.SourceKeyId = &other })},
		"rewrap, no source":       {"ReEncrypt", rewrap(func(o *kms.ReEncryptOutput) { o.SourceKeyId = nil })},
		"rewrap, another target":  {"ReEncrypt", rewrap(func(o *kms.ReEncryptOutput) { o.KeyId = &other })},
		"rewrap, no target":       {"ReEncrypt", rewrap(func(o *kms.ReEncryptOutput) { o.KeyId = nil })},
		"rewrap, no ciphertext":   {"ReEncrypt", rewrap(func(o *kms.ReEncryptOutput) { o.CiphertextBlob = nil })},
		"rewrap, 6145 bytes":      {"ReEncrypt", rewrap(func(o *kms.ReEncryptOutput) { o.CiphertextBlob = key(6145) })},
		"rewrap, nil": {"ReEncrypt", func(s *stub) {
			s.rewrap = func(context.Context, *kms.ReEncryptInput) (*kms.ReEncryptOutput, error) { return nil, nil }
		}},
		"describe, another key": {"DescribeKey", func(s *stub) {
			s.describe = func(context.Context, *kms.DescribeKeyInput) (*kms.DescribeKeyOutput, error) {
				return &kms.DescribeKeyOutput{KeyMetadata: &types.KeyMetadata{Arn: &other}}, nil
			}
		}},
		"describe, nothing": {"DescribeKey", func(s *stub) {
			s.describe = func(context.Context, *kms.DescribeKeyInput) (*kms.DescribeKeyOutput, error) {
				return &kms.DescribeKeyOutput{}, nil
			}
		}},
		"generate, nil": {"GenerateDataKey", func(s *stub) {
			s.generate = func(context.Context, *kms.GenerateDataKeyInput) (*kms.GenerateDataKeyOutput, error) { return nil, nil }
		}},
		"encrypt, nil": {"Encrypt", func(s *stub) {
			s.encrypt = func(context.Context, *kms.EncryptInput) (*kms.EncryptOutput, error) { return nil, nil }
		}},
		"decrypt, nil": {"Decrypt", func(s *stub) {
			s.decrypt = func(context.Context, *kms.DecryptInput) (*kms.DecryptOutput, error) { return nil, nil }
		}},
		"describe, nil": {"DescribeKey", func(s *stub) {
			s.describe = func(context.Context, *kms.DescribeKeyInput) (*kms.DescribeKeyOutput, error) { return nil, nil }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			last = nil
			s := good()
			tt.inject(s)
			wantClass(t, operations(t, newFrom(t, s, nil))[tt.op](t.Context(), Key(testARN)), tt.op, byok.ClassInternal)
			if slices.ContainsFunc(last, func(b byte) bool { return b != 0 }) {
				t.Error("the plaintext of the wrong answer was not wiped")
			}
		})
	}
	for op, call := range operations(t, newFrom(t, good(), nil)) {
		if err := call(t.Context(), Key(testARN)); err != nil {
			t.Errorf("the right answer to %s: %v", op, err)
		}
	}
}

// The plaintext of a right answer is wiped too, and so is the copy that was sent.
func TestPlaintextIsWiped(t *testing.T) {
	s := good()
	var seen [][]byte
	generate, decrypt := s.generate, s.decrypt
	s.generate = func(ctx context.Context, in *kms.GenerateDataKeyInput) (*kms.GenerateDataKeyOutput, error) {
		out, err := generate(ctx, in)
		seen = append(seen, out.Plaintext)
		return out, err
	}
	s.decrypt = func(ctx context.Context, in *kms.DecryptInput) (*kms.DecryptOutput, error) {
		out, err := decrypt(ctx, in)
		seen = append(seen, out.Plaintext)
		return out, err
	}
	sent := 0
	s.encrypt = func(_ context.Context, in *kms.EncryptInput) (*kms.EncryptOutput, error) {
		seen, sent = append(seen, in.Plaintext), len(in.Plaintext)
		if bytes.Equal(in.Plaintext, make([]byte, 32)) {
			t.Error("zeros were sent")
		}
		return nil, errStub
	}
	for _, call := range operations(t, newFrom(t, s, nil)) {
		_ = call(t.Context(), Key(testARN))
	}
	if len(seen) != 3 || sent != 32 {
		t.Fatalf("%d plaintexts, %d bytes sent", len(seen), sent)
	}
	for _, b := range seen {
		if !bytes.Equal(b, make([]byte, 32)) {
			t.Error("a plaintext data key was left behind")
		}
	}
}

// A purge must not wait for KMS: the data key can be wiped while it is being wrapped.
func TestWipeDoesNotWaitForKMS(t *testing.T) {
	s, started, release := good(), make(chan struct{}), make(chan struct{})
	s.encrypt = func(_ context.Context, in *kms.EncryptInput) (*kms.EncryptOutput, error) {
		close(started)
		<-release
		return &kms.EncryptOutput{KeyId: in.KeyId, CiphertextBlob: []byte("wrapped")}, nil
	}
	k, dek, done := newFrom(t, s, nil), newDEK(t), make(chan error, 1)
	go func() {
		_, err := k.WrapDataKey(context.Background(), Key(testARN), dek, nil)
		done <- err
	}()
	<-started
	wiped := make(chan struct{})
	go func() { dek.Wipe(); close(wiped) }()
	select {
	case <-wiped:
	case <-time.After(5 * time.Second):
		t.Error("Wipe waits for the request")
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// request is one that the SDK would have sent.
type request struct {
	target string
	body   map[string]any
}

// D3, D13: what is sent is the key ARN, the encryption context exactly, and
// nothing else.
func TestD3_D13_Requests(t *testing.T) {
	var got []request
	k := newFrom(t, realClient(func(r *http.Request) (*http.Response, error) {
		req := request{target: r.Header.Get("X-Amz-Target")}
		b, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(b, &req.body)
		}
		if err != nil {
			t.Error(err)
		}
		delete(req.body, "Plaintext")
		got = append(got, req)
		return answer(400, "id", `{"__type":"DisabledException"}`), nil
	}), nil)
	for _, ec := range []byok.EncryptionContext{context4("acme"), {byok.ContextTenant: "probe-1"}, {}, nil} {
		got = nil
		given := maps.Clone(ec)
		_, _, _ = k.GenerateDataKey(t.Context(), Key(testARN), given)
		_, _ = k.WrapDataKey(t.Context(), Key(testARN), newDEK(t), given)
		_, _, _ = k.UnwrapDataKey(t.Context(), Key(testARN), []byte("wrapped"), given)
		_, _ = k.RewrapDataKey(t.Context(), Key(testARN), Key(otherARN), []byte("wrapped"), given)
		_, _ = k.DescribeKey(t.Context(), Key(testARN))
		with := func(body map[string]any) map[string]any {
			body["KeyId"] = testARN
			if len(ec) > 0 {
				m := make(map[string]any)
				for k, v := range ec {
					m[k] = v
				}
				body["EncryptionContext"] = m
			}
			return body
		}
		// Both keys are named, and both contexts are the one that was given.
		rewrap := map[string]any{"CiphertextBlob": "d3JhcHBlZA==", "SourceKeyId": testARN, "DestinationKeyId": otherARN}
		if ec, ok := with(map[string]any{})["EncryptionContext"]; ok {
			rewrap["SourceEncryptionContext"], rewrap["DestinationEncryptionContext"] = ec, ec
		}
		want := []request{
			{"TrentService.GenerateDataKey", with(map[string]any{"KeySpec": "AES_256"})},
			{"TrentService.Encrypt", with(map[string]any{})},
			{"TrentService.Decrypt", with(map[string]any{"CiphertextBlob": "d3JhcHBlZA=="})},
			{"TrentService.ReEncrypt", rewrap},
			{"TrentService.DescribeKey", map[string]any{"KeyId": testARN}},
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(request{})); d != "" {
			t.Errorf("context %v (-want +got):\n%s", ec, d)
		}
		if !maps.Equal(given, ec) {
			t.Error("the context was changed")
		}
	}
}

// What the API keeps of its inputs must not be the caller's memory.
func TestI_7_InputsAreCopies(t *testing.T) {
	s := good()
	var kept map[string]string
	var blob []byte
	s.decrypt = func(_ context.Context, in *kms.DecryptInput) (*kms.DecryptOutput, error) {
		kept, blob = in.EncryptionContext, in.CiphertextBlob
		return nil, errStub
	}
	ec, wrapped := context4("acme"), []byte("wrapped")
	_, _, _ = newFrom(t, s, nil).UnwrapDataKey(t.Context(), Key(testARN), wrapped, ec)
	kept["x"], blob[0] = "y", 'X'
	if ec["x"] != "" || wrapped[0] != 'w' {
		t.Error("the API has the caller's map or bytes")
	}
}

// D12: one attempt, although the client was made to retry; a denial is not
// turned into a success by a second one.
func TestD12_OneAttempt(t *testing.T) {
	eager := []func(*kms.Options){
		func(o *kms.Options) { o.RetryMaxAttempts = 7 },
		func(o *kms.Options) { o.RetryMode = aws.RetryModeAdaptive },
		func(o *kms.Options) {
			o.Retryer = retry.NewStandard(func(so *retry.StandardOptions) {
				so.MaxAttempts = 9
				so.Retryables = append(so.Retryables, retry.IsErrorRetryableFunc(func(error) aws.Ternary { return aws.TrueTernary }))
			})
		},
	}
	for code, class := range map[string]byok.Class{
		"DisabledException": byok.ClassDenied, "ThrottlingException": byok.ClassThrottled, "KMSInternalException": byok.ClassOutage,
	} {
		for _, change := range eager {
			var sent int
			k := newFrom(t, realClient(func(r *http.Request) (*http.Response, error) {
				if sent++; sent > 1 {
					return answer(200, "id", `{"KeyId":"`+testARN+`","Plaintext":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`), nil
				}
				status := 400
				if class == byok.ClassOutage {
					status = 500
				}
				return answer(status, "id", `{"__type":"`+code+`"}`), nil
			}, change), nil)
			wantClass(t, operations(t, k)["Decrypt"](t.Context(), Key(testARN)), "Decrypt", class)
			if sent != 1 {
				t.Errorf("%s: %d requests", code, sent)
			}
		}
	}
}

// D12: an attempt ends at AttemptTimeout, also while credentials are awaited.
func TestD12_AttemptTimeout(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, tt := range map[string]struct {
		client *kms.Client
		class  byok.Class
	}{
		"KMS": {realClient(func(r *http.Request) (*http.Response, error) { return nil, hang(r.Context()) }), byok.ClassOutage},
		"credentials": {realClient(nil, func(o *kms.Options) {
			o.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) { return aws.Credentials{}, hang(ctx) })
		}), byok.ClassPlatform},
	} {
		k := newFrom(t, tt.client, &Options{AttemptTimeout: 50 * time.Millisecond})
		start := time.Now()
		ke := wantClass(t, operations(t, k)["Decrypt"](t.Context(), Key(testARN)), "Decrypt", tt.class)
		if !errors.Is(ke, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, ke.Err)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("%s: it took %v", name, d)
		}
	}
}

// Receipts carry the request ids that the customer sees, and the key material.
func TestReceipts(t *testing.T) {
	fake, key := newFake(t)
	k, err := New(onWire(t, fake), nil)
	if err != nil {
		t.Fatal(err)
	}
	dek, w, err := k.GenerateDataKey(t.Context(), Key(key.ARN()), context4("acme"))
	if err != nil {
		t.Fatal(err)
	}
	w2, err := k.WrapDataKey(t.Context(), Key(key.ARN()), dek, context4("acme"))
	if err != nil {
		t.Fatal(err)
	}
	_, r, err := k.UnwrapDataKey(t.Context(), Key(key.ARN()), w2.Bytes, context4("acme"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := k.DescribeKey(t.Context(), Key(key.ARN()))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = k.UnwrapDataKey(t.Context(), Key(key.ARN()), w2.Bytes, context4("initech"))
	var ke *byok.KeyError
	if !errors.As(err, &ke) {
		t.Fatal(err)
	}
	got := []string{w.RequestID, w2.RequestID, r.RequestID, info.Receipt.RequestID, ke.RequestID}
	var want []string
	for _, c := range fake.Calls() {
		want = append(want, c.RequestID)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("request ids (-fake +ours):\n%s", d)
	}
	if m := key.MaterialID(); m == "" || w.MaterialID != m || r.MaterialID != m || info.MaterialID != m {
		t.Errorf("material ids: %q, %q, %q; want %q", w.MaterialID, r.MaterialID, info.MaterialID, m)
	}
}

func TestDescribeKey(t *testing.T) {
	fake, key := newFake(t)
	k := newFrom(t, fake.Client(role), nil)
	info, err := k.DescribeKey(t.Context(), Key(key.ARN()))
	if err != nil || info.State != "Enabled" || !info.DeletionAt.IsZero() {
		t.Errorf("%+v, %v", info, err)
	}
	key.ScheduleDeletion(7)
	info, err = k.DescribeKey(t.Context(), Key(key.ARN()))
	if err != nil || info.State != "PendingDeletion" || time.Until(info.DeletionAt) < 6*24*time.Hour {
		t.Errorf("%+v, %v", info, err)
	}
	// D17: what DescribeKey says is no proof, and D18: the state is a denial.
	wantClass(t, operations(t, k)["GenerateDataKey"](t.Context(), Key(key.ARN())), "GenerateDataKey", byok.ClassDenied)
}

// The Keyring goes with the three permissions alone.
func TestThreePermissions(t *testing.T) {
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	key := fake.Account(tenantAccount).CreateKey(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + role +
		`"},"Action":["kms:Encrypt","kms:Decrypt","kms:GenerateDataKey"],"Resource":"*"}}`)
	k := newFrom(t, fake.Client(role), nil)
	dek, w, err := k.GenerateDataKey(t.Context(), Key(key.ARN()), context4("acme"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.WrapDataKey(t.Context(), Key(key.ARN()), dek, context4("acme")); err != nil {
		t.Error(err)
	}
	if _, _, err := k.UnwrapDataKey(t.Context(), Key(key.ARN()), w.Bytes, context4("acme")); err != nil {
		t.Error(err)
	}
	_, err = k.DescribeKey(t.Context(), Key(key.ARN()))
	wantClass(t, err, "DescribeKey", byok.ClassDenied)
}
