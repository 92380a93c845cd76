package format

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// raw is a header in pieces, each of which a test can get wrong on its own. Its
// lengths are right unless one is set: the malformed headers here are such that no
// tag would refuse them, only the rule that they break.
type raw struct {
	magic                         string
	version, suite, policy, flags byte
	id                            []byte
	tenantLen                     int
	tenant                        string
	sectionLen, count             int
	entries                       []entry
	slack                         string
}

type entry struct {
	provider, key, wrapped          string
	providerLen, keyLen, wrappedLen int
}

const own = -1 // the length that the piece really has

func recipient(provider, key, wrapped string) entry {
	return entry{provider, key, wrapped, own, own, own}
}

func valid(policy byte, entries ...entry) *raw {
	return &raw{magic: "byok", version: 1, suite: 1, policy: policy, id: bytes.Repeat([]byte{0xd1}, 16),
		tenantLen: own, tenant: "acme", sectionLen: own, count: own, entries: entries}
}

func ref() *raw { return valid(PolicyREF) }
func one() *raw { return valid(PolicyANY, recipient("aws-kms", "arn:1", "w1")) }
func two() *raw {
	return valid(PolicyALL, recipient("aws-kms", "arn:1", "w1"), recipient("aws-kms", "arn:2", "w2"))
}

func pick(set, real int) uint64 {
	if set != own {
		return uint64(set)
	}
	return uint64(real)
}

func (r *raw) bytes() []byte {
	b := append([]byte(r.magic), r.version, r.suite, r.policy, r.flags)
	b = append(b, r.id...)
	b = append(append(b, byte(pick(r.tenantLen, len(r.tenant)))), r.tenant...)
	if r.policy == PolicyREF && r.entries == nil {
		return b
	}
	section := []byte{byte(pick(r.count, len(r.entries)))}
	for _, e := range r.entries {
		section = append(append(section, byte(pick(e.providerLen, len(e.provider)))), e.provider...)
		section = append(binary.BigEndian.AppendUint16(section, uint16(pick(e.keyLen, len(e.key)))), e.key...)
		section = append(binary.BigEndian.AppendUint16(section, uint16(pick(e.wrappedLen, len(e.wrapped)))), e.wrapped...)
	}
	section = append(section, r.slack...)
	b = binary.BigEndian.AppendUint16(b, uint16(pick(r.sectionLen, len(section))))
	return append(b, section...)
}

// change applies one mistake to a good header.
func change(r *raw, f func(*raw)) []byte { f(r); return r.bytes() }

func s(n int) string { return strings.Repeat("x", n) }

type row struct {
	name string
	in   []byte
	want error
}

