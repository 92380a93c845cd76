package byok_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// oddKeyring misbehaves as a test wants it to (threat D16).
type oddKeyring struct {
	byok.Keyring
	generate func() (*byok.DEK, byok.Wrapped, error)
	unwrap   func(ctx context.Context, wrapped []byte) (*byok.DEK, byok.Receipt, error)
}

func (o *oddKeyring) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	if o.generate != nil {
		return o.generate()
	}
	return o.Keyring.GenerateDataKey(ctx, key, ec)
}

func (o *oddKeyring) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	clear(ec) // it is ours to keep or to spoil
	ec["tenant_id"] = "spoiled"
	if o.unwrap != nil {
		return o.unwrap(ctx, wrapped)
	}
	return nil, byok.Receipt{}, errors.New("not asked for")
}

func TestD16_OddKeyrings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{Logger: slog.New(slog.DiscardHandler)}})
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		var leaked *byok.DEK
		for _, c := range []struct {
			name string
			odd  oddKeyring
			err  error
		}{
			{"nothing", oddKeyring{unwrap: func(context.Context, []byte) (*byok.DEK, byok.Receipt, error) {
				return nil, byok.Receipt{}, nil
			}}, byok.ErrInternal},
			{"an error of its own", oddKeyring{unwrap: func(context.Context, []byte) (*byok.DEK, byok.Receipt, error) {
				return nil, byok.Receipt{}, errors.New("secret detail")
			}}, byok.ErrKeyUnavailable},
			{"an error without a class", oddKeyring{unwrap: func(context.Context, []byte) (*byok.DEK, byok.Receipt, error) {
				return nil, byok.Receipt{}, &byok.KeyError{Op: "Decrypt"}
			}}, byok.ErrKeyUnavailable},
			{"a class of the future", oddKeyring{unwrap: func(context.Context, []byte) (*byok.DEK, byok.Receipt, error) {
				return nil, byok.Receipt{}, &byok.KeyError{Class: 200}
			}}, byok.ErrKeyUnavailable},
			{"a key beside a denial", oddKeyring{unwrap: func(context.Context, []byte) (*byok.DEK, byok.Receipt, error) {
				leaked, _ = byok.NewDEK(make([]byte, 32))
				return leaked, byok.Receipt{}, &byok.KeyError{Class: byok.ClassDenied}
			}}, byok.ErrKeyDenied},
			{"a panic", oddKeyring{unwrap: func(context.Context, []byte) (*byok.DEK, byok.Receipt, error) {
				panic("secret detail")
			}}, byok.ErrInternal},
			{"the end of its goroutine", oddKeyring{unwrap: func(context.Context, []byte) (*byok.DEK, byok.Receipt, error) {
				runtime.Goexit()
				return nil, byok.Receipt{}, nil
			}}, byok.ErrInternal},
			{"another key", oddKeyring{unwrap: func(context.Context, []byte) (*byok.DEK, byok.Receipt, error) {
				d, err := byok.NewDEK(bytes.Repeat([]byte{7}, 32))
				return d, byok.Receipt{}, err
			}}, byok.ErrOpen},
		} {
			k, err := byok.New(byoktest.Service, &c.odd, env.Store, env.Audit, &byok.Options{Logger: slog.New(slog.DiscardHandler)})
			want(t, "New", err, nil)
			_, err = open(t, k, "acme", sealed, "")
			want(t, c.name, err, c.err)
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: its text leaks: %v", c.name, err)
			}
			want(t, "Close", k.Close(), nil)
		}
		if leaked.Use(func([]byte) error { return nil }) == nil {
			t.Error("a key beside an error was not wiped")
		}
	})
}

// spoilKeyring spoils the contexts that it is given, and remembers the keys that it gave.
type spoilKeyring struct {
	byok.Keyring
	mu    sync.Mutex
	given []*byok.DEK
}

func (s *spoilKeyring) gave(d *byok.DEK, ec byok.EncryptionContext) {
	for k := range ec {
		ec[k] = "spoiled"
	}
	if d != nil {
		s.mu.Lock()
		s.given = append(s.given, d)
		s.mu.Unlock()
	}
}

