package byok_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/kmsfake"
)

// SPEC MUST-13: nobody makes a list that each of several keys opens alone, unless the Keeper was
// told so in so many words; not by registering one, and not for a tenant that another Keeper has registered, under a data key
// of its own or under one that the other has made. It opens what there is: that makes nothing weaker.
func TestMUST13_AnyKeyAlone(t *testing.T) {
	s := newSeveral(t, 2, nil)
	calls := len(s.Fake.Calls())
	_, err := s.acme.Register(t.Context(), s.registration(byok.PolicyAny))
	want(t, "Register", err, byok.ErrArgument)
	if len(s.Fake.Calls()) != calls {
		t.Error("KMS was asked")
	}
	strict := s.k
	s.opts.AllowAnyKeyToOpenAlone = true
	s.k = s.process()
	s.acme = s.k.Tenant("acme")
	s.register(s.registration(byok.PolicyAny))
	sealed := seal(t, s.k, "acme", "x", "")
	for range 2 { // without a lease, and under one
		mustOpen(t, strict, "acme", sealed, "", "x")
		_, err = strict.Seal(t.Context(), acmeScope, []byte("x"), nil)
		want(t, "Seal under a data key that is there", err, byok.ErrArgument)
		_, err = strict.SealWriter(t.Context(), io.Discard, acmeScope, nil)
		want(t, "SealWriter", err, byok.ErrArgument)
		_, err = strict.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: "new"}, nil, nil)
		want(t, "Seal for a new purpose", err, byok.ErrArgument)
	}
	_, err = strict.Tenant("acme").Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
	want(t, "Rotate", err, byok.ErrArgument)
	s.opts.AllowAnyKeyToOpenAlone, s.opts.PerOperation = false, true
	_, err = s.process().Seal(t.Context(), acmeScope, nil, nil)
	want(t, "Seal, per operation", err, byok.ErrArgument)
}

// Registrations of several keys that can never work are refused before KMS is asked; each key is
// validated as one alone is, and nothing has changed if one of them is refused.
func TestRegisterSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeveral(t, 3, &byok.Options{AllowAnyKeyToOpenAlone: true})
		ids := s.ids()
		foreign := byok.KeyID{Provider: "aws-kms", ID: "alias/x"}
		nine := make([]byok.KeyID, 8)
		for i := range nine {
			nine[i] = byok.KeyID{Provider: "aws-kms", ID: fmt.Sprint(ids[0].ID, i)}
		}
		before := len(s.Fake.Calls())
		for name, c := range map[string]struct {
			r   byok.Registration
			err error
		}{
			"others without a policy":  {byok.Registration{Key: ids[0], Others: ids[1:]}, byok.ErrArgument},
			"a policy without others":  {byok.Registration{Key: ids[0], Policy: byok.PolicyAll}, byok.ErrArgument},
			"an unknown policy":        {byok.Registration{Key: ids[0], Others: ids[1:], Policy: "most"}, byok.ErrArgument},
			"the same key again":       {byok.Registration{Key: ids[0], Others: ids[:1], Policy: byok.PolicyAll}, byok.ErrArgument},
			"another key twice":        {byok.Registration{Key: ids[0], Others: []byok.KeyID{ids[1], ids[1]}, Policy: byok.PolicyAny}, byok.ErrArgument},
			"nine keys":                {byok.Registration{Key: ids[0], Others: nine, Policy: byok.PolicyAll}, byok.ErrArgument},
			"no key":                   {byok.Registration{Others: ids[:2], Policy: byok.PolicyAll}, byok.ErrKeyID},
			"another key without name": {byok.Registration{Key: ids[0], Others: []byok.KeyID{{}}, Policy: byok.PolicyAll}, byok.ErrKeyID},
		} {
			_, err := s.acme.Register(t.Context(), c.r)
			want(t, name, err, c.err)
		}
		if n := len(s.Fake.Calls()) - before; n != 0 {
			t.Errorf("%d KMS calls", n)
		}
		_, err := s.acme.Register(t.Context(), byok.Registration{Key: ids[0], Others: []byok.KeyID{foreign}, Policy: byok.PolicyAll})
		want(t, "an alias", err, byok.ErrKeyID)
		for _, p := range []byok.Policy{byok.PolicyAny, byok.PolicyAll} {
			for i := range 3 {
				time.Sleep(5 * time.Second) // the budget of commands
				s.cmks[i].Disable()
				_, err := s.acme.Register(t.Context(), s.registration(p))
				want(t, "one that is denied", err, byok.ErrKeyDenied)
				s.cmks[i].Enable()
				end := s.Fake.Inject(kmsfake.Fault{Region: keyRegions[i], Effect: kmsfake.ConnectionReset})
				_, err = s.acme.Register(t.Context(), s.registration(p))
				want(t, "one that does not answer", err, byok.ErrKeyUnavailable)
				end()
				bound := s.cmks[i].Policy()
				s.cmks[i].SetPolicy(strings.Replace(shortPolicy, byoktest.Account, keyAccount(i), 1))
				_, err = s.acme.Register(t.Context(), s.registration(p))
				if p == byok.PolicyAll && i > 0 { // whom a further key of all lets in is no matter
					want(t, "unbound, one of all", err, nil)
					_, err = s.acme.Revoke(t.Context(), "")
					want(t, "Revoke", err, nil)
				} else {
					want(t, "unbound", err, byok.ErrPolicyUnbound)
				}
				s.cmks[i].SetPolicy(bound)
			}
		}
		time.Sleep(5 * time.Second)
		st, err := s.acme.Register(t.Context(), s.registration(byok.PolicyAll))
		want(t, "Register", err, nil)
		if st.Policy != byok.PolicyAll || len(st.Keys) != 3 || len(st.Warnings) != 0 || st.DEKVersion != 1 || st.Access != byok.AccessAccessible {
			t.Errorf("%+v", st)
		}
		_, err = s.acme.Register(t.Context(), s.registration(byok.PolicyAll))
		want(t, "Register again", err, byok.ErrKeyTaken)
	})
}

