// Package vectors reads and writes the files of testdata/vectors: envelopes with
// what has to come of them. Tests are its only users.
//
// A file holds lines of "name: value", an empty line, and then the envelope, as it
// is. One file shows one thing: a message that must open for ever, or one mistake for
// which an envelope must be refused.
package vectors

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/byok-go/byok/internal/floe"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/shares"
)

// Result is what comes of an envelope.
type Result uint8

// A reader tells apart these and no more. The numbers are those of
// internal/reference/byok_reader.py.
const (
	Opens     Result = iota
	Malformed        // breaks a rule that anybody can check
	Refused          // a tag, the key, the tenant, the policy: nothing says which
	Argument         // the caller's own tenant, purpose or aad is beyond the limits
)

var results = []string{"opens", "malformed", "refused", "argument"}

func (r Result) String() string {
	if int(r) < len(results) {
		return results[r]
	}
	return fmt.Sprintf("Result(%d)", uint8(r))
}

// Vector is one file.
type Vector struct {
	Name     string // of the file, without .byok
	Comment  string
	Rule     string // the requirement of SPEC.md that a refusal follows from
	Result   Result
	Key      []byte // the data key; with policy ALL its shares, one after the other in the order of the recipients
	Tenant   string
	Purpose  string
	AAD      []byte
	Size     int    // of the plaintext
	Digest   string // SHA-256 of the plaintext, in hex
	Envelope []byte
}

// Open opens an envelope as byok does, given the data key: the steps of SPEC.md's
// "Opening" that need no KMS. It is not Keeper.Open, and shares the parser and FLOE with it.
func (v *Vector) Open() (Result, []byte) {
	if !format.ValidTenant(v.Tenant) || !format.ValidPurpose(v.Purpose) || len(v.AAD) > format.MaxAAD {
		return Argument, nil
	}
	h, core, payload, err := format.Parse(v.Envelope)
	if err != nil {
		return Malformed, nil
	}
	if h.Tenant != v.Tenant {
		return Refused, nil
	}
	err = floe.Check(payload)
	var plain []byte
	if err == nil {
		plain, err = floe.Open(nil, DataKey(h, v.Key), format.PayloadAAD(core, v.Purpose, v.AAD), payload)
	}
	switch {
	case errors.Is(err, floe.ErrMalformed):
		return Malformed, nil
	case err != nil:
		return Refused, nil
	}
	return Opens, plain
}

// DataKey returns the data key of an envelope: key, or what its shares make. It is nil if the
// shares are not as many as the recipients.
func DataKey(h *format.Header, key []byte) []byte {
	if h.Policy != format.PolicyALL {
		return key
	}
	if len(key) != len(h.Recipients)*shares.Size {
		return nil
	}
	made, err := shares.Combine(h.DataKey[:], slices.Collect(slices.Chunk(key, shares.Size)))
	if err != nil {
		return nil
	}
	return made
}

// Check returns what is wrong with a result, or nil.
func (v *Vector) Check(r Result, plain []byte) error {
	switch {
	case r != v.Result:
		return fmt.Errorf("%s, want %s", r, v.Result)
	case r != Opens && len(plain) != 0:
		return fmt.Errorf("%s, and %d bytes of plaintext", r, len(plain))
	case r == Opens && (len(plain) != v.Size || digest(plain) != v.Digest):
		return fmt.Errorf("another plaintext, of %d bytes", len(plain))
	}
	return nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// SetPlain notes the plaintext that has to come out.
func (v *Vector) SetPlain(plain []byte) { v.Size, v.Digest = len(plain), digest(plain) }

const end = "\n\n"

// Bytes is the file.
func (v *Vector) Bytes() []byte {
	var b bytes.Buffer
	line := func(name, value string) { fmt.Fprintf(&b, "%s: %s\n", name, value) }
	line("comment", v.Comment)
	line("result", v.Result.String())
	if v.Result == Opens {
		line("plaintext-size", fmt.Sprint(v.Size))
		line("plaintext-sha256", v.Digest)
	} else {
		line("rule", v.Rule)
	}
	line("key", hex.EncodeToString(v.Key))
	line("tenant", v.Tenant)
	line("purpose", v.Purpose)
	line("aad", hex.EncodeToString(v.AAD))
	b.WriteByte('\n')
	return append(b.Bytes(), v.Envelope...)
}

// Read reads one file.
func Read(path string) (*Vector, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	head, envelope, ok := bytes.Cut(b, []byte(end))
	if !ok {
		return nil, fmt.Errorf("%s: no empty line", path)
	}
	v := &Vector{Name: strings.TrimSuffix(filepath.Base(path), ".byok"), Envelope: envelope}
	for line := range strings.Lines(string(head)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "comment":
			v.Comment = value
		case "rule":
			v.Rule = value
		case "result":
			v.Result = 0xff
			for i, r := range results {
				if r == value {
					v.Result = Result(i)
				}
			}
		case "plaintext-size":
			_, err = fmt.Sscan(value, &v.Size)
		case "plaintext-sha256":
			v.Digest = value
		case "key":
			v.Key, err = hex.DecodeString(value)
		case "tenant":
			v.Tenant = value
		case "purpose":
			v.Purpose = value
		case "aad":
			v.AAD, err = hex.DecodeString(value)
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, name, err)
		}
	}
	// What was read is what would be written: nothing in a file goes unnoticed.
	if !bytes.Equal(v.Bytes(), b) {
		return nil, fmt.Errorf("%s: not as this package writes it", path)
	}
	return v, nil
}

// All reads the files of a directory; none is an error.
func All(dir string) ([]*Vector, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.byok"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("no vectors in %s: %w", dir, errors.Join(err, os.ErrNotExist))
	}
	var all []*Vector
	for _, p := range paths {
		v, err := Read(p)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
