package byok_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/vectors"
)

// How the files of testdata/vectors are made. Random parts (IVs, nonces) are drawn,
// so that a file is made once and kept: -update only adds what is missing.

// rawHeader is a header in pieces, each of which can be wrong on its own.
type rawHeader struct {
	magic                         string
	version, suite, policy, flags byte
	tenantLen                     int // own: what it really is
	tenant                        string
	section                       bool // has a recipients section
	sectionLen, count             int
	recipients                    []rawRecipient
	slack                         string
}

type rawRecipient struct {
	provider, key, wrapped          string
	providerLen, keyLen, wrappedLen int
}

const own = -1

// The stories of the vectors have one key, one place, and these CMKs.
const (
	vectorTenant  = "acme"
	vectorPurpose = "invoices"
	vectorAAD     = "invoice/42"
	cmk1          = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	cmk2          = "arn:aws:kms:us-west-2:111122223333:key/5678efab-12ab-34cd-56ef-1234567890ab"
)

var vectorKey = func() []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}()

func rcpt(key, wrapped string) rawRecipient {
	return rawRecipient{"aws-kms", key, wrapped, own, own, own}
}

func header(policy byte, rs ...rawRecipient) *rawHeader {
	return &rawHeader{magic: "byok", version: 1, suite: 1, policy: policy, tenantLen: own, tenant: vectorTenant,
		section: policy != format.PolicyREF, sectionLen: own, count: own, recipients: rs}
}

func refHeader() *rawHeader { return header(format.PolicyREF) }
func anyHeader() *rawHeader { return header(format.PolicyANY, rcpt(cmk1, "wrapped-1")) }
func twoHeader(policy byte) *rawHeader {
	return header(policy, rcpt(cmk1, "wrapped-1"), rcpt(cmk2, "wrapped-2"))
}

func orOwn(set, real int) int {
	if set != own {
		return set
	}
	return real
}

func (h *rawHeader) core() []byte {
	b := append([]byte(h.magic), h.version, h.suite, h.policy, h.flags)
	b = append(b, bytes.Repeat([]byte{0xd1}, 16)...)
	return append(append(b, byte(orOwn(h.tenantLen, len(h.tenant)))), h.tenant...)
}

func (h *rawHeader) bytes() []byte {
	if !h.section {
		return h.core()
	}
	s := []byte{byte(orOwn(h.count, len(h.recipients)))}
	for _, r := range h.recipients {
		s = append(append(s, byte(orOwn(r.providerLen, len(r.provider)))), r.provider...)
		s = append(binary.BigEndian.AppendUint16(s, uint16(orOwn(r.keyLen, len(r.key)))), r.key...)
		s = append(binary.BigEndian.AppendUint16(s, uint16(orOwn(r.wrappedLen, len(r.wrapped)))), r.wrapped...)
	}
	s = append(s, h.slack...)
	return append(binary.BigEndian.AppendUint16(h.core(), uint16(orOwn(h.sectionLen, len(s)))), s...)
}

// vectorShares are the shares of n recipients: what a vector of policy ALL has for a key.
func vectorShares(n int) []byte {
	b := make([]byte, 32*n)
	for i := range b {
		b[i] = byte(i + 0x20)
	}
	return b
}

// forger seals under the header as it is, mistakes and all: every tag is right.
func (h *rawHeader) forger(segment uint32) *vectors.Forger {
	key := vectorKey
	if h.policy == format.PolicyALL && len(h.recipients) > 1 {
		key = vectors.DataKey(h.parsed(), vectorShares(len(h.recipients)))
	}
	return vectors.Forge(key, format.PayloadAAD(h.core(), vectorPurpose, []byte(vectorAAD)), segment)
}

// parsed is as much of the header as its shares need.
func (h *rawHeader) parsed() *format.Header {
	p := &format.Header{Policy: h.policy, Recipients: make([]format.Recipient, len(h.recipients))}
	copy(p.DataKey[:], h.core()[8:])
	return p
}

func (h *rawHeader) seal(pieces ...[]byte) []byte {
	return append(h.bytes(), h.forger(65536).Message(pieces...)...)
}

// vectorPlain is a plaintext that does not repeat with the segments.
func vectorPlain(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16*7)
	}
	return b
}

// pieces cuts a plaintext into what full segments carry.
func pieces(plain []byte, segment int) [][]byte {
	var out [][]byte
	for len(plain) > segment-32 {
		out, plain = append(out, plain[:segment-32]), plain[segment-32:]
	}
	return append(out, plain)
}