func (s *spoilKeyring) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	d, w, err := s.Keyring.GenerateDataKey(ctx, key, ec)
	s.gave(d, ec)
	return d, w, err
}

func (s *spoilKeyring) WrapDataKey(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
	w, err := s.Keyring.WrapDataKey(ctx, key, dek, ec)
	s.gave(nil, ec)
	return w, err
}

func (s *spoilKeyring) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	d, r, err := s.Keyring.UnwrapDataKey(ctx, key, wrapped, ec)
	s.gave(d, ec)
	clear(wrapped)
	return d, r, err
}

// Every data key that a KMS ever gave is wiped: what was used once at once, what
// was cached at its end, all of it by Close (I10, I20). And a Keyring that
// spoils what it is given harms nobody.
func TestI20_E20_EveryKeyIsWiped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, o := range []byok.Options{{}, {PerOperation: true}} {
			env := byoktest.New(t, nil)
			cmk := env.CMK("acme")
			keys := &spoilKeyring{Keyring: env.Keys}
			k, err := byok.New(byoktest.Service, keys, env.Store, env.Audit, &o)
			want(t, "New", err, nil)
			acme := k.Tenant("acme")
			_, err = register(t, acme, cmk)
			want(t, "Register", err, nil)
			_, err = acme.AcknowledgeWaiver(t.Context(), accepted)
			want(t, "AcknowledgeWaiver", err, nil)
			alive := func() (n int) {
				synctest.Wait()
				for _, d := range keys.given {
					if d.Use(func([]byte) error { return nil }) == nil {
						n++
					}
				}
				return n
			}
			cached := 1
			if o.PerOperation {
				cached = 0
			}
			sealed := seal(t, k, "acme", "x", "")
			mustOpen(t, k, "acme", sealed, "", "x")
			_, err = acme.Health(t.Context())
			want(t, "Health", err, nil)
			_, err = acme.Recheck(t.Context())
			want(t, "Recheck", err, nil)
			mustOpen(t, k, "acme", sealed, "", "x")
			time.Sleep(40 * time.Second) // a renewal
			mustOpen(t, k, "acme", sealed, "", "x")
			if n := alive(); n != cached || len(keys.given) < 6 {
				t.Errorf("%d of %d keys are alive, want %d", n, len(keys.given), cached)
			}
			cmk.Disable()
			_, err = acme.Health(t.Context())
			want(t, "Health", err, nil)
			if n := alive(); n != 0 {
				t.Errorf("%d keys are alive after a denial", n)
			}
			cmk.Enable()
			time.Sleep(time.Minute)
			mustOpen(t, k, "acme", sealed, "", "x") // restores
			want(t, "Close", k.Close(), nil)
			if n := alive(); n != 0 {
				t.Errorf("%d keys are alive after Close", n)
			}
		}
	})
}

