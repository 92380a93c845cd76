package byok_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/vectors"
	"github.com/byok-go/byok/kmsfake"
)

// lab forges envelopes that a tenant of a Keeper could have sealed: somebody holds the
// data key, as a malicious sender or an insider does. Every tag is right.
type lab struct {
	*testing.T
	env  *byoktest.Env
	cmk  *kmsfake.Key
	raw  []byte // the data key
	head *rawHeader
}

func newLab(t *testing.T) *lab {
	t.Helper()
	env := byoktest.New(t, nil)
	_, cmk := env.Tenant("acme")
	l := &lab{T: t, env: env, cmk: cmk}
	var wrapped []byte
	l.raw, wrapped = l.dataKey()
	l.head = header(format.PolicyANY, rcpt(cmk.ARN(), string(wrapped)))
	return l
}

// dataKey has the tenant's CMK make a data key with the id of all forged headers.
func (l *lab) dataKey() (raw, wrapped []byte) {
	l.Helper()
	ec := byok.EncryptionContext{"tenant_id": "acme", "service": byoktest.Service, "purpose": "default", "data_key_id": strings.Repeat("d1", 16)}
	dek, w, err := l.env.Keys.GenerateDataKey(l.Context(), byok.KeyID{Provider: "aws-kms", ID: l.cmk.ARN()}, ec)
	want(l.T, "GenerateDataKey", err, nil)
	want(l.T, "Use", dek.Use(func(b []byte) error { raw = bytes.Clone(b); return nil }), nil)
	return raw, w.Bytes
}

func (l *lab) forger() *vectors.Forger {
	return vectors.Forge(l.raw, format.PayloadAAD(l.head.core(), "default", nil), 4096)
}

// seal puts the lab's header before what forge makes.
func (l *lab) seal(forge func(f *vectors.Forger) []byte) []byte {
	return append(l.head.bytes(), forge(l.forger())...)
}

// ways are the three ways to open. A stream returns what it released.
var ways = map[string]func(t testing.TB, k *byok.Keeper, sealed []byte, aad string) ([]byte, error){
	"Open": func(t testing.TB, k *byok.Keeper, sealed []byte, aad string) ([]byte, error) {
		return k.Open(t.Context(), acmeScope, sealed, []byte(aad))
	},
	"OpenReader":   openStream,
	"OpenReaderAt": openAt,
}

func (l *lab) opens(name string, sealed, plain []byte) {
	l.Helper()
	for way, f := range ways {
		got, err := f(l.T, l.env.Keeper, sealed, "")
		if want(l.T, name+", "+way, err, nil); !bytes.Equal(got, plain) {
			l.Errorf("%s, %s: another plaintext", name, way)
		}
	}
}

// refused wants err from all ways, and from Open not a byte beside it; a stream may have
// released segments that are where they were sealed, one after the other.
func (l *lab) refused(name string, sealed []byte, err error) {
	l.Helper()
	for way, f := range ways {
		got, gotErr := f(l.T, l.env.Keeper, sealed, "")
		want(l.T, name+", "+way, gotErr, err)
		switch {
		case way == "Open" && got != nil:
			l.Errorf("%s: %d bytes beside the error", name, len(got))
		case way == "OpenReader" && len(got)%small4k != 0, !bytes.HasPrefix(segmented, got):
			l.Errorf("%s, %s: released %d bytes that are not of the beginning", name, way, len(got))
		}
	}
}

const small4k = 4064 // what a segment of 4096 bytes carries

// segmented is three segments and a bit.
var segmented = vectorPlain(3*small4k + 100)