// Every rule of the parser, each broken alone.
func malformedRows() []row {
	rows := []row{
		{"empty", nil, errShort},
		{"cut in the magic", []byte("byo"), errShort},
		{"other magic", change(ref(), func(r *raw) { r.magic = "byoc" }), errMagic},
		{"upper-case magic", change(ref(), func(r *raw) { r.magic = "BYOK" }), errMagic},
		{"magic of zeros", change(ref(), func(r *raw) { r.magic = "\x00\x00\x00\x00" }), errMagic},
		{"no bytes of the id", change(ref(), func(r *raw) { r.id, r.tenant = nil, "" }), errShort},
		{"tenant empty", change(ref(), func(r *raw) { r.tenant = "" }), errTenant},
		{"tenant of 129", change(ref(), func(r *raw) { r.tenant = s(129) }), errTenant},
		{"tenant of 255", change(ref(), func(r *raw) { r.tenant = s(255) }), errTenant},
		{"tenant's length lies, +1", change(ref(), func(r *raw) { r.tenantLen = 5 }), errShort},
		{"tenant's length lies, most", change(ref(), func(r *raw) { r.tenantLen = 255 }), errShort},
		{"no recipients section", valid(PolicyANY).bytes()[:29], errShort},
		{"half a section length", one().bytes()[:30], errShort},
		{"section empty", append(one().bytes()[:29], 0, 0), errSection},
		{"section's length lies, +1", change(one(), func(r *raw) { r.sectionLen = 21 }), errShort},
		{"section reaches into the payload", append(change(one(), func(r *raw) { r.sectionLen = 21 }), "payload"...), errSlack},
		{"section's length lies, 0xffff", change(one(), func(r *raw) { r.sectionLen = 0xffff }), errShort},
		{"section's length lies, -1", change(one(), func(r *raw) { r.sectionLen = 19 }), errShort},
		{"no recipients with ANY", valid(PolicyANY).bytes(), errCount},
		{"no recipients with ALL", valid(PolicyALL).bytes(), errCount},
		{"count 0 with one there", change(one(), func(r *raw) { r.count = 0 }), errCount},
		{"count 255", change(one(), func(r *raw) { r.count = 255 }), errCount},
		{"count too high by one", change(one(), func(r *raw) { r.count = 2 }), errShort},
		{"count 8 with one there", change(one(), func(r *raw) { r.count = 8 }), errShort},
		{"count too low by one", change(two(), func(r *raw) { r.policy, r.count = PolicyANY, 1 }), errSlack},
		{"one recipient with ALL", change(one(), func(r *raw) { r.policy = PolicyALL }), errAll},
		{"slack of one byte", change(one(), func(r *raw) { r.slack = "\x00" }), errSlack},
		{"slack of a recipient", change(two(), func(r *raw) { r.count, r.policy = 1, PolicyANY }), errSlack},
		{"duplicate", change(two(), func(r *raw) { r.entries[1] = r.entries[0] }), errOrder},
		{"duplicate, other wrapping", change(two(), func(r *raw) { r.entries[1].key = "arn:1" }), errOrder},
		{"keys descending", change(two(), func(r *raw) { r.entries[0], r.entries[1] = r.entries[1], r.entries[0] }), errOrder},
		{"providers descending", change(two(), func(r *raw) { r.entries[0].provider = "gcp-kms" }), errOrder},
		{"provider empty", change(one(), func(r *raw) { r.entries[0].provider = "" }), errProvider},
		{"provider of 33", change(one(), func(r *raw) { r.entries[0].provider = s(33) }), errProvider},
		{"key empty", change(one(), func(r *raw) { r.entries[0].key = "" }), errKey},
		{"key of 2049", change(one(), func(r *raw) { r.entries[0].key = s(2049) }), errKey},
		{"wrapped empty", change(one(), func(r *raw) { r.entries[0].wrapped, r.entries[0].key = "", "longer" }), errWrapped},
		{"wrapped of 6145", change(one(), func(r *raw) { r.entries[0].wrapped = s(6145) }), errWrapped},
		{"provider's length lies", change(one(), func(r *raw) { r.entries[0].providerLen = 255 }), errShort},
		{"key's length lies", change(one(), func(r *raw) { r.entries[0].keyLen = 0xffff }), errShort},
		{"wrapped length lies, +1", change(one(), func(r *raw) { r.entries[0].wrappedLen = 3 }), errShort},
		{"wrapped length lies, -1", change(one(), func(r *raw) { r.entries[0].wrappedLen = 1 }), errSlack},
		{"wrapped length lies, most", change(one(), func(r *raw) { r.entries[0].wrappedLen = 0xffff }), errShort},
		{"section of 16385", change(full(), func(r *raw) { r.entries[2].wrapped += "x" }), errSection},
		{"hex text", []byte(hex.EncodeToString(ref().bytes())), errHex},
		{"hex text, upper case", []byte(strings.ToUpper(hex.EncodeToString(ref().bytes()))), errHex},
		{"hex text of Postgres", []byte(`\x` + hex.EncodeToString(ref().bytes())), errHex},
		{"base64", []byte(base64.StdEncoding.EncodeToString(one().bytes())), errBase64},
		{"base64, raw URL", []byte(base64.RawURLEncoding.EncodeToString(one().bytes())), errBase64},
		{"base64, quoted and indented", []byte("\n \"" + base64.StdEncoding.EncodeToString(one().bytes())), errBase64},
	}
	for v := range 256 {
		b := byte(v)
		if v != Version {
			rows = append(rows, row{fmt.Sprintf("version %#x", v), change(ref(), func(r *raw) { r.version = b }), errVersion})
		}
		if v != SuiteFLOE {
			rows = append(rows, row{fmt.Sprintf("suite %#x", v), change(ref(), func(r *raw) { r.suite = b }), errSuite})
		}
		if v > PolicyALL {
			rows = append(rows, row{fmt.Sprintf("policy %#x", v), change(two(), func(r *raw) { r.policy = b }), errPolicy})
		}
		if v != 0 {
			rows = append(rows, row{fmt.Sprintf("flags %#x", v), change(ref(), func(r *raw) { r.flags = b }), errFlags})
		}
		if v == 9 || v == 10 || v == 128 {
			rows = append(rows, row{fmt.Sprintf("count %d", v), change(full(), func(r *raw) { r.count = v }), errCount})
		}
		if v < 0x21 || v > 0x7e {
			c := string([]byte{b})
			rows = append(rows,
				row{fmt.Sprintf("tenant with %#x", v), change(ref(), func(r *raw) { r.tenant = "a" + c + "b" }), errTenant},
				row{fmt.Sprintf("tenant ends in %#x", v), change(ref(), func(r *raw) { r.tenant = "a" + c }), errTenant},
				row{fmt.Sprintf("provider with %#x", v), change(one(), func(r *raw) { r.entries[0].provider = "a" + c }), errProvider},
				row{fmt.Sprintf("key with %#x", v), change(one(), func(r *raw) { r.entries[0].key = "kek-1" + c + "evil" }), errKey})
		}
	}
	nine := valid(PolicyANY)
	for i := range 9 {
		nine.entries = append(nine.entries, recipient("p", fmt.Sprint("k", i), "w"))
	}
	return append(rows, row{"nine recipients", nine.bytes(), errCount})
}

// full has a recipients section of exactly the largest size.
func full() *raw {
	r := valid(PolicyANY, recipient("a", "1", s(6144)), recipient("a", "2", s(6144)), recipient("a", "3", ""))
	r.entries[2].wrapped = s(MaxRecipientsSection - 1 - 3*7 - 2*6144)
	return r
}