// A driver that is deaf to ctx does not keep its callers.
func TestD16_DeafKeyring(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	release := make(chan struct{})
	late, err := byok.NewDEK(make([]byte, 32))
	want(t, "NewDEK", err, nil)
	odd := &oddKeyring{unwrap: func(context.Context, []byte) (*byok.DEK, byok.Receipt, error) {
		<-release
		return late, byok.Receipt{}, nil
	}}
	k, err := byok.New(byoktest.Service, odd, env.Store, env.Audit, nil)
	want(t, "New", err, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = k.Open(ctx, byok.Scope{Tenant: "acme"}, sealed, nil)
	want(t, "Open", err, byok.ErrKeyUnavailable)
	want(t, "Close", k.Close(), nil) // cancels the load
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("kept for %v", d)
	}
	close(release)
	for range 100 { // what comes too late is wiped
		if late.Use(func([]byte) error { return nil }) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a key that came too late was not wiped")
}

// A driver that no longer accepts the registered key, after a change of its
// options, say: refused everywhere, nothing sent, nothing panics.
func TestKeyThatTheDriverRefuses(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	keys, err := awskms.NewFromClient(env.Fake.Client(byoktest.PlatformRole), &awskms.Options{Accounts: []string{"000000000001"}})
	want(t, "NewFromClient", err, nil)
	k, err := byok.New(byoktest.Service, keys, env.Store, env.Audit, nil)
	want(t, "New", err, nil)
	defer k.Close()
	env.Fake.ResetCalls()
	_, err = open(t, k, "acme", sealed, "")
	want(t, "Open", err, byok.ErrKeyID)
	h, err := k.Tenant("acme").Health(t.Context())
	if want(t, "Health", err, nil); h.Status != byok.Unhealthy || h.CMKAccessible {
		t.Errorf("%+v", h)
	}
	_, err = k.Tenant("acme").Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
	want(t, "Rotate", err, byok.ErrKeyID)
	if n := len(env.Fake.Calls()); n != 0 {
		t.Errorf("%d KMS calls", n)
	}
}

// Denials are never retried, the lack of an answer is, and each attempt within the deadline.
func TestD12_Retries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		for _, c := range []struct {
			code  string
			fails int
			calls int
			err   error
		}{
			{"ThrottlingException", 2, 3, nil},
			{"KMSInternalException", 2, 3, nil},
			{"ThrottlingException", 9, 3, byok.ErrThrottled},
			{"DisabledException", 1, 1, byok.ErrKeyDenied},
			{"ValidationException", 1, 1, byok.ErrInternal},
			{"InvalidCiphertextException", 1, 1, byok.ErrOpen},
			{"ExpiredTokenException", 9, 3, byok.ErrPlatform},
		} {
			k := env.NewKeeper()
			env.Fake.ResetCalls()
			env.Fake.Fail("Decrypt", c.code, c.fails)
			_, err := open(t, k, "acme", sealed, "")
			want(t, c.code, err, c.err)
			if n := len(env.Fake.Calls()); n != c.calls {
				t.Errorf("%s: %d attempts, want %d", c.code, n, c.calls)
			}
			for len(env.Fake.Calls()) < c.calls+c.fails && c.fails > c.calls { // use up the rest
				_, _ = open(t, env.NewKeeper(), "acme", sealed, "")
			}
			want(t, "Close", k.Close(), nil)
		}
	})
}

// A refusal of one wrapped data key changes nothing for the others (I9, D10).
func TestI9_BlobErrorChangesNothing(t *testing.T) {
	env := byoktest.New(t, nil)
	acme, _ := env.Tenant("acme")
	sealed := seal(t, env.Keeper, "acme", "x", "")
	alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
	want(t, "New", err, nil)
	defer alone.Close()
	inside, err := alone.Seal(t.Context(), byok.Scope{Tenant: "acme"}, []byte("y"), nil)
	want(t, "Seal", err, nil)
	h, err := byok.Inspect(inside)
	want(t, "Inspect", err, nil)
	at := bytes.Index(inside, h.Recipients[0].Wrapped)
	inside[at+len(h.Recipients[0].Wrapped)-1] ^= 1 // authentic but for the wrapped key
	for range 3 {
		_, err := open(t, env.Keeper, "acme", inside, "")
		if want(t, "Open a damaged wrapped key", err, byok.ErrOpen); err != byok.ErrOpen {
			t.Errorf("the refusal is not bare: %v", err)
		}
	}
	env.Fake.ResetCalls()
	mustOpen(t, env.Keeper, "acme", sealed, "", "x")
	if n := len(env.Fake.Calls()); n != 0 {
		t.Errorf("%d KMS calls: the lease of another data key was dropped", n)
	}
	st, err := acme.Status(t.Context())
	if want(t, "Status", err, nil); st.Status != byok.StatusActive {
		t.Errorf("%+v", st)
	}
}