// message is segmented, segment by segment: the header first.
func message(f *vectors.Forger) [][]byte {
	out := [][]byte{f.Header()}
	for i, p := range pieces(segmented, 4096) {
		out = append(out, f.Piece(p, uint64(i), len(p) < small4k))
	}
	return out
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestA3_A4_A5_A6_A7_A8_SegmentsOutOfPlace(t *testing.T) {
	l := newLab(t)
	l.opens("as sealed", l.seal(func(f *vectors.Forger) []byte { return join(message(f)...) }), segmented)
	other := message(l.forger())
	final := func(s []byte) []byte { // with the length of a final segment
		s = bytes.Clone(s)
		binary.BigEndian.PutUint32(s, uint32(len(s)))
		return s
	}
	middle := func(s []byte) []byte {
		s = bytes.Clone(s)
		binary.BigEndian.PutUint32(s, 0xffffffff)
		return s
	}
	for name, edit := range map[string]func(m [][]byte) []byte{
		"A3 cut between segments":         func(m [][]byte) []byte { return join(m[:4]...) },
		"A3 nothing but the header":       func(m [][]byte) []byte { return m[0] },
		"A4 a byte more":                  func(m [][]byte) []byte { return append(join(m...), 0) },
		"A4 the final segment twice":      func(m [][]byte) []byte { return append(join(m...), m[4]...) },
		"A4 the message twice":            func(m [][]byte) []byte { return append(join(m...), join(m...)...) },
		"A5 two segments swapped":         func(m [][]byte) []byte { return join(m[0], m[2], m[1], m[3], m[4]) },
		"A5 a segment twice":              func(m [][]byte) []byte { return join(m[0], m[1], m[1], m[2], m[3], m[4]) },
		"A5 a segment less":               func(m [][]byte) []byte { return join(m[0], m[1], m[3], m[4]) },
		"A5 the first one less":           func(m [][]byte) []byte { return join(m[0], m[2], m[3], m[4]) },
		"A6 another message's segment":    func(m [][]byte) []byte { return join(m[0], m[1], other[2], m[3], m[4]) },
		"A6 another message's end":        func(m [][]byte) []byte { return join(m[0], m[1], m[2], m[3], other[4]) },
		"A6 another message's header":     func(m [][]byte) []byte { return join(other[0], m[1], m[2], m[3], m[4]) },
		"A7 a middle segment as the end":  func(m [][]byte) []byte { return join(m[0], m[1], final(m[2])) },
		"A7 the end as a middle segment":  func(m [][]byte) []byte { return join(m[0], m[1], m[2], m[3], middle(m[4])) },
		"A7 the end, and a forged end":    func(m [][]byte) []byte { return join(m[0], m[1], m[2], m[3], middle(m[4]), m[4]) },
		"A8 a segment for another place":  func(m [][]byte) []byte { return join(m[0], m[1], m[3], m[3], m[4]) },
		"A8 the end for another position": func(m [][]byte) []byte { return join(m[0], m[1], m[2], m[4]) },
	} {
		l.refused(name, l.seal(func(f *vectors.Forger) []byte { return edit(message(f)) }), byok.ErrOpen)
	}
}

func TestA9_A10_A12_LengthsAndSizes(t *testing.T) {
	l := newLab(t)
	for _, n := range []uint32{0, 31, 36, 38, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff} {
		l.refused(fmt.Sprintf("A9 a length of %#x", n), l.seal(func(f *vectors.Forger) []byte {
			b := f.Message([]byte("hello"))
			binary.BigEndian.PutUint32(b[74:], n)
			return b
		}), byok.ErrOpen)
	}
	full := segmented[:small4k]
	for name, p := range map[string][][]byte{
		"A10 a short segment":         {full[:31], full},
		"A10 an empty segment":        {nil, full},
		"A10 a long final segment":    {segmented[:small4k+1]},
		"A10 a long segment at first": {segmented[:small4k+1], full},
	} {
		l.refused(name, l.seal(func(f *vectors.Forger) []byte { return f.Message(p...) }), byok.ErrOpen)
	}
	for _, n := range []uint32{0, 32, 33, 64, 4095, 4097, 8192, 65537, 1 << 21, 0xffffffff} {
		f := vectors.Forge(l.raw, format.PayloadAAD(l.head.core(), "default", nil), n)
		l.env.Fake.ResetCalls()
		l.refused(fmt.Sprintf("A12 segments of %d", n), append(l.head.bytes(), f.Message([]byte("hello"))...), byok.ErrMalformed)
	}
}

// Headers that break a rule, sealed as they are: malformed, and no question to KMS.
func TestA23_A24_B6_B7_B10_B11_B12_B13_MalformedHeaders(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	bad, err := vectors.All(badDir)
	want(t, "All", err, nil)
	env.Fake.ResetCalls()
	ran := map[string]int{}
	for _, v := range bad {
		if v.Result != vectors.Malformed {
			continue
		}
		ran[v.Rule]++
		for way, f := range ways {
			got, err := f(t, env.Keeper, v.Envelope, vectorAAD)
			if want(t, v.Name+", "+way, err, byok.ErrMalformed); len(got) != 0 {
				t.Errorf("%s: %d bytes", v.Name, len(got))
			}
			for _, c := range err.Error() {
				if c < 0x20 || c > 0x7e {
					t.Errorf("%s: %q in an error", v.Name, c) // B11
				}
			}
		}
	}
	for _, text := range []string{base64.StdEncoding.EncodeToString(anyHeader().bytes()), hex.EncodeToString(anyHeader().bytes())} {
		if _, err := byok.Inspect([]byte(text)); err == nil || !strings.Contains(err.Error(), "decode it first") { // B13
			t.Errorf("%.20s...: %v", text, err)
		}
	}
	if n := len(env.Fake.Calls()); n != 0 {
		t.Errorf("%d KMS calls", n)
	}
	if ran["MUST-1"] < 15 || ran["MUST-2"] < 25 || ran["MUST-3"] < 4 || ran["MUST-4"] < 8 || ran["MUST-24"] < 10 {
		t.Errorf("%v: this test could pass on nothing", ran)
	}
}

// Each column of each row of each tenant opens in its own place only; nil and empty aad
// are one place, and an empty byte is another.
func TestB1_B4_EveryPlaceIsItsOwn(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("t1")
	env.Tenant("t2")
	type place struct{ tenant, purpose, aad string }
	var places []place
	for _, tenant := range []string{"t1", "t2"} {
		for _, purpose := range []string{"users", "orders"} {
			for _, aad := range []string{"", "\x00", "42/ssn", "43/ssn", "42/dob"} {
				places = append(places, place{tenant, purpose, aad})
			}
		}
	}
	for _, from := range places {
		sealed, err := env.Keeper.Seal(t.Context(), byok.Scope{Tenant: from.tenant, Purpose: from.purpose}, []byte("x"), []byte(from.aad))
		want(t, "Seal", err, nil)
		for _, to := range places {
			plain, err := env.Keeper.Open(t.Context(), byok.Scope{Tenant: to.tenant, Purpose: to.purpose}, sealed, []byte(to.aad))
			switch {
			case from == to && (err != nil || string(plain) != "x"):
				t.Errorf("%q does not open: %v", from, err)
			case from != to && (err != byok.ErrOpen || plain != nil):
				t.Errorf("%q opens at %q: %v", from, to, err)
			}
		}
		if from.aad == "" {
			_, err := env.Keeper.Open(t.Context(), byok.Scope{Tenant: from.tenant, Purpose: from.purpose}, sealed, []byte{})
			want(t, "nil and empty", err, nil)
		}
	}
}

func TestB5_LongestAAD(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	longest := strings.Repeat("a", byok.MaxAAD)
	mustOpen(t, env.Keeper, "acme", seal(t, env.Keeper, "acme", "x", longest), longest, "x")
	_, err := env.Keeper.Seal(t.Context(), acmeScope, nil, []byte(longest+"a"))
	want(t, "Seal", err, byok.ErrArgument)
	for way, f := range ways {
		_, err := f(t, env.Keeper, nil, longest+"a")
		want(t, way, err, byok.ErrArgument)
	}
}

// Whoever can write to stored envelopes can change recipients, and gets nothing
// by it: the envelope opens under the data key that it was sealed under, or not at all.
func TestB8_C4_RecipientsChanged(t *testing.T) {
	l := newLab(t)
	foreign := l.env.CMK("acme") // of the same owner, and not registered
	payload := l.forger().Message([]byte("hello"))
	_, otherKey := l.dataKey() // under the right CMK, in the right context, and another key
	good := l.head.recipients[0]
	with := func(rs ...rawRecipient) []byte {
		h := *l.head
		slices.SortFunc(rs, func(a, b rawRecipient) int { return strings.Compare(a.key, b.key) })
		h.recipients = rs
		return append(h.bytes(), payload...)
	}
	l.opens("as sealed", with(good), []byte("hello"))
	l.opens("one more recipient", with(good, rcpt(foreign.ARN(), "whatever")), []byte("hello"))
	l.refused("C4: the registered recipient has another data key", with(rcpt(l.cmk.ARN(), string(otherKey))), byok.ErrOpen)
	l.refused("C4: and so have two", with(rcpt(l.cmk.ARN(), string(otherKey)), rcpt(foreign.ARN(), good.wrapped)), byok.ErrOpen)
	l.refused("stripped", append(l.head.core(), payload...), byok.ErrMalformed)
	l.refused("ours replaced by theirs", with(rcpt(foreign.ARN(), good.wrapped)), byok.ErrOpen)
	ref := *l.head
	ref.policy, ref.section = format.PolicyREF, false
	l.refused("turned into REF", append(ref.bytes(), payload...), byok.ErrOpen)
	all := *l.head
	all.policy, all.recipients = format.PolicyALL, twoHeader(format.PolicyALL).recipients
	l.refused("turned into ALL", append(all.bytes(), payload...), byok.ErrOpen)
	l.refused("a wrapped key of junk", with(rcpt(l.cmk.ARN(), "junk")), byok.ErrOpen)
	l.opens("after all of that", with(good), []byte("hello"))
}

// An older version of the recipients works exactly as long as its key is registered.
func TestB9_OldRecipients(t *testing.T) {
	l := newLab(t)
	sealed := l.seal(func(f *vectors.Forger) []byte { return f.Message([]byte("hello")) })
	l.opens("while it is registered", sealed, []byte("hello"))
	acme := l.env.Keeper.Tenant("acme")
	_, err := acme.Revoke(t.Context(), "")
	want(t, "Revoke", err, nil)
	_, err = acme.Register(t.Context(), byok.Registration{Key: byok.KeyID{Provider: "aws-kms", ID: l.env.CMK("acme").ARN()}, AbandonExistingData: true})
	want(t, "Register", err, nil)
	l.env.Fake.ResetCalls()
	l.refused("after the move", sealed, byok.ErrOpen)
	if n := len(l.env.Fake.Calls()); n != 0 {
		t.Errorf("%d KMS calls for a key that is not registered", n)
	}
}

// A data key in memory serves the policy that it was loaded for: what is allowed is
// asked at every use, not only when the key is loaded.
func TestC6_C7_CachedKeyUnderAnotherPolicy(t *testing.T) {
	l := newLab(t)
	l.opens("ANY fills the cache", l.seal(func(f *vectors.Forger) []byte { return f.Message([]byte("hello")) }), []byte("hello"))
	l.env.Fake.ResetCalls()
	good := l.head.recipients[0]
	l.head = header(format.PolicyALL, good, rcpt("zzz", "w"))
	l.refused("ALL, by one share that is at hand", l.seal(func(f *vectors.Forger) []byte { return f.Message([]byte("hello")) }), byok.ErrOpen)
	l.head = header(format.PolicyALL, good)
	l.refused("ALL of one", l.seal(func(f *vectors.Forger) []byte { return f.Message([]byte("hello")) }), byok.ErrMalformed)
	l.head = refHeader() // the Store does not know this data key
	l.refused("REF", l.seal(func(f *vectors.Forger) []byte { return f.Message([]byte("hello")) }), byok.ErrOpen)
	if n := len(l.env.Fake.Calls()); n != 0 {
		t.Errorf("%d KMS calls", n)
	}
}

// SPEC MUST-16: a denial by one recipient's key ends the matter, whoever else is there.
func TestDenyWins(t *testing.T) {
	l := newLab(t)
	other := l.env.CMK("acme")
	l.head.recipients = append(l.head.recipients, rcpt(other.ARN(), l.head.recipients[0].wrapped))
	slices.SortFunc(l.head.recipients, func(a, b rawRecipient) int { return strings.Compare(a.key, b.key) })
	sealed := l.seal(func(f *vectors.Forger) []byte { return f.Message([]byte("hello")) })
	l.opens("permitted", sealed, []byte("hello"))
	l.cmk.Disable()
	for way, f := range ways {
		k := l.env.NewKeeper()
		l.env.Fake.ResetCalls()
		got, err := f(t, k, sealed, "")
		if want(t, way, err, byok.ErrKeyDenied); len(got) != 0 {
			t.Errorf("%s: %d bytes", way, len(got))
		}
		for _, c := range l.env.Fake.Calls() {
			if c.KeyARN != l.cmk.ARN() {
				t.Errorf("%s: asked %s", way, c.KeyARN)
			}
		}
	}
}

// SPEC MUST-14: of two mistakes, the one that is checked first is told, and what
// comes after it does not happen.
func TestOrderOfChecks(t *testing.T) {
	l := newLab(t)
	hello := func(f *vectors.Forger) []byte { return f.Message([]byte("hello")) }
	badTag := l.seal(hello)
	badTag[len(badTag)-1] ^= 1
	foreignTenant := *l.head
	foreignTenant.tenant = "umbrella"
	malformedForeign := foreignTenant
	malformedForeign.slack = "\x00"
	l.cmk.Disable()
	k := l.env.NewKeeper()
	for _, c := range []struct {
		name   string
		scope  byok.Scope
		sealed []byte
		err    error
		calls  bool
	}{
		{"arguments before the parser", byok.Scope{Tenant: "a b"}, []byte("junk"), byok.ErrArgument, false},
		{"the parser before the tenant", acmeScope, malformedForeign.bytes(), byok.ErrMalformed, false},
		{"the tenant before the key", acmeScope, append(foreignTenant.bytes(), hello(l.forger())...), byok.ErrOpen, false},
		{"the key before the tag", acmeScope, badTag, byok.ErrKeyDenied, true},
	} {
		l.env.Fake.ResetCalls()
		_, err := k.Open(context.WithoutCancel(t.Context()), c.scope, c.sealed, nil)
		want(t, c.name, err, c.err)
		if got := len(l.env.Fake.Calls()) > 0; got != c.calls {
			t.Errorf("%s: KMS was asked: %v", c.name, got)
		}
	}
}

// FuzzB15_Open: no input makes a panic, and what opens is what the two layers below say.
func FuzzB15_Open(f *testing.F) {
	for _, dir := range []string{goldenDir, badDir} {
		all, err := vectors.All(dir)
		if err != nil {
			f.Fatal(err)
		}
		for _, v := range all {
			if len(v.Envelope) < 20_000 {
				f.Add(v.Envelope)
			}
		}
	}
	f.Fuzz(func(t *testing.T, sealed []byte) {
		v := newVector("fuzz", "", sealed)
		result, plain := v.Open()
		h, err := byok.Inspect(sealed)
		if err != nil && result != vectors.Malformed {
			t.Fatalf("Inspect: %v, Open: %s", err, result)
		}
		if err != nil || len(h.Recipients) == 0 || h.DataKey.String() != strings.Repeat("d1", 16) {
			return
		}
		d, err := byok.NewDirect(byoktest.Service, &vectorKeyring{t: t, v: v}, h.Recipients[0].Key, new(byok.MemAudit))
		want(t, "NewDirect", err, nil)
		got, err := d.Open(t.Context(), byok.Scope{Tenant: v.Tenant, Purpose: v.Purpose}, sealed, v.AAD)
		if (err == nil) != (result == vectors.Opens) || !bytes.Equal(got, plain) || err != nil && got != nil {
			t.Fatalf("Open: %d bytes, %v; want %s", len(got), err, result)
		}
	})
}