// Who may have a CMK: what opens is one tenant's. A further key of all opens nothing, so it may be that
// of many tenants; but it is nobody's own then, unless its policy says whose it is.
func TestClaimsOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeveral(t, 4, &byok.Options{AllowAnyKeyToOpenAlone: true, AllowUnboundPolicy: true})
		for i, c := range s.cmks {
			c.SetPolicy(strings.Replace(shortPolicy, byoktest.Account, keyAccount(i), 1))
		}
		ids := s.ids()
		try := func(tenant string, p byok.Policy, keys []byok.KeyID, wanted error) {
			t.Helper()
			time.Sleep(time.Second) // the budget of commands
			_, err := s.k.Tenant(tenant).Register(t.Context(), byok.Registration{Key: keys[0], Others: keys[1:], Policy: p})
			want(t, tenant, err, wanted)
		}
		revoke := func(tenant string) {
			t.Helper()
			_, err := s.k.Tenant(tenant).Revoke(t.Context(), "")
			want(t, "Revoke", err, nil)
		}
		shared := ids[3]
		try("acme", byok.PolicyAll, []byok.KeyID{ids[0], shared}, nil)
		try("umbrella", byok.PolicyAll, []byok.KeyID{ids[1], shared}, nil) // many tenants
		try("third", byok.PolicyAll, []byok.KeyID{ids[2], ids[0]}, byok.ErrKeyTaken)
		try("third", byok.PolicyAny, []byok.KeyID{ids[2], ids[0]}, byok.ErrKeyTaken)
		try("third", byok.PolicyAny, []byok.KeyID{ids[2], shared}, byok.ErrKeyTaken)
		try("third", "", []byok.KeyID{shared}, byok.ErrKeyTaken)
		revoke("acme")
		revoke("umbrella")
		try("third", "", []byok.KeyID{shared}, byok.ErrKeyTaken) // nobody counts who shares it
		try("third", byok.PolicyAny, []byok.KeyID{ids[2], ids[0]}, nil)
		try("acme", byok.PolicyAll, []byok.KeyID{ids[0], shared}, byok.ErrKeyTaken) // third has it now
		revoke("third")
		try("acme", byok.PolicyAny, []byok.KeyID{ids[0], ids[2]}, nil)
		// The owner of what acme has, and of what is shared: the policies say so, and refuse everybody else.
		for _, i := range []int{0, 2, 3} {
			s.cmks[i].SetPolicy(awskms.KeyPolicy(keyAccount(i), byoktest.PlatformRole, s.k.Tenant("owner").EncryptionContext()).JSON())
		}
		try("owner", byok.PolicyAny, []byok.KeyID{ids[0], ids[2], shared}, nil)
		page, err := s.k.Tenant("acme").Audit(t.Context(), byok.AuditQuery{Op: byok.OpRelease})
		want(t, "Audit", err, nil)
		var released []byok.KeyID
		for _, e := range page.Events {
			released = append(released, e.Key)
		}
		if len(released) != 2 || !slices.Contains(released, ids[0]) || !slices.Contains(released, ids[2]) {
			t.Errorf("released %v", released)
		}
	})
}