// What per-operation mode and Direct seal carries its key, and is opened by each
// other and by a leased Keeper; and every operation asks KMS.
func TestSelfContainedEnvelopes(t *testing.T) {
	env := byoktest.New(t, nil)
	_, cmk := env.Tenant("acme")
	env.Tenant("umbrella")
	s := byok.Scope{Tenant: "acme", Purpose: "mail"}
	alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
	want(t, "New", err, nil)
	defer alone.Close()
	direct, err := byok.NewDirect(byoktest.Service, env.Keys, byok.KeyID{Provider: "aws-kms", ID: cmk.ARN()}, env.Audit)
	want(t, "NewDirect", err, nil)
	type sealer interface {
		Seal(context.Context, byok.Scope, []byte, []byte) ([]byte, error)
		Open(context.Context, byok.Scope, []byte, []byte) ([]byte, error)
	}
	all := map[string]sealer{"leased": env.Keeper, "per-operation": alone, "direct": direct}
	for from, a := range all {
		env.Fake.ResetCalls()
		sealed, err := a.Seal(t.Context(), s, []byte("hello"), []byte("aad"))
		want(t, from+" Seal", err, nil)
		h, err := byok.Inspect(sealed)
		want(t, "Inspect", err, nil)
		if inside := from != "leased"; inside != (len(h.Recipients) == 1) || h.Tenant != "acme" {
			t.Errorf("%s: %+v", from, h)
		}
		for to, b := range all {
			if from == "leased" && to == "direct" {
				_, err := b.Open(t.Context(), s, sealed, []byte("aad"))
				want(t, "Direct without the key inside", err, byok.ErrOpen)
				continue
			}
			for range 2 {
				env.Fake.ResetCalls()
				plain, err := b.Open(t.Context(), s, sealed, []byte("aad"))
				want(t, from+" to "+to, err, nil)
				if string(plain) != "hello" {
					t.Errorf("%s to %s: %q", from, to, plain)
				}
				if n := len(env.Fake.Calls()); to != "leased" && n != 1 {
					t.Errorf("%s to %s: %d KMS calls, want 1 each time", from, to, n)
				}
			}
			_, err := b.Open(t.Context(), s, sealed, nil)
			want(t, "another aad", err, byok.ErrOpen)
			_, err = b.Open(t.Context(), byok.Scope{Tenant: "umbrella", Purpose: "mail"}, sealed, []byte("aad"))
			want(t, "another tenant", err, byok.ErrOpen)
			_, err = b.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: "other"}, sealed, []byte("aad"))
			want(t, "another purpose", err, byok.ErrOpen)
		}
	}
	sealed, err := alone.Seal(t.Context(), s, []byte("hello"), nil)
	want(t, "Seal", err, nil)
	foreign, err := byok.NewDirect(byoktest.Service, env.Keys, byok.KeyID{Provider: "aws-kms", ID: env.CMK("acme").ARN()}, env.Audit)
	want(t, "NewDirect", err, nil)
	env.Fake.ResetCalls()
	_, err = foreign.Open(t.Context(), s, sealed, nil)
	if want(t, "Direct for another CMK", err, byok.ErrOpen); len(env.Fake.Calls()) != 0 {
		t.Error("KMS was asked about a key that the envelope does not name")
	}
	cmk.Disable()
	_, err = alone.Open(t.Context(), s, sealed, nil)
	want(t, "per-operation Open, at once", err, byok.ErrKeyDenied)
	_, err = alone.Seal(t.Context(), s, []byte("hello"), nil)
	want(t, "per-operation Seal", err, byok.ErrKeyDenied)
	_, err = direct.Open(t.Context(), s, sealed, nil)
	want(t, "Direct Open", err, byok.ErrKeyDenied)
	cmk.Enable()
	_, err = direct.Open(t.Context(), s, sealed, nil)
	want(t, "Direct Open again", err, nil)
}

func TestDEK(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33} {
		raw := bytes.Repeat([]byte{1}, n)
		_, err := byok.NewDEK(raw)
		if want(t, fmt.Sprint(n), err, byok.ErrInternal); bytes.Contains(raw, []byte{1}) {
			t.Error("raw is left after an error")
		}
	}
	d, err := byok.NewDEK(bytes.Repeat([]byte{1}, 32))
	want(t, "NewDEK", err, nil)
	in, out, wiped := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		_ = d.Use(func(raw []byte) error {
			close(in)
			<-out
			if raw[0] != 1 {
				t.Error("wiped while in use")
			}
			return nil
		})
	}()
	<-in
	go func() { d.Wipe(); d.Wipe(); close(wiped) }()
	select {
	case <-wiped:
		t.Error("Wipe did not wait for Use")
	case <-time.After(20 * time.Millisecond):
	}
	close(out)
	<-wiped
	var kept []byte // against the rules
	d2, err := byok.NewDEK(bytes.Repeat([]byte{1}, 32))
	want(t, "NewDEK", err, nil)
	_ = d2.Use(func(raw []byte) error { kept = raw; return nil })
	if d2.Wipe(); !bytes.Equal(kept, make([]byte, 32)) {
		t.Error("Wipe left the bytes")
	}
	for name, d := range map[string]*byok.DEK{"wiped": d, "zero": {}, "nil": nil} {
		if d.Use(func([]byte) error { t.Errorf("%s: lent", name); return nil }) == nil {
			t.Errorf("%s: Use is no error", name)
		}
		d.Wipe()
	}
}

