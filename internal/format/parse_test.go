package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEachRuleOfTheParser(t *testing.T) {
	rows := malformedRows()
	if len(rows) < 1000 {
		t.Fatalf("only %d rows", len(rows))
	}
	hit := map[error]bool{}
	for _, r := range rows {
		hit[r.want] = true
		h, core, rest, err := Parse(r.in)
		if err != r.want {
			t.Errorf("%s: %v, want: %v", r.name, err, r.want)
		}
		if h != nil || core != nil || rest != nil {
			t.Errorf("%s: something is returned with the error", r.name)
		}
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: not ErrMalformed", r.name)
		}
		into := Header{Tenant: "old", Recipients: make([]Recipient, 1)}
		if _, _, err := into.Parse(r.in); err == nil || !reflect.DeepEqual(into, Header{}) {
			t.Errorf("%s: the Header holds something after the error", r.name)
		}
	}
	// errRef is missing here: it is a rule for writers only.
	for _, rule := range []error{errBase64, errHex, errShort, errMagic, errVersion, errSuite, errPolicy, errFlags,
		errTenant, errSection, errCount, errAll, errOrder, errProvider, errKey, errWrapped, errSlack} {
		if !hit[rule] {
			t.Errorf("no row breaks the rule %q", rule)
		}
	}
}

// The rows are refused for their one mistake: without it they are good.
func TestTheBaseHeadersAreGood(t *testing.T) {
	for name, r := range map[string]*raw{"REF": ref(), "ANY": one(), "ALL": two(), "full": full()} {
		b := append(r.bytes(), "payload"...)
		h, core, rest, err := Parse(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if string(rest) != "payload" || !bytes.Equal(core, b[:29]) || &core[0] != &b[0] || cap(core) != len(core) {
			t.Errorf("%s: core %q, rest %q", name, core, rest)
		}
		if h.Tenant != "acme" || h.DataKey[15] != 0xd1 || h.Suite != 1 || h.Policy != r.policy || len(h.Recipients) != len(r.entries) {
			t.Errorf("%s: %+v", name, h)
		}
		for i, e := range r.entries {
			if got := h.Recipients[i]; got.Provider != e.provider || got.Key != e.key || string(got.Wrapped) != e.wrapped {
				t.Errorf("%s: recipient %d: %+v", name, i, got)
			}
		}
		if rest, want := h.Size(), len(b)-len("payload"); rest != want {
			t.Errorf("%s: Size %d, want %d", name, rest, want)
		}
		// No memory is shared: the caller's buffer may be reused.
		before, _ := h.Append(nil)
		clear(b)
		if after, _ := h.Append(nil); !bytes.Equal(before, after) {
			t.Errorf("%s: the header changes with the input", name)
		}
	}
}

// Every prefix of a header is refused, except that a REF header ends before
// whatever follows; nothing is guessed from half a header.
func TestEveryPrefixIsRefused(t *testing.T) {
	for name, r := range map[string]*raw{"REF": ref(), "ANY": one(), "ALL": two(), "full": full()} {
		b := r.bytes()
		for n := range b {
			if _, _, _, err := Parse(b[:n]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%s cut to %d: %v", name, n, err)
			}
		}
	}
}

// Canonical: whatever parses is what encoding gives. Random bytes never parse, so
// the input is a good header with a few bytes changed, dropped or added.
func TestParseThenEncodeIsTheIdentityOrParseFails(t *testing.T) {
	parsed, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SampledFrom([]*raw{ref(), one(), two()}).Draw(t, "base").bytes()
		for range rapid.IntRange(0, 3).Draw(t, "edits") {
			at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			switch rapid.IntRange(0, 2).Draw(t, "edit") {
			case 0:
				b[at] = rapid.Byte().Draw(t, "byte")
			case 1:
				b = append(b[:at], b[at+1:]...)
			default:
				b = append(b[:at], append([]byte{rapid.Byte().Draw(t, "byte")}, b[at:]...)...)
			}
		}
		if identity(t, b) {
			parsed++
		} else {
			refused++
		}
	})
	if parsed == 0 || refused == 0 {
		t.Errorf("%d parsed, %d refused: one side was never tried", parsed, refused)
	}
}

// identity checks one input, and reports whether it parsed.
func identity(t interface{ Fatalf(string, ...any) }, b []byte) bool {
	h, core, rest, err := Parse(b)
	if err != nil {
		if !errors.Is(err, ErrMalformed) {
			t.Fatalf("an error of another kind: %v", err)
		}
		return false
	}
	again, err := h.Append(nil)
	if err != nil || !bytes.Equal(append(again, rest...), b) {
		t.Fatalf("%x parses, and encodes to %x: %v", b, again, err)
	}
	if c, err := h.AppendCore(nil); err != nil || !bytes.Equal(c, core) {
		t.Fatalf("core is %x, AppendCore says %x: %v", core, c, err)
	}
	return true
}

// A9, B12: a length that lies costs nothing. 0xffff is the most that a field says,
// and the whole refusal may take less than that.
func TestLyingLengthsAllocateNothing(t *testing.T) {
	lies := [][]byte{
		change(one(), func(r *raw) { r.sectionLen = 0xffff }),
		change(one(), func(r *raw) { r.entries[0].wrappedLen = 0xffff }),
		change(one(), func(r *raw) { r.entries[0].keyLen = 0xffff }),
		change(one(), func(r *raw) { r.count = 8 }),
		change(ref(), func(r *raw) { r.tenantLen = 255 }),
	}
	const rounds = 1000
	for i, b := range lies {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			if _, _, _, err := Parse(b); err == nil {
				t.Fatal("parsed")
			}
		}
		runtime.ReadMemStats(&after)
		if per := (after.TotalAlloc - before.TotalAlloc) / rounds; per > 512 {
			t.Errorf("lie %d: %d bytes allocated for a refusal", i, per)
		}
	}
}

func TestParseOfREFAllocatesOnlyTheTenant(t *testing.T) {
	b := append(ref().bytes(), make([]byte, 200)...)
	var h Header
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := h.Parse(b); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

// Reasons are fixed texts: nothing of the input gets into a log through them.
func TestErrorsRepeatNoInput(t *testing.T) {
	b := change(one(), func(r *raw) { r.entries[0].key = "SENTINEL\x1b[2J" })
	_, _, _, err := Parse(b)
	var m *MalformedError
	if !errors.As(err, &m) || strings.Contains(err.Error(), "SENTINEL") || m.Reason == "" {
		t.Errorf("%v", err)
	}
	if text, _ := json.Marshal(one().bytes()); true { // how Go writes bytes into JSON
		if _, _, _, err := Parse(text); err != errBase64 {
			t.Errorf("JSON text: %v", err)
		}
	}
}

func FuzzB15_Parse(f *testing.F) {
	for _, r := range malformedRows() {
		f.Add(r.in)
	}
	for _, r := range []*raw{ref(), one(), two(), full()} {
		f.Add(r.bytes())
		f.Add(append(r.bytes(), "payload"...))
	}
	f.Fuzz(func(t *testing.T, b []byte) { identity(t, b); readAgrees(t, b) })
}

func BenchmarkParseREF(b *testing.B) {
	in := append(ref().bytes(), make([]byte, 200)...)
	var h Header
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := h.Parse(in); err != nil {
			b.Fatal(err)
		}
	}
}