func newVector(name, comment string, envelope []byte) *vectors.Vector {
	return &vectors.Vector{Name: name, Comment: comment, Key: vectorKey, Tenant: vectorTenant, Purpose: vectorPurpose,
		AAD: []byte(vectorAAD), Envelope: envelope}
}

// goldenVectors must open for ever.
func goldenVectors() (all []*vectors.Vector) {
	add := func(name, comment string, envelope, plain []byte) *vectors.Vector {
		v := newVector("v1-"+name, comment, envelope)
		v.SetPlain(plain)
		all = append(all, v)
		return v
	}
	for _, s := range []struct {
		name    string
		segment int
		sizes   []int
	}{
		{"4k", 4096, []int{0, 1, 4063, 4064, 4065, 8127, 8128, 8129, 40647}},
		{"64k", 65536, []int{0, 1, 9, 65503, 65504, 65505}},
		{"1m", 1048576, []int{0, 1, 1048545}},
	} {
		for _, n := range s.sizes {
			h, plain := refHeader(), vectorPlain(n)
			add(fmt.Sprintf("ref-%s-%d", s.name, n), fmt.Sprintf("policy REF, %d bytes in segments of %d", n, s.segment),
				append(h.bytes(), h.forger(uint32(s.segment)).Message(pieces(plain, s.segment)...)...), plain)
		}
	}
	hello := []byte("hello")
	add("any-1", "policy ANY, one recipient", anyHeader().seal(hello), hello)
	add("any-2", "policy ANY, two recipients", twoHeader(format.PolicyANY).seal(hello), hello)
	eight := header(format.PolicyANY)
	for i := range 8 {
		eight.recipients = append(eight.recipients, rawRecipient{"p", fmt.Sprint("k", i), "w", own, own, own})
	}
	add("any-8", "policy ANY, eight recipients", eight.seal(hello), hello)
	ordered := header(format.PolicyANY, rawRecipient{"ab", "c", "w", own, own, own}, rawRecipient{"b", "a", "w", own, own, own})
	add("any-order", "providers are compared before keys", ordered.seal(hello), hello)
	longest := header(format.PolicyANY, rawRecipient{strings.Repeat("p", 32), strings.Repeat("k", 2048), strings.Repeat("w", 6144), own, own, own},
		rawRecipient{strings.Repeat("p", 32), strings.Repeat("l", 2048), strings.Repeat("w", 16384-1-2*(5+32+2048)-6144), own, own, own})
	add("any-largest", "a recipients section of 16384 bytes, and the longest names", longest.seal(hello), hello)
	all2, all8 := twoHeader(format.PolicyALL), header(format.PolicyALL)
	all8.recipients = eight.recipients
	add("all-2", "policy ALL, two recipients; the key is their shares", all2.seal(hello), hello).Key = vectorShares(2)
	add("all-8", "policy ALL, eight recipients; the key is their shares", all8.seal(hello), hello).Key = vectorShares(8)
	long := vectorPlain(8129)
	add("all-2-4k-8129", "policy ALL, 8129 bytes in segments of 4096", append(all2.bytes(), all2.forger(4096).Message(pieces(long, 4096)...)...), long).Key = vectorShares(2)
	allOrdered := header(format.PolicyALL, ordered.recipients...)
	add("all-order", "policy ALL: shares are joined in the order of the recipients, whose providers are compared first", allOrdered.seal(hello), hello).Key = vectorShares(2)
	h := refHeader()
	full := vectorPlain(4064)
	add("ref-empty-final", "a full segment, and an empty final one: no writer of byok makes it, every reader accepts it",
		append(h.bytes(), h.forger(4096).Message(full, nil)...), full)
	for _, tenant := range []string{"!", strings.Repeat("~", 128)} {
		h := refHeader()
		h.tenant = tenant
		add(fmt.Sprintf("tenant-%d", len(tenant)), "the shortest and the longest tenant", h.seal(hello), hello).Tenant = tenant
	}
	for _, c := range []struct{ name, purpose, aad string }{
		{"purpose-1", "a", vectorAAD}, {"purpose-64", strings.Repeat("0._-", 16), vectorAAD},
		{"aad-0", vectorPurpose, ""}, {"aad-8192", vectorPurpose, strings.Repeat("\x00", 8192)},
	} {
		h := refHeader()
		f := vectors.Forge(vectorKey, format.PayloadAAD(h.core(), c.purpose, []byte(c.aad)), 65536)
		v := add(c.name, "a limit of what the caller may say", append(h.bytes(), f.Message(hello)...), hello)
		v.Purpose, v.AAD = c.purpose, []byte(c.aad)
	}
	return all
}

