package integration

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/vectors"
)

var mutated = flag.Int("mutated", 20_000, "how many mutated inputs TestB14_TwoReaders compares")

const referenceReader = "../internal/reference/byok_reader.py"

// reader is internal/reference/byok_reader.py, at work: see there for the frames.
type reader struct {
	in  io.WriteCloser
	out *bufio.Reader
	cmd *exec.Cmd
}

func startReader(t *testing.T) *reader {
	t.Helper()
	cmd := exec.Command(*python, referenceReader)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &reader{in, bufio.NewReaderSize(out, 1<<20), cmd}
}

// ask sends vectors while it reads the answers, and gives each to judge.
func (r *reader) ask(t *testing.T, next func() *vectors.Vector, judge func(v *vectors.Vector, got vectors.Result, plain []byte)) {
	t.Helper()
	sent := make(chan *vectors.Vector, 1<<12)
	go func() {
		defer r.in.Close()
		defer close(sent)
		w := bufio.NewWriterSize(r.in, 1<<20)
		for v := next(); v != nil; v = next() {
			for _, b := range [][]byte{v.Key, []byte(v.Tenant), []byte(v.Purpose), v.AAD, v.Envelope} {
				_, _ = w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
				_, _ = w.Write(b)
			}
			sent <- v
		}
		_ = w.Flush() // an error ends the answers too
	}()
	for v := range sent {
		var head [5]byte
		if _, err := io.ReadFull(r.out, head[:]); err != nil {
			t.Fatalf("no answer to %s %x: %v", v.Comment, v.Envelope, err)
		}
		plain := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(r.out, plain); err != nil {
			t.Fatal(err)
		}
		judge(v, vectors.Result(head[0]), plain)
	}
	if err := r.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// The Python reader does with every vector what its file says, and opens what Go
// makes now, not only what it once made.
func TestReferenceReader(t *testing.T) {
	var all []*vectors.Vector
	for _, dir := range []string{"golden", "bad"} {
		vs, err := vectors.All("../testdata/vectors/" + dir)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, vs...)
	}
	m := newMutator(1)
	for _, segment := range []int{4096, 65536, 1048576} {
		for _, n := range []int{0, 1, segment - 33, segment - 32, segment - 31, 2*segment - 64, 2*segment + 5} {
			v := m.base()
			plain := m.bytes(n)
			h, core, _, err := format.Parse(v.Envelope)
			if err != nil {
				t.Fatal(err)
			}
			head, err := h.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			v.Envelope, err = floe.Seal(head, vectors.DataKey(h, v.Key), floe.Params{SegmentSize: segment}, format.PayloadAAD(core, v.Purpose, v.AAD), plain)
			if err != nil {
				t.Fatal(err)
			}
			v.Name, v.Result = fmt.Sprintf("sealed now, %d bytes in segments of %d", n, segment), vectors.Opens
			v.SetPlain(plain)
			all = append(all, v)
		}
	}
	i, opened := 0, 0
	startReader(t).ask(t, func() *vectors.Vector {
		if i == len(all) {
			return nil
		}
		i++
		return all[i-1]
	}, func(v *vectors.Vector, got vectors.Result, plain []byte) {
		if err := v.Check(got, plain); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		if got == vectors.Opens {
			opened++
		}
	})
	t.Logf("%d envelopes, %d of them open", i, opened)
	if opened < 50 || i-opened < 90 {
		t.Error("too few: this test could pass on nothing")
	}
}

// The shares that SPEC.md prints make the data key that it prints (ALL).
func TestReferenceShares(t *testing.T) {
	spec, err := os.ReadFile("../SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(*python, "-c", "import sys; sys.path.insert(0, '../internal/reference'); import byok_reader as r\n"+
		"print(r.combine_shares(b'\\xd1' * 16, [b'\\1' * 32, b'\\2' * 32]).hex())")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	key := strings.TrimSpace(string(out))
	if err != nil || len(key) != 64 || !strings.Contains(string(spec), "\n"+key+"\n") {
		t.Errorf("%v: %s is not in SPEC.md", err, out)
	}
}

// Two readers, of one specification and no common line, say the same of inputs that
// nobody wrote: which open, to what, and in which of four ways the others fail.
func TestB14_TwoReaders(t *testing.T) {
	const seed = 20261126
	m := newMutator(seed)
	sent := 0
	kinds, results, opens := map[string]int{}, map[vectors.Result]int{}, map[string]int{}
	startReader(t).ask(t, func() *vectors.Vector {
		if sent == *mutated {
			return nil
		}
		sent++
		return m.next()
	}, func(v *vectors.Vector, got vectors.Result, plain []byte) {
		want, wantPlain := v.Open()
		if got != want || !bytes.Equal(plain, wantPlain) {
			t.Errorf("%s: Go says %s, Python %s\nkey %x tenant %q purpose %q aad %x\n%s", v.Comment, want, got, v.Key, v.Tenant, v.Purpose, v.AAD,
				hex.Dump(v.Envelope[:min(len(v.Envelope), 4096)]))
		}
		kinds[v.Comment]++
		results[got]++
		if got == vectors.Opens {
			opens[v.Comment]++
		}
	})
	t.Logf("%d inputs, seed %d: %v", sent, seed, results)
	for kind, n := range kinds {
		t.Logf("%-28s %7d, %7d open", kind, n, opens[kind])
	}
	// Each way to fail, and success, was tried often enough to mean something.
	for r := vectors.Opens; r <= vectors.Argument; r++ {
		if results[r] < sent/100 {
			t.Errorf("only %d inputs are %s", results[r], r)
		}
	}
	if len(kinds) != len(m.kinds) || sent < 10_000 {
		t.Errorf("%d inputs of %d kinds", sent, len(kinds))
	}
}

