package byok_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/kmsfake"
)

// wrappedBy makes a data key under a CMK, whoever's it is, with a tenant's exact
// context: what somebody could do whom KMS lets in.
func wrappedBy(t *testing.T, env *byoktest.Env, arn, tenant string, id byok.DataKeyID) (*byok.DEK, format.Recipient) {
	t.Helper()
	ec := byok.EncryptionContext{byok.ContextTenant: tenant, byok.ContextService: byoktest.Service,
		byok.ContextPurpose: "default", byok.ContextDataKey: id.String()}
	dek, w, err := env.Keys.GenerateDataKey(t.Context(), awskms.Key(arn), ec)
	want(t, "GenerateDataKey", err, nil)
	return dek, format.Recipient{Provider: awskms.Provider, Key: arn, Wrapped: w.Bytes}
}

// inside is the header of an envelope of acme's that carries its data key.
func inside(id byok.DataKeyID, recipients ...format.Recipient) format.Header {
	return format.Header{Suite: format.SuiteFLOE, Policy: format.PolicyANY, DataKey: id, Tenant: "acme", Recipients: recipients}
}

// openers are the three ways to open an envelope of acme's.
func openers(t *testing.T, env *byoktest.Env, cmk string) map[string]func([]byte) ([]byte, error) {
	t.Helper()
	alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
	want(t, "New", err, nil)
	t.Cleanup(func() { _ = alone.Close() })
	direct, err := byok.NewDirect(byoktest.Service, env.Keys, awskms.Key(cmk), env.Audit)
	want(t, "NewDirect", err, nil)
	by := func(o interface {
		Open(context.Context, byok.Scope, []byte, []byte) ([]byte, error)
	}) func([]byte) ([]byte, error) {
		return func(sealed []byte) ([]byte, error) {
			return o.Open(t.Context(), byok.Scope{Tenant: "acme"}, sealed, nil)
		}
	}
	return map[string]func([]byte) ([]byte, error){"leased": by(env.NewKeeper()), "per operation": by(alone), "direct": by(direct)}
}