// Data that was sealed before a second key came stays readable, now with the consent of both; what is sealed
// from now on needs both to be opened. Without the second key it is lost, and that has to be said.
func TestFromOneKeyToAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeveral(t, 2, nil)
		s.register(byok.Registration{Key: s.ids()[0]})
		old := [][]byte{seal(t, s.k, "acme", "x", ""), sealStream(t, s.k, []byte("x"), "")}
		_, err := s.acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		st, err := s.acme.Register(t.Context(), s.registration(byok.PolicyAll))
		if want(t, "Register", err, nil); st.DEKVersion != 2 {
			t.Errorf("generation %d", st.DEKVersion)
		}
		now := append(old, seal(t, s.k, "acme", "x", ""), sealStream(t, s.k, []byte("x"), ""))
		h, err := byok.Inspect(now[3])
		if want(t, "Inspect", err, nil); h.Policy != format.PolicyALL {
			t.Errorf("policy %d", h.Policy)
		}
		serves(t, s.k, now, nil)
		matchCalls(t, s.Env, s.Audit.All())
		for state, wanted := range map[int]error{down: byok.ErrKeyUnavailable, denying: byok.ErrKeyDenied} {
			s.set(1, state)
			time.Sleep(byok.DefaultMaxAge)
			serves(t, s.k, old, wanted)
			s.set(1, up)
			time.Sleep(30 * time.Second)
			serves(t, s.k, now, nil)
		}
		_, err = s.acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		_, err = s.acme.Register(t.Context(), byok.Registration{Key: s.ids()[0]})
		want(t, "Register the first alone", err, byok.ErrMoveRequired)
		s.register(byok.Registration{Key: s.ids()[0], AbandonExistingData: true})
		for i, e := range now {
			_, err := open(t, s.k, "acme", e, "")
			want(t, "Open, with one key", err, map[bool]error{true: nil, false: byok.ErrOpen}[i < 2])
		}
		_, err = s.acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		s.register(s.registration(byok.PolicyAll))
		serves(t, s.k, now, nil)
	})
}

