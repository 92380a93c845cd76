package format

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The bytes of envelope.md, written out by hand: a change of the format shows here,
// not only in code that agrees with itself.
func TestGoldenBytes(t *testing.T) {
	h := &Header{Suite: SuiteFLOE, Policy: PolicyANY, Tenant: "acme",
		Recipients: []Recipient{{"aws-kms", "arn:x", []byte{0xaa, 0xbb}}}}
	for i := range h.DataKey {
		h.DataKey[i] = byte(i)
	}
	const core = "62796f6b" + "01" + "01" + "01" + "00" + "000102030405060708090a0b0c0d0e0f" + "04" + "61636d65"
	const recipients = "0014" + "01" + "07" + "6177732d6b6d73" + "0005" + "61726e3a78" + "0002" + "aabb"
	got, err := h.Append(nil)
	if err != nil || hex.EncodeToString(got) != core+recipients {
		t.Errorf("%x, %v", got, err)
	}
	if c, err := h.AppendCore(nil); err != nil || hex.EncodeToString(c) != core {
		t.Errorf("core: %x, %v", c, err)
	}
	// REF: 25 bytes and the tenant's name; FLOE adds 106, which makes 131.
	ref := Header{Suite: SuiteFLOE, Policy: PolicyREF, Tenant: "t"}
	if got, err := ref.Append(nil); err != nil || len(got) != 25+1 || ref.Size() != 26 || len(got) != MinCore {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	aad := PayloadAAD([]byte("CORE"), "ssn", []byte("row"))
	const want = "62796f6b2f76312f7061796c6f6164" + "00" + "00000004" + "434f5245" + "0003" + "73736e" + "00000003" + "726f77"
	if hex.EncodeToString(aad) != want {
		t.Errorf("aad: %x", aad)
	}
}

func drawHeader(t *rapid.T) *Header {
	name := func(label string, limit int) string {
		b := rapid.SliceOfN(rapid.ByteRange(0x21, 0x7e), 1, limit).Draw(t, label)
		return string(b)
	}
	h := &Header{Suite: SuiteFLOE, Policy: rapid.Uint8Range(0, 2).Draw(t, "policy"), Tenant: name("tenant", MaxTenant)}
	copy(h.DataKey[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	if h.Policy == PolicyREF {
		return h
	}
	for i := range rapid.IntRange(int(h.Policy), MaxRecipients).Draw(t, "count") {
		h.Recipients = append(h.Recipients, Recipient{
			Provider: "aws-kms",
			Key:      fmt.Sprintf("%d%s", i, name("key", 100)), // ascending by its digit
			Wrapped:  rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "wrapped"),
		})
	}
	return h
}

func TestEncodeThenParseIsTheIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, payload := drawHeader(t), rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "payload")
		b, err := h.Append([]byte("before"))
		if err != nil || !bytes.HasPrefix(b, []byte("before")) || len(b) != 6+h.Size() {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		got, _, rest, err := Parse(append(b[6:], payload...))
		if err != nil || !reflect.DeepEqual(got, h) || !bytes.Equal(rest, payload) {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

func keys(n int) []Recipient {
	var rs []Recipient
	for i := range n {
		rs = append(rs, Recipient{"aws-kms", fmt.Sprint("arn:", i), []byte("w")})
	}
	return rs
}

// A header that Parse would refuse is never written. Each row is one mistake.
func TestAppendRefusesWhatParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Header)
		want  error
	}{
		"suite 0":           {func(h *Header) { h.Suite = 0 }, errSuite},
		"suite 2":           {func(h *Header) { h.Suite = 2 }, errSuite},
		"policy 3":          {func(h *Header) { h.Policy = 3 }, errPolicy},
		"no tenant":         {func(h *Header) { h.Tenant = "" }, errTenant},
		"tenant of 129":     {func(h *Header) { h.Tenant = s(129) }, errTenant},
		"tenant with space": {func(h *Header) { h.Tenant = "a b" }, errTenant},
		"tenant in Unicode": {func(h *Header) { h.Tenant = "ácme" }, errTenant},
		"recipients of REF": {func(h *Header) { h.Policy = PolicyREF }, errRef},
		"none":              {func(h *Header) { h.Recipients = nil }, errCount},
		"nine":              {func(h *Header) { h.Recipients = keys(9) }, errCount},
		"one of ALL":        {func(h *Header) { h.Policy, h.Recipients = PolicyALL, keys(1) }, errAll},
		"unsorted":          {func(h *Header) { r := h.Recipients; r[0], r[1] = r[1], r[0] }, errOrder},
		"duplicate":         {func(h *Header) { h.Recipients[1] = h.Recipients[0] }, errOrder},
		"no provider":       {func(h *Header) { h.Recipients[0].Provider = "" }, errProvider},
		"provider of 33":    {func(h *Header) { h.Recipients[0].Provider = s(33) }, errProvider},
		"no key":            {func(h *Header) { h.Recipients[0].Key = "" }, errKey},
		"key with newline":  {func(h *Header) { h.Recipients[0].Key = "a\n" }, errKey},
		"key of 2049":       {func(h *Header) { h.Recipients[0].Key = s(2049) }, errKey},
		"nothing wrapped":   {func(h *Header) { h.Recipients[1].Wrapped = nil }, errWrapped},
		"wrapped of 6145":   {func(h *Header) { h.Recipients[1].Wrapped = make([]byte, 6145) }, errWrapped},
		"section too long": {func(h *Header) {
			h.Recipients = keys(3)
			for i := range h.Recipients {
				h.Recipients[i].Wrapped = make([]byte, 6000)
			}
		}, errSection},
	} {
		h := &Header{Suite: SuiteFLOE, Policy: PolicyANY, Tenant: "acme", Recipients: keys(2)}
		if _, err := h.Append(nil); err != nil {
			t.Fatal(err)
		}
		c.spoil(h)
		if b, err := h.Append([]byte("x")); err != c.want || b != nil || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %d bytes, %v, want %v", name, len(b), err, c.want)
		}
		b, err := h.AppendCore(nil)
		if inCore := c.want == errSuite || c.want == errPolicy || c.want == errTenant; (err != nil) != inCore || (b == nil) != inCore {
			t.Errorf("%s: AppendCore: %v", name, err)
		}
	}
}