// An envelope that names the attacker's CMK, which would answer: nobody is asked.
func TestD1_ForeignCMK(t *testing.T) {
	env := byoktest.New(t, nil)
	_, cmk := env.Tenant("acme")
	evil := env.Fake.Account("666666666666").CreateKey(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:*","Resource":"*"}]}`)
	id := byok.DataKeyID{1}
	dek, foreign := wrappedBy(t, env, evil.ARN(), "acme", id)
	sealed := forge(t, inside(id, foreign), dek, "default", "the attacker's words")
	for name, open := range openers(t, env, cmk.ARN()) {
		env.Fake.ResetCalls()
		plain, err := open(sealed)
		want(t, name, err, byok.ErrOpen)
		if n := len(env.Fake.Calls()); plain != nil || n != 0 {
			t.Errorf("%s: %q, %d KMS calls for a key that is not registered", name, plain, n)
		}
	}
}

// A long list of recipients costs nothing, and never more than the one request
// that the registered key is worth.
func TestD8_ManyRecipients(t *testing.T) {
	env := byoktest.New(t, nil)
	_, cmk := env.Tenant("acme")
	id := byok.DataKeyID{8}
	dek, own := wrappedBy(t, env, cmk.ARN(), "acme", id)
	var foreign []format.Recipient
	for i := range 9 {
		foreign = append(foreign, format.Recipient{Provider: awskms.Provider, Wrapped: own.Wrapped,
			Key: fmt.Sprintf("arn:aws:kms:us-east-1:000000000000:key/%08d-0000-0000-0000-000000000000", i)})
	}
	eight := forge(t, inside(id, foreign[:8]...), dek, "default", "x")
	count := bytes.Index(eight, []byte{8, byte(len(awskms.Provider))}) // the number of recipients, before the first
	nine := bytes.Clone(eight)
	nine[count] = 9
	junk := own
	junk.Wrapped = append(bytes.Clone(own.Wrapped[:len(own.Wrapped)-1]), own.Wrapped[len(own.Wrapped)-1]^1)
	for name, open := range openers(t, env, cmk.ARN()) {
		for _, c := range []struct {
			what   string
			sealed []byte
			calls  int
			err    error
		}{
			{"8 foreign", eight, 0, byok.ErrOpen},
			{"9", nine, 0, byok.ErrMalformed},
			{"7 foreign, and ours, which is junk", forge(t, inside(id, append(foreign[:7:7], junk)...), dek, "default", "x"), 1, byok.ErrOpen},
			{"7 foreign, and ours", forge(t, inside(id, append(foreign[:7:7], own)...), dek, "default", "x"), 1, nil},
		} {
			env.Fake.ResetCalls()
			_, err := open(c.sealed)
			want(t, name+": "+c.what, err, c.err)
			if n := len(env.Fake.Calls()); n != c.calls {
				t.Errorf("%s: %s: %d KMS calls, want %d", name, c.what, n, c.calls)
			}
		}
	}
	wide := inside(id, foreign...)
	if _, err := wide.Append(nil); err == nil {
		t.Error("9 recipients were written")
	}
}

// Whatever takes a key away is a denial and stops everything: a grant that is
// retired or revoked, a key store that is not there, material that is gone, each
// of the states in which KMS refuses.
func TestD18_EveryWayToTakeAKeyAway(t *testing.T) {
	refused := map[string]func(t *testing.T, env *byoktest.Env, cmk fakeKey) (back func()){
		"grant retired": func(t *testing.T, env *byoktest.Env, cmk fakeKey) func() {
			return onGrant(t, env, cmk, func(root kmsGrants, id string) {
				_, err := root.RetireGrant(t.Context(), &kms.RetireGrantInput{KeyId: aws.String(cmk.ARN()), GrantId: aws.String(id)})
				want(t, "RetireGrant", err, nil)
			})
		},
		"grant revoked": func(t *testing.T, env *byoktest.Env, cmk fakeKey) func() {
			return onGrant(t, env, cmk, func(root kmsGrants, id string) {
				_, err := root.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: aws.String(cmk.ARN()), GrantId: aws.String(id)})
				want(t, "RevokeGrant", err, nil)
			})
		},
	}
	for _, state := range []types.KeyState{types.KeyStateDisabled, types.KeyStateUnavailable, types.KeyStateCreating} {
		refused["state "+string(state)] = func(_ *testing.T, _ *byoktest.Env, cmk fakeKey) func() {
			cmk.SetState(state)
			return cmk.Enable
		}
	}
	refused["deletion scheduled"] = func(_ *testing.T, _ *byoktest.Env, cmk fakeKey) func() {
		cmk.ScheduleDeletion(7)
		return func() { cmk.CancelDeletion(); cmk.Enable() }
	}
	for _, code := range []string{"CustomKeyStoreInvalidStateException", "CloudHsmClusterNotActiveException", "XksProxyUriUnreachableException",
		"XksKeyNotFoundException", "XksProxyInvalidResponseException", "KMSInvalidStateException"} {
		refused[code] = func(_ *testing.T, env *byoktest.Env, _ fakeKey) func() {
			return env.Fake.Inject(kmsfake.Fault{Code: code})
		}
	}
	for name, take := range refused {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := byoktest.New(t, &byoktest.Options{Keeper: quietly(byok.Options{})})
				_, cmk := env.Tenant("acme")
				sealed := seal(t, env.Keeper, "acme", "x", "")
				back := take(t, env, cmk)
				time.Sleep(byok.DefaultMaxAge)
				env.Fake.ResetCalls()
				for range 5 {
					_, err := open(t, env.Keeper, "acme", sealed, "")
					want(t, "Open", err, byok.ErrKeyDenied)
					_, err = env.Keeper.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: "new"}, nil, nil)
					want(t, "Seal", err, byok.ErrKeyDenied)
				}
				if n := len(env.Fake.Calls()); n != 1 {
					t.Errorf("%d KMS calls: a denial was retried", n)
				}
				st, err := env.Keeper.Tenant("acme").Status(t.Context())
				if want(t, "Status", err, nil); st.Status != byok.StatusDisabled || st.Access != byok.AccessBlocked {
					t.Errorf("%+v", st)
				}
				back()
				time.Sleep(31 * time.Second)
				mustOpen(t, env.Keeper, "acme", sealed, "", "x")
			})
		})
	}
}

type fakeKey interface {
	ARN() string
	SetPolicy(string)
	SetState(types.KeyState)
	Enable()
	ScheduleDeletion(days int)
	CancelDeletion()
}

type kmsGrants interface {
	CreateGrant(context.Context, *kms.CreateGrantInput, ...func(*kms.Options)) (*kms.CreateGrantOutput, error)
	RetireGrant(context.Context, *kms.RetireGrantInput, ...func(*kms.Options)) (*kms.RetireGrantOutput, error)
	RevokeGrant(context.Context, *kms.RevokeGrantInput, ...func(*kms.Options)) (*kms.RevokeGrantOutput, error)
}

// onGrant lets the platform in by a grant alone, proves that it is in, and takes
// the grant away with end. back grants anew.
func onGrant(t *testing.T, env *byoktest.Env, cmk fakeKey, end func(root kmsGrants, id string)) (back func()) {
	const owner = "arn:aws:iam::" + byoktest.Account + ":root"
	root := env.Fake.Client(owner)
	cmk.SetPolicy(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + owner + `"},"Action":"kms:*","Resource":"*"}]}`)
	grant := func() string {
		out, err := root.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: aws.String(cmk.ARN()), GranteePrincipal: aws.String(byoktest.PlatformRole),
			RetiringPrincipal: aws.String(owner), Operations: []types.GrantOperation{"GenerateDataKey", "Encrypt", "Decrypt"},
			Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{byok.ContextTenant: "acme", byok.ContextService: byoktest.Service}}})
		want(t, "CreateGrant", err, nil)
		return *out.GrantId
	}
	id := grant()
	k := env.NewKeeper()
	_, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: "by-grant"}, nil, nil)
	want(t, "Seal by a grant", err, nil)
	want(t, "Close", k.Close(), nil)
	end(root, id)
	return func() { grant() }
}
