package awskms

import (
	"errors"
	"strings"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/kmsfake"
)

// ReEncrypt is two permissions, each on its own key and each with the context. The lack of
// either is a denial that names the source; with both it works across accounts.
func TestReEncryptPermissions(t *testing.T) {
	const context = `"Condition":{"StringEquals":{"kms:EncryptionContext:tenant_id":"acme","kms:EncryptionContext:service":"example-saas"}}`
	policy := func(actions string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":["kms:GenerateDataKey","kms:Decrypt","kms:Encrypt"` + actions + `],"Resource":"*",` + context + `}]}`
	}
	for name, tt := range map[string]struct {
		from, to string
		want     byok.Class // 0: it works
	}{
		"both":        {`,"kms:ReEncryptFrom"`, `,"kms:ReEncryptTo"`, 0},
		"wildcard":    {`,"kms:ReEncrypt*"`, `,"kms:ReEncrypt*"`, 0},
		"neither":     {``, ``, byok.ClassDenied},
		"source only": {`,"kms:ReEncryptFrom"`, ``, byok.ClassDenied},
		"target only": {``, `,"kms:ReEncryptTo"`, byok.ClassDenied},
		"swapped":     {`,"kms:ReEncryptTo"`, `,"kms:ReEncryptFrom"`, byok.ClassDenied},
	} {
		t.Run(name, func(t *testing.T) {
			fake := kmsfake.New(&kmsfake.Options{TB: t})
			from := fake.Account(tenantAccount).CreateKey(policy(tt.from))
			to := fake.Account("444455556666").CreateKey(policy(tt.to))
			k := newFrom(t, fake.Client(role), nil)
			dek, w, err := k.GenerateDataKey(t.Context(), Key(from.ARN()), context4("acme"))
			if err != nil {
				t.Fatal(err)
			}
			fresh, err := k.RewrapDataKey(t.Context(), Key(from.ARN()), Key(to.ARN()), w.Bytes, context4("acme"))
			if tt.want != 0 {
				if ke := wantClass(t, err, "ReEncrypt", tt.want); ke.Key != Key(from.ARN()) || ke.RequestID == "" {
					t.Errorf("the error is about %v, request %q", ke.Key, ke.RequestID)
				}
				return
			}
			if err != nil || fresh.RequestID == "" || fresh.MaterialID == "" {
				t.Fatalf("%+v, %v", fresh.Receipt, err)
			}
			got, _, err := k.UnwrapDataKey(t.Context(), Key(to.ARN()), fresh.Bytes, context4("acme"))
			if err != nil {
				t.Fatal(err)
			}
			if err := got.Use(func(a []byte) error {
				return dek.Use(func(b []byte) error {
					if string(a) != string(b) {
						t.Error("another data key")
					}
					return nil
				})
			}); err != nil {
				t.Fatal(err)
			}
			// What is bound to a tenant stays bound: no context in which it could be moved to another's.
			_, err = k.RewrapDataKey(t.Context(), Key(from.ARN()), Key(to.ARN()), w.Bytes, context4("acmf"))
			wantClass(t, err, "ReEncrypt", byok.ClassDenied)
		})
	}
}

// Keys that no one request can name are told so, and nothing is sent; nor is a client asked
// for what it does not have.
func TestReEncryptUnsupported(t *testing.T) {
	elsewhere := strings.Replace(otherARN, "us-east-1", "eu-west-1", 1)
	china := strings.Replace(strings.Replace(otherARN, "us-east-1", "cn-north-1", 1), "arn:aws:", "arn:aws-cn:", 1)
	s := good()
	for name, tt := range map[string]struct {
		api API
		to  string
	}{
		"Regions":    {s, elsewhere},
		"partitions": {s, china},
		"client":     {struct{ API }{s}, otherARN},
	} {
		k := newFrom(t, tt.api, &Options{Partitions: []string{"aws", "aws-cn"}})
		w, err := k.RewrapDataKey(t.Context(), Key(testARN), Key(tt.to), []byte("wrapped"), context4("acme"))
		wantClass(t, err, "ReEncrypt", byok.ClassKeyID)
		if !errors.Is(err, errors.ErrUnsupported) || len(w.Bytes) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.calls != 0 {
		t.Errorf("%d requests", s.calls)
	}
}