func TestErrorTree(t *testing.T) {
	all := []error{byok.ErrKeyRevoked, byok.ErrKeyDenied, byok.ErrKeyRemoved, byok.ErrSuspended, byok.ErrKeyUnavailable,
		byok.ErrThrottled, byok.ErrPlatform, byok.ErrOpen, byok.ErrMalformed, byok.ErrNotRegistered, byok.ErrWaiverRequired,
		byok.ErrKeyTaken, byok.ErrMoveRequired, byok.ErrPolicyUnbound, byok.ErrKeyID, byok.ErrArgument, byok.ErrStore,
		byok.ErrAudit, byok.ErrNotAudited, byok.ErrInternal, byok.ErrClosed, byok.ErrNotFound, byok.ErrConflict}
	parents := map[error]error{byok.ErrKeyDenied: byok.ErrKeyRevoked, byok.ErrKeyRemoved: byok.ErrKeyRevoked,
		byok.ErrSuspended: byok.ErrKeyRevoked, byok.ErrThrottled: byok.ErrKeyUnavailable,
		byok.ErrPlatform: byok.ErrKeyUnavailable, byok.ErrMalformed: byok.ErrOpen}
	for _, a := range all {
		for _, b := range all {
			if got := errors.Is(a, b); got != (a == b || parents[a] == b) {
				t.Errorf("errors.Is(%v, %v) = %v", a, b, got)
			}
		}
	}
	for c, target := range map[byok.Class]error{
		byok.ClassDenied: byok.ErrKeyDenied, byok.ClassPlatformDenied: byok.ErrPlatform, byok.ClassPlatform: byok.ErrPlatform,
		byok.ClassOutage: byok.ErrKeyUnavailable, byok.ClassThrottled: byok.ErrThrottled, byok.ClassBlob: byok.ErrOpen,
		byok.ClassInternal: byok.ErrInternal, byok.ClassKeyID: byok.ErrKeyID, 0: byok.ErrKeyUnavailable,
	} {
		err := error(&byok.KeyError{Class: c, Err: context.DeadlineExceeded})
		for _, s := range all {
			if got := errors.Is(err, s); got != (s == target || parents[target] == s) {
				t.Errorf("class %v: errors.Is(%v) = %v", c, s, got)
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("class %v hides its cause", c)
		}
		var back byok.Class
		text, _ := c.MarshalText()
		if _ = back.UnmarshalText(text); back != c {
			t.Errorf("class %v comes back as %v", c, back)
		}
	}
	for err, code := range map[error]string{nil: "", byok.ErrKeyID: "BYOK_001", byok.ErrKeyDenied: "BYOK_002", byok.ErrKeyTaken: "BYOK_003",
		byok.ErrWaiverRequired: "BYOK_004", byok.ErrNotRegistered: "BYOK_005", byok.ErrThrottled: "BYOK_006", byok.ErrInternal: "BYOK_007",
		errors.New("x"): "BYOK_007", byok.ErrMalformed: "BYOK_008", byok.ErrMoveRequired: "BYOK_009", byok.ErrSuspended: "BYOK_010",
		byok.ErrKeyRemoved: "BYOK_010", byok.ErrPolicyUnbound: "BYOK_011", byok.ErrStore: "BYOK_012", byok.ErrNotAudited: "BYOK_013",
		byok.ErrArgument: "BYOK_014"} {
		if got := byok.Code(err); got != code {
			t.Errorf("Code(%v) = %s, want %s", err, got, code)
		}
	}
}