// The largest of everything passes, both ways; one more is refused above.
func TestLimitsAreInclusive(t *testing.T) {
	largest := &Header{Suite: SuiteFLOE, Policy: PolicyALL, Tenant: s(MaxTenant), Recipients: []Recipient{
		{s(MaxProvider), s(MaxKey), make([]byte, MaxWrapped)},
		{s(MaxProvider-1) + "y", "k", make([]byte, MaxWrapped)},
	}}
	size := MaxRecipientsSection - largest.sectionSize() - (1 + 1 + 2 + 1 + 2)
	largest.Recipients = append(largest.Recipients, Recipient{"z", "k", make([]byte, size)})
	b, err := largest.Append(nil)
	if err != nil || len(b) != MaxHeader {
		t.Fatalf("%d bytes, want %d: %v", len(b), MaxHeader, err)
	}
	if h, core, rest, err := Parse(b); err != nil || !reflect.DeepEqual(h, largest) || len(core) != MaxCore || len(rest) != 0 {
		t.Errorf("%v", err)
	}
	eight := &Header{Suite: SuiteFLOE, Policy: PolicyALL, Tenant: "!~", Recipients: keys(MaxRecipients)}
	if b, err = eight.Append(nil); err != nil {
		t.Fatal(err)
	}
	if h, _, _, err := Parse(b); err != nil || len(h.Recipients) != 8 {
		t.Errorf("%v", err)
	}
}