// badVectors break one rule each. Every tag in them is right, but where the comment says so.
func badVectors() (all []*vectors.Vector) {
	hello := []byte("hello")
	add := func(result vectors.Result, rule, name, comment string, envelope []byte) *vectors.Vector {
		v := newVector(name, comment, envelope)
		v.Result, v.Rule = result, rule
		all = append(all, v)
		return v
	}
	malformed := func(rule, name, comment string, h *rawHeader, edit func(*rawHeader)) {
		edit(h)
		add(vectors.Malformed, rule, name, comment, h.seal(hello))
	}
	const M1, M2, M3, M4, M7 = "MUST-1", "MUST-2", "MUST-3", "MUST-4", "MUST-7"
	malformed(M1, "magic", "another magic", refHeader(), func(h *rawHeader) { h.magic = "byoK" })
	for _, v := range []byte{0, 2, 255} {
		malformed(M1, fmt.Sprint("version-", v), "an unknown version", refHeader(), func(h *rawHeader) { h.version = v })
		malformed(M1, fmt.Sprint("suite-", v), "an unknown suite", refHeader(), func(h *rawHeader) { h.suite = v })
	}
	for _, v := range []byte{3, 255} {
		malformed(M1, fmt.Sprint("policy-", v), "an unknown policy", twoHeader(v), func(*rawHeader) {})
	}
	for bit := range 8 {
		malformed(M1, fmt.Sprint("flag-", bit), "a reserved flag", refHeader(), func(h *rawHeader) { h.flags = 1 << bit })
	}
	malformed(M2, "tenant-empty", "no tenant", refHeader(), func(h *rawHeader) { h.tenant = "" })
	malformed(M2, "tenant-129", "a tenant of 129 bytes", refHeader(), func(h *rawHeader) { h.tenant = strings.Repeat("a", 129) })
	for name, c := range map[string]string{"space": " ", "nul": "\x00", "newline": "\n", "del": "\x7f", "high": "\xff"} {
		malformed(M2, "tenant-"+name, "a byte that no tenant has", refHeader(), func(h *rawHeader) { h.tenant = "ac" + c + "me" })
		malformed(M2, "provider-"+name, "a byte that no provider has", anyHeader(), func(h *rawHeader) { h.recipients[0].provider += c })
		malformed(M2, "key-"+name, "a byte that no key has", anyHeader(), func(h *rawHeader) { h.recipients[0].key += c })
	}
	malformed(M2, "provider-empty", "a provider without a name", anyHeader(), func(h *rawHeader) { h.recipients[0].provider = "" })
	malformed(M2, "provider-33", "a provider of 33 bytes", anyHeader(), func(h *rawHeader) { h.recipients[0].provider = strings.Repeat("p", 33) })
	malformed(M2, "key-empty", "a key without a name", anyHeader(), func(h *rawHeader) { h.recipients[0].key = "" })
	malformed(M2, "key-2049", "a key of 2049 bytes", anyHeader(), func(h *rawHeader) { h.recipients[0].key = strings.Repeat("k", 2049) })
	malformed(M2, "wrapped-empty", "no wrapped key", anyHeader(), func(h *rawHeader) { h.recipients[0].wrapped = "" })
	malformed(M2, "wrapped-6145", "a wrapped key of 6145 bytes", anyHeader(), func(h *rawHeader) { h.recipients[0].wrapped = strings.Repeat("w", 6145) })
	malformed(M2, "recipients-0", "policy ANY without a recipient", header(format.PolicyANY), func(*rawHeader) {})
	malformed(M2, "recipients-9", "nine recipients", header(format.PolicyANY), func(h *rawHeader) {
		for i := range 9 {
			h.recipients = append(h.recipients, rawRecipient{"p", fmt.Sprint("k", i), "w", own, own, own})
		}
	})
	malformed(M2, "all-of-one", "policy ALL with one recipient", anyHeader(), func(h *rawHeader) { h.policy = format.PolicyALL })
	malformed(M2, "section-16385", "a recipients section of 16385 bytes", anyHeader(), func(h *rawHeader) {
		h.recipients = []rawRecipient{{"p", "k1", strings.Repeat("w", 6144), own, own, own}, {"p", "k2", strings.Repeat("w", 6144), own, own, own},
			{"p", "k3", strings.Repeat("w", 16385-1-3*8-2*6144), own, own, own}}
	})
	malformed(M3, "order", "keys in descending order", twoHeader(format.PolicyANY), func(h *rawHeader) {
		h.recipients[0], h.recipients[1] = h.recipients[1], h.recipients[0]
	})
	malformed(M3, "order-provider", "providers in descending order, keys in ascending order", twoHeader(format.PolicyANY),
		func(h *rawHeader) { h.recipients[0].provider = "gcp-kms" })
	malformed(M3, "order-joined", "in order only if provider and key are joined", header(format.PolicyANY,
		rawRecipient{"b", "a", "w", own, own, own}, rawRecipient{"ab", "z", "w", own, own, own}), func(*rawHeader) {})
	malformed(M3, "duplicate", "one recipient twice", anyHeader(), func(h *rawHeader) { h.recipients = append(h.recipients, h.recipients[0]) })
	malformed(M3, "duplicate-key", "one key with two wrapped keys", anyHeader(), func(h *rawHeader) {
		h.recipients = append(h.recipients, rcpt(cmk1, "wrapped-2"))
	})
	malformed(M4, "slack", "a byte left over in the section", anyHeader(), func(h *rawHeader) { h.slack = "\x00" })
	malformed(M4, "slack-recipient", "a recipient more than the count says", twoHeader(format.PolicyANY), func(h *rawHeader) { h.count = 1 })
	malformed(M4, "count-too-high", "a recipient less than the count says", anyHeader(), func(h *rawHeader) { h.count = 2 })
	malformed(M4, "section-short", "the section ends within a recipient", anyHeader(), func(h *rawHeader) { h.sectionLen = 90 })
	malformed(M4, "section-long", "the section reaches into the payload", anyHeader(), func(h *rawHeader) { h.sectionLen = 120 })
	malformed(M4, "section-empty", "a section of no bytes", anyHeader(), func(h *rawHeader) { h.sectionLen = 0 })
	malformed(M4, "section-lies", "a section of 65535 bytes that are not there", anyHeader(), func(h *rawHeader) { h.sectionLen = 65535 })
	malformed(M4, "wrapped-lies", "a wrapped key of 65535 bytes that are not there", anyHeader(), func(h *rawHeader) { h.recipients[0].wrappedLen = 65535 })
	malformed(M4, "tenant-lies", "a tenant one byte shorter than its length", header(format.PolicyREF), func(h *rawHeader) { h.tenantLen = 255 })
	malformed("MUST-24", "ref-with-recipients", "REF and a recipients section: it is the start of a payload that has no such parameters",
		anyHeader(), func(h *rawHeader) { h.policy = format.PolicyREF })
	good := refHeader().seal(hello)
	add(vectors.Malformed, M7, "base64", "base64 text", []byte(base64.StdEncoding.EncodeToString(good)))
	add(vectors.Malformed, M7, "hex", "hexadecimal text", []byte(hex.EncodeToString(good)))
	add(vectors.Malformed, M7, "space-before", "a space before an envelope", append([]byte(" "), good...))
	add(vectors.Malformed, M2, "empty", "nothing", nil)
	add(vectors.Malformed, M2, "cut-in-core", "an envelope that ends in CORE", good[:20])
	anyOne := anyHeader()
	add(vectors.Malformed, M4, "no-section", "policy ANY, and nothing after CORE", anyOne.core())

	// FLOE: parameters that are not ours, under a right header tag.
	const M24 = "MUST-24"
	h := refHeader()
	for _, segment := range []uint32{0, 33, 64, 4095, 8192, 65537, 1 << 21, 0xffffffff} {
		add(vectors.Malformed, M24, fmt.Sprint("segment-", segment), "a segment length that is not allowed", append(h.bytes(), h.forger(segment).Message(hello)...))
	}
	for name, edit := range map[string]func(*vectors.Forger){
		"aead": func(f *vectors.Forger) { f.AEAD = 1 }, "kdf": func(f *vectors.Forger) { f.KDF = 1 }, "iv-length": func(f *vectors.Forger) { f.IVLength = 31 },
	} {
		f := h.forger(65536)
		edit(f)
		add(vectors.Malformed, M24, "floe-"+name, "another parameter of FLOE", append(h.bytes(), f.Message(hello)...))
	}
	const M19, M17, M18, M20 = "MUST-19", "MUST-17", "MUST-18", "MUST-20"
	full := vectorPlain(4064)
	shape := func(name, comment string, payload []byte) {
		add(vectors.Refused, M19, name, comment, append(h.bytes(), payload...))
	}
	shape("short-segment", "a segment before the last one that is not full", h.forger(4096).Message(full[:31], full))
	shape("long-final", "a final segment longer than a segment", h.forger(4096).Message(vectorPlain(4065)))
	f := h.forger(4096)
	shape("no-final", "no final segment", append(f.Header(), f.Piece(full, 0, false)...))
	f = h.forger(4096)
	shape("two-finals", "a final segment after the final segment", append(append(f.Header(), f.Piece(full, 0, true)...), f.Piece(full, 1, true)...))
	f = h.forger(4096)
	shape("position", "a segment sealed for another position", append(append(f.Header(), f.Piece(full, 0, false)...), f.Piece(full, 2, true)...))
	f = h.forger(4096)
	shape("dropped", "the first segment is missing", append(f.Header(), f.Piece(full, 1, true)...))
	one := h.forger(65536).Message(hello)
	shape("trailing-byte", "a byte after the final segment", append(bytes.Clone(one), 0))
	shape("cut-header", "a payload that ends in FLOE's header", one[:73])
	shape("no-segment", "a payload that ends after FLOE's header", one[:74])
	shape("no-payload", "no payload", nil)
	for name, n := range map[string]uint32{"0": 0, "31": 31, "less": 36, "more": 38, "huge": 0x7fffffff, "negative": 0x80000000, "not-final": 0xffffffff} {
		b := bytes.Clone(one)
		binary.BigEndian.PutUint32(b[74:], n)
		add(vectors.Refused, M19, "length-"+name, "the length of the final segment lies", append(h.bytes(), b...))
	}
	for name, at := range map[string]int{"first": 42, "last": 73} {
		b := bytes.Clone(one)
		b[at] ^= 1
		add(vectors.Refused, M17, "header-tag-"+name, "the header tag is wrong in one byte, the segment is right", append(h.bytes(), b...))
	}
	add(vectors.Refused, M18, "wrong-key", "another data key", good).Key = bytes.Repeat([]byte{1}, 32)
	add(vectors.Refused, M18, "wrong-tenant", "another tenant's caller", good).Tenant = "umbrella"
	add(vectors.Refused, M18, "wrong-purpose", "another purpose", good).Purpose = "invoice"
	add(vectors.Refused, M18, "wrong-aad", "another aad", good).AAD = []byte("invoice/43")
	v := add(vectors.Refused, M18, "moved-boundary", "purpose and aad run together the same way", good)
	v.Purpose, v.AAD = "invoicesi", []byte("nvoice/42")
	other := refHeader()
	other.tenant = "umbrella"
	add(vectors.Refused, M18, "core-swapped", "CORE of another tenant before the payload", append(other.bytes(), good[len(h.bytes()):]...)).Tenant = "umbrella"
	add(vectors.Refused, M18, "policy-swapped", "REF turned into ANY: CORE is bound", append(anyHeader().bytes(), good[len(h.bytes()):]...))
	dual := twoHeader(format.PolicyALL).seal(hello)
	both := vectorShares(2)
	add(vectors.Refused, M18, "all-one-share", "policy ALL, with the share of one recipient", dual).Key = both[:32]
	add(vectors.Refused, M18, "all-shares-swapped", "policy ALL, shares in the other order", dual).Key = append(bytes.Clone(both[32:]), both[:32]...)
	add(vectors.Refused, M18, "all-wrong-share", "policy ALL, the second share is another one", dual).Key = append(bytes.Clone(both[:32]), both[:32]...)
	add(vectors.Refused, M18, "all-too-many-shares", "policy ALL, a share too many", dual).Key = vectorShares(3)
	add(vectors.Refused, "MUST-21", "all-short-share", "policy ALL, a share of 31 bytes", dual).Key = both[:63]
	anyOfAll := twoHeader(format.PolicyANY)
	add(vectors.Refused, M18, "all-as-any", "ALL turned into ANY, with one share for a data key: CORE is bound", append(anyOfAll.bytes(), dual[len(anyOfAll.bytes()):]...)).Key = both[:32]
	add(vectors.Refused, "MUST-21", "short-key", "a data key of 16 bytes", good).Key = vectorKey[:16]
	add(vectors.Refused, M20, "final-in-the-middle", "a segment that was sealed as one of many, with the length of a final one", func() []byte {
		f := h.forger(4096)
		b := append(f.Header(), f.Piece(full, 0, false)...)
		binary.BigEndian.PutUint32(b[74:], 4096)
		return append(h.bytes(), b...)
	}())
	const M26 = "MUST-26"
	add(vectors.Argument, M26, "argument-tenant", "a tenant with a space", good).Tenant = "ac me"
	add(vectors.Argument, M26, "argument-purpose", "an upper-case purpose", good).Purpose = "Invoices"
	add(vectors.Argument, M26, "argument-purpose-65", "a purpose of 65 bytes", good).Purpose = strings.Repeat("p", 65)
	add(vectors.Argument, M26, "argument-no-purpose", "no purpose", good).Purpose = ""
	add(vectors.Argument, M26, "argument-aad", "an aad of 8193 bytes", good).AAD = make([]byte, 8193)
	return all
}