// mutator makes envelopes that are a little wrong.
type mutator struct {
	*rand.Rand
	key   []byte
	kinds []mutation
	bases []*vectors.Vector
}

type mutation struct {
	name string
	f    func(*vectors.Vector)
}

func newMutator(seed uint64) *mutator {
	m := &mutator{Rand: rand.New(rand.NewPCG(seed, 0))}
	m.key = m.bytes(32)
	for range 64 {
		m.bases = append(m.bases, m.make(m.header()))
	}
	m.kinds = []mutation{
		{"unchanged", func(*vectors.Vector) {}},
		{"bits flipped", m.flip},
		{"bytes set in the header", m.setHeader},
		{"cut, dropped, added", m.resize},
		{"spliced", m.splice},
		{"authentic, other header", m.authenticHeader},
		{"authentic, other shape", m.authenticShape},
		{"authentic, other parameters", m.authenticParameters},
		{"lengths of segments", m.lengths},
		{"another caller", m.caller},
	}
	return m
}

func (m *mutator) next() *vectors.Vector {
	v, k := m.base(), m.kinds[m.IntN(len(m.kinds))]
	v.Comment = k.name
	k.f(v)
	return v
}

// base is a good envelope, with slices of its own.
func (m *mutator) base() *vectors.Vector {
	v := *m.bases[m.IntN(len(m.bases))]
	v.Envelope, v.Key, v.AAD = bytes.Clone(v.Envelope), bytes.Clone(v.Key), bytes.Clone(v.AAD)
	return &v
}

func (m *mutator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.Uint32())
	}
	return b
}

// header is the bytes of a good header, and how long its CORE is.
func (m *mutator) header() (head []byte, core int) {
	h := format.Header{Suite: format.SuiteFLOE, Policy: uint8(m.IntN(3)), Tenant: "acme"}
	copy(h.DataKey[:], m.bytes(16))
	if h.Policy != format.PolicyREF {
		for i := range int(h.Policy) + m.IntN(3) {
			h.Recipients = append(h.Recipients, format.Recipient{Provider: "aws-kms", Key: fmt.Sprintf("key-%d%d", i, m.IntN(10)), Wrapped: m.bytes(1 + m.IntN(12))})
		}
	}
	head, err := h.Append(nil)
	if err != nil {
		panic(err)
	}
	return head, 25 + len(h.Tenant)
}

// make seals under a header as it is, good or not.
func (m *mutator) make(head []byte, core int) *vectors.Vector {
	v := &vectors.Vector{Key: m.key, Tenant: "acme", Purpose: "p-1", AAD: m.bytes(m.IntN(5))}
	v.Envelope = append(head, m.forger(v, head, core).Message(m.pieces(m.IntN(3))...)...)
	return v
}

// forger seals under the data key, or under what its shares make, which it draws.
func (m *mutator) forger(v *vectors.Vector, head []byte, core int) *vectors.Forger {
	key := v.Key
	if h, _, _, err := format.Parse(head); err == nil && h.Policy == format.PolicyALL {
		v.Key = m.bytes(32 * len(h.Recipients))
		key = vectors.DataKey(h, v.Key)
	}
	return vectors.Forge(key, format.PayloadAAD(head[:core], v.Purpose, v.AAD), 4096)
}

// pieces are n full segments and a last one.
func (m *mutator) pieces(n int) (out [][]byte) {
	for range n {
		out = append(out, m.bytes(4064))
	}
	last := m.IntN(40)
	if m.IntN(4) == 0 {
		last = 4064 - m.IntN(2)
	}
	return append(out, m.bytes(last))
}

func (m *mutator) flip(v *vectors.Vector) {
	for range 1 + m.IntN(2) {
		i := m.IntN(len(v.Envelope))
		if m.IntN(2) == 0 {
			i = m.IntN(min(len(v.Envelope), 200)) // the header is short
		}
		v.Envelope[i] ^= 1 << m.IntN(8)
	}
}

// interesting bytes are at a limit of something.
func (m *mutator) interesting() byte {
	all := []byte{0, 1, 2, 3, 4, 8, 9, 0x20, 0x21, 0x7e, 0x7f, 0x80, 0xff, '-', 'a', byte(m.Uint32())}
	return all[m.IntN(len(all))]
}

func (m *mutator) setHeader(v *vectors.Vector) {
	for range 1 + m.IntN(3) {
		v.Envelope[m.IntN(min(len(v.Envelope), 110))] = m.interesting()
	}
}