// Order is by provider, then key, compared apart: joined, these would be equal.
func TestOrderComparesThePartsApart(t *testing.T) {
	h := &Header{Suite: SuiteFLOE, Policy: PolicyANY, Tenant: "t", Recipients: []Recipient{
		{"a", "bc", []byte("1")}, {"ab", "a", []byte("2")}, {"ab", "c", []byte("3")}}}
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, _, err := Parse(b); err != nil || !reflect.DeepEqual(got, h) {
		t.Error(err)
	}
}

// B2: no two (core, purpose, aad) have the same associated data. The parts are drawn
// from pieces of the framing itself, where a collision would be likeliest.
func TestB2_PayloadAADIsInjective(t *testing.T) {
	part := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{
			"a", "b", "\x00", "\x01", "\x00\x00", "\x00\x00\x00\x01", payloadLabel, "\x00\x01a"}), 0, 4).Draw(t, "pieces"), "")
	})
	differ := 0
	rapid.Check(t, func(t *rapid.T) {
		var a, b [3]string
		for i := range a {
			a[i], b[i] = part.Draw(t, "a"), part.Draw(t, "b")
		}
		if rapid.Bool().Draw(t, "regroup") { // the same bytes, cut elsewhere
			all := strings.Join(a[:], "")
			i := rapid.IntRange(0, len(all)).Draw(t, "i")
			j := rapid.IntRange(i, len(all)).Draw(t, "j")
			b = [3]string{all[:i], all[i:j], all[j:]}
		}
		x := PayloadAAD([]byte(a[0]), a[1], []byte(a[2]))
		y := PayloadAAD([]byte(b[0]), b[1], []byte(b[2]))
		if bytes.Equal(x, y) != (a == b) {
			t.Fatalf("%q and %q: equal %v", a, b, bytes.Equal(x, y))
		}
		if a != b {
			differ++
		}
	})
	if differ == 0 {
		t.Error("no two different triples were compared")
	}
	if !bytes.Equal(PayloadAAD(nil, "p", nil), PayloadAAD([]byte{}, "p", []byte{})) {
		t.Error("nil and empty differ")
	}
	if got := AppendPayloadAAD([]byte("x"), nil, "p", nil); !bytes.Equal(got[1:], PayloadAAD(nil, "p", nil)) || got[0] != 'x' {
		t.Error("the append form writes something else")
	}
	defer func() {
		if recover() == nil {
			t.Error("a purpose that does not fit its length field was cut")
		}
	}()
	PayloadAAD(nil, s(1<<16), nil)
}

// B3: what looks alike differs, and what cannot be told apart is refused.
func TestB3_Names(t *testing.T) {
	for _, c := range []struct {
		name string
		is   func(string) bool
		good []string
		bad  []string
	}{
		{"tenant", ValidTenant, []string{"a", "Acme", "!", "~", "a/b:c", s(128)},
			[]string{"", " ", "a b", "a\x00", "a\n", "\x7f", "\xff", "é", "а", s(129), "a "}},
		{"purpose", ValidPurpose, []string{"a", "users.ssn", "a_b-c.9", "0", s(64)},
			[]string{"", "A", "a b", "a/b", "a:b", "é", "a\x00", "\n", s(65), "`", "{", "a*"}},
		{"provider", ValidProvider, []string{"aws-kms", "AWS", s(32)}, []string{"", "aws kms", "\x1b", s(33)}},
		{"key", ValidKey, []string{"arn:aws:kms:eu-west-1:111122223333:key/1", s(2048)},
			[]string{"", "kek-1\x00evil", "\n", "\xff", s(2049)}},
	} {
		for _, v := range c.good {
			if !c.is(v) {
				t.Errorf("%s %q is refused", c.name, v)
			}
		}
		for _, v := range c.bad {
			if c.is(v) {
				t.Errorf("%s %q is accepted", c.name, v)
			}
		}
	}
}