// Whoever can write to the Store cannot make a tenant with dual control seal under less than all of its
// keys, nor under one more.
func TestStoreCannotWeakenAll(t *testing.T) {
	s := tenantOf(t, 3, byok.PolicyAll, nil)
	seal(t, s.k, "acme", "x", "")
	items, err := s.Store.List(t.Context(), "tenant:acme", "dek:", 10)
	want(t, "List", err, nil)
	item := items[0]
	var dek map[string]any
	want(t, "Unmarshal", json.Unmarshal(item.Value, &dek), nil)
	var raw struct {
		Header []byte `json:"header"`
	}
	want(t, "Unmarshal", json.Unmarshal(item.Value, &raw), nil)
	put := func(edit func(h *format.Header)) {
		t.Helper()
		h, _, _, err := format.Parse(raw.Header)
		want(t, "Parse", err, nil)
		edit(h)
		dek["header"], err = h.Append(nil)
		want(t, "Append", err, nil)
		value, _ := json.Marshal(dek)
		want(t, "Apply", s.Store.Apply(t.Context(), byok.Item{Ref: item.Ref, Revision: item.Revision, Value: value}), nil)
		item.Revision++
	}
	for name, c := range map[string]struct {
		edit func(h *format.Header)
		err  error
	}{
		"as it was":      {func(*format.Header) {}, nil},
		"two of three":   {func(h *format.Header) { h.Recipients = h.Recipients[:2] }, byok.ErrStore},
		"any of them":    {func(h *format.Header) { h.Policy = format.PolicyANY; h.Recipients = h.Recipients[:1] }, byok.ErrStore},
		"one key more":   {func(h *format.Header) { h.Recipients[2].Key += "x" }, byok.ErrInternal},
		"a swapped part": {func(h *format.Header) { h.Recipients[0].Wrapped = h.Recipients[1].Wrapped }, byok.ErrInternal},
	} {
		put(c.edit)
		_, err := s.process().Seal(t.Context(), acmeScope, []byte("x"), nil)
		want(t, name, err, c.err)
	}
	// And a state that Register never writes is damaged, not a guess.
	state, err := s.Store.Get(t.Context(), byok.Ref{Partition: "tenant:acme", ID: "state"})
	want(t, "Get", err, nil)
	for _, edit := range [][2]string{{`"policy":"all"`, `"policy":"most"`}, {`"policy":"all",`, ``}, {`"others":[`, `"others":[` + jsonOf(s.ids()[0]) + `,`}, {`"provider":"aws-kms"`, `"provider":""`}} {
		bad := bytes.ReplaceAll(state.Value, []byte(edit[0]), []byte(edit[1]))
		if bytes.Equal(bad, state.Value) {
			t.Fatalf("nothing to change: %s in %s", edit[0], state.Value)
		}
		want(t, "Apply", s.Store.Apply(t.Context(), byok.Item{Ref: state.Ref, Revision: state.Revision, Value: bad}), nil)
		state.Revision++
		_, err := s.process().Seal(t.Context(), acmeScope, nil, nil)
		want(t, edit[1], err, byok.ErrStore)
	}
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// One of two Regions never answers, and does not say no either. With any of two keys the first operation of a new
// process takes one attempt's time, and later ones take none while the breaker is open; the key that was left out
// is told. When the Region is back, all is as before.
func TestAnyWithoutARegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var warned []byok.Warning
		opts := &byok.Options{Observer: &byok.Observer{Warning: func(_ string, w byok.Warning) { warned = append(warned, w) }}}
		s := tenantOf(t, 2, byok.PolicyAny, opts)
		sealed := seal(t, s.k, "acme", "x", "")
		end := s.Fake.Inject(kmsfake.Fault{Region: keyRegions[0], Effect: kmsfake.Hang})
		k := s.process()
		start := time.Now()
		mustOpen(t, k, "acme", sealed, "", "x")
		if d := time.Since(start); d < 5*time.Second || d > 6*time.Second { // awskms's AttemptTimeout
			t.Errorf("the first operation took %v", d)
		}
		for i := range 4 { // opens the breaker
			_, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", i)}, []byte("x"), nil)
			want(t, "Seal for a new purpose", err, nil)
		}
		start = time.Now()
		fresh, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: "q"}, []byte("x"), nil)
		want(t, "Seal for a new purpose", err, nil)
		if d := time.Since(start); d > time.Second {
			t.Errorf("with an open breaker it took %v", d)
		}
		if len(warned) == 0 || warned[0].Kind != byok.WarnKeyLeftOut || warned[0].Key != s.ids()[0] {
			t.Errorf("%+v", warned)
		}
		h, err := k.Tenant("acme").Health(t.Context())
		want(t, "Health", err, nil)
		if h.Status != byok.Degraded || !h.CMKAccessible || h.KeyStatus.Access != byok.AccessAccessible || h.KeyStatus.Keys[0].Access != byok.AccessDegraded {
			t.Errorf("%+v", h)
		}
		for range 10 { // renewals: the lease of one key does not outlive MaxAge, and there is none of the other's
			time.Sleep(29 * time.Second)
			mustOpen(t, k, "acme", sealed, "", "x")
		}
		end()
		end = s.Fake.Inject(kmsfake.Fault{Region: keyRegions[1], Effect: kmsfake.ConnectionReset})
		time.Sleep(byok.DefaultMaxAge)
		mustOpen(t, k, "acme", sealed, "", "x") // by the other key
		_, err = k.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: "q"}, fresh, nil)
		want(t, "Open what only the key that is down has wrapped", err, byok.ErrKeyUnavailable)
		end()
		time.Sleep(10 * time.Second)
		_, err = k.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: "q"}, fresh, nil)
		want(t, "Open", err, nil)
	})
}