func (m *mutator) resize(v *vectors.Vector) {
	b, at := v.Envelope, m.IntN(len(v.Envelope))
	if m.IntN(2) == 0 {
		at = m.IntN(min(len(b), 120))
	}
	switch m.IntN(4) {
	case 0:
		v.Envelope = b[:at]
	case 1:
		v.Envelope = append(b[:at], b[min(len(b), at+1+m.IntN(40)):]...)
	case 2:
		v.Envelope = append(b[:at:at], append(m.bytes(1+m.IntN(40)), b[at:]...)...)
	default:
		v.Envelope = append(b, m.bytes(1+m.IntN(40))...)
	}
}

// splice puts a part of another envelope, under the same key, in place of its own.
func (m *mutator) splice(v *vectors.Vector) {
	o := m.base()
	at := m.IntN(min(len(v.Envelope), len(o.Envelope)))
	if m.IntN(2) == 0 { // where the payload begins
		_, _, rest, _ := format.Parse(v.Envelope)
		_, _, other, _ := format.Parse(o.Envelope)
		v.Envelope = append(v.Envelope[:len(v.Envelope)-len(rest)], other...)
		return
	}
	v.Envelope = append(v.Envelope[:at:at], o.Envelope[at:]...)
}

// authenticHeader changes the header first, and seals then. CORE is taken to end where
// its tenant's length says.
func (m *mutator) authenticHeader(v *vectors.Vector) {
	head, _ := m.header()
	for range m.IntN(3) {
		switch at := m.IntN(len(head)); m.IntN(4) {
		case 0, 1:
			head[at] = m.interesting()
		case 2:
			head = append(head[:at], head[at+1:]...)
		default:
			head = append(head[:at:at], append([]byte{m.interesting()}, head[at:]...)...)
		}
	}
	core := len(head)
	if len(head) > 24 {
		core = min(core, 25+int(head[24]))
	}
	*v = *m.make(head, core)
	v.Comment = "authentic, other header"
	if core > 25 && m.IntN(2) == 0 {
		v.Tenant = string(head[25:core])
	}
}

// authenticShape seals segments of any sizes, positions and flags.
func (m *mutator) authenticShape(v *vectors.Vector) {
	head, core := m.header()
	f := m.forger(v, head, core)
	out := append(head, f.Header()...)
	n := 1 + m.IntN(3)
	for i := range n {
		position, final, size := uint64(i), i == n-1, 4064
		if final {
			size = m.IntN(4065)
		}
		switch m.IntN(12) {
		case 0:
			size = m.IntN(4100)
		case 1:
			position = uint64(m.IntN(3))
		case 2:
			final = !final
		case 3:
			position += 1 << 20
		}
		out = append(out, f.Piece(m.bytes(size), position, final)...)
	}
	v.Envelope = out
}

func (m *mutator) authenticParameters(v *vectors.Vector) {
	head, core := m.header()
	f := m.forger(v, head, core)
	segments := []uint32{4096, 65536, 1048576, 0, 32, 33, 64, 4095, 4097, 8192, 65535, 1 << 31, 0xffffffff, m.Uint32()}
	f.Segment = segments[m.IntN(len(segments))]
	switch m.IntN(6) {
	case 0:
		f.AEAD = m.interesting()
	case 1:
		f.KDF = m.interesting()
	case 2:
		f.IVLength = uint32(m.interesting())
	}
	v.Envelope = append(head, f.Message(m.bytes(m.IntN(5000)))...)
}

// lengths changes the one field of a payload that no tag covers.
func (m *mutator) lengths(v *vectors.Vector) {
	_, _, payload, _ := format.Parse(v.Envelope)
	at := len(v.Envelope) - len(payload) + 74
	for at+4096 < len(v.Envelope) && m.IntN(2) == 0 {
		at += 4096
	}
	left := uint32(len(v.Envelope) - at)
	values := []uint32{0, 1, 31, 32, left, left - 1, left + 1, 4095, 4096, 4097, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff}
	binary.BigEndian.PutUint32(v.Envelope[at:], values[m.IntN(len(values))])
}

func (m *mutator) caller(v *vectors.Vector) {
	text := func(limit int) string {
		chars := "abcz019._-/A \x00\x7f\xff"
		if m.IntN(2) == 0 {
			chars = "ab09._-"
		}
		b := make([]byte, []int{0, 1, 3, limit - 1, limit, limit + 1}[m.IntN(6)])
		for i := range b {
			b[i] = chars[m.IntN(len(chars))]
		}
		return string(b)
	}
	switch m.IntN(4) {
	case 0:
		v.Tenant = text(128)
	case 1:
		v.Purpose = text(64)
	case 2:
		v.AAD = m.bytes([]int{0, 1, 100, 8191, 8192, 8193}[m.IntN(6)])
	default:
		v.Key = m.bytes([]int{0, 16, 31, 32, 33, 64, 63}[m.IntN(7)])
	}
	if m.IntN(2) == 0 { // sealed for this very caller
		head, core := m.header()
		if len(v.Key) == 32 && len(v.Purpose) < 1<<16 {
			v.Envelope = append(head, m.forger(v, head, core).Message(m.bytes(9))...)
		}
	}
}