// C4: an item or envelope whose recipients unwrap to different data keys opens as none of them.
func TestC4_TwoDataKeysOfAny(t *testing.T) {
	s := tenantOf(t, 2, byok.PolicyAny, &byok.Options{PerOperation: true})
	a := seal(t, s.k, "acme", "x", "")
	mustOpen(t, s.k, "acme", a, "", "x")
	h, _, payload, err := format.Parse(a)
	want(t, "Parse", err, nil)
	keys := newRegional(t, s.Fake)
	ec := byok.EncryptionContext{byok.ContextTenant: "acme", byok.ContextService: byoktest.Service, byok.ContextPurpose: "default",
		byok.ContextDataKey: byok.DataKeyID(h.DataKey).String()}
	for i, r := range h.Recipients {
		_, other, err := keys.GenerateDataKey(t.Context(), byok.KeyID{Provider: r.Provider, ID: r.Key}, ec)
		want(t, "GenerateDataKey", err, nil)
		kept := h.Recipients[i].Wrapped
		h.Recipients[i].Wrapped = other.Bytes
		b, err := h.Append(nil)
		want(t, "Append", err, nil)
		_, err = open(t, s.k, "acme", append(b, payload...), "")
		if want(t, "Open", err, byok.ErrOpen); !errors.Is(err, byok.ErrOpen) || err != byok.ErrOpen {
			t.Errorf("not bare: %v", err)
		}
		h.Recipients[i].Wrapped = kept
	}
	mustOpen(t, s.k, "acme", a, "", "x")
}

// A CMK that a tenant shared stays shared when the tenant has moved away from it: backups, and envelopes that carry their data key, may be
// under it, so nobody may own it by a policy that lets in everybody, and the tenant can come back. Other tenants share it
// as before, and whose it is by its policy owns it.
func TestSharedClaimsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeveral(t, 4, &byok.Options{AllowUnboundPolicy: true, PerOperation: true})
		everybody := strings.NewReplacer("StringEquals", "StringLike", `"acme"`, `"*"`).Replace(s.cmks[1].Policy())
		s.cmks[1].SetPolicy(everybody)
		all := byok.Registration{Key: s.ids()[0], Others: s.ids()[1:2], Policy: byok.PolicyAll}
		s.register(all)
		sealed := seal(t, s.k, "acme", "x", "")
		time.Sleep(2 * time.Second)
		job, err := s.acme.MoveTo(t.Context(), byok.Move{Key: s.ids()[0], Others: s.ids()[2:3], Policy: byok.PolicyAll})
		want(t, "MoveTo", err, nil)
		finish(t, s.acme, job.ID)
		other := s.k.Tenant("other")
		_, err = other.Register(t.Context(), byok.Registration{Key: s.ids()[1]})
		want(t, "Register of what is shared", err, byok.ErrKeyTaken)
		others := s.key(4, "other")
		_, err = other.Register(t.Context(), byok.Registration{Key: awskms.Key(others.ARN()), Others: s.ids()[1:2], Policy: byok.PolicyAll})
		want(t, "Register as a further one", err, nil)
		_, err = open(t, s.k, "acme", sealed, "")
		want(t, "Open", err, byok.ErrOpen)
		time.Sleep(2 * time.Second)
		job, err = s.acme.MoveTo(t.Context(), byok.Move{Key: s.ids()[0], Others: s.ids()[1:2], Policy: byok.PolicyAll})
		want(t, "MoveTo back", err, nil)
		finish(t, s.acme, job.ID)
		mustOpen(t, s.k, "acme", sealed, "", "x")
		s.cmks[1].SetPolicy(awskms.KeyPolicy(keyAccount(1), byoktest.PlatformRole, s.k.Tenant("owner").EncryptionContext()).JSON())
		_, err = s.k.Tenant("owner").Register(t.Context(), byok.Registration{Key: s.ids()[1]})
		want(t, "Register by its owner", err, nil)
	})
}
