// Package keyringtest is the conformance suite of [byok.Keyring]: what the
// interface promises, as tests. Whoever writes a driver runs it:
//
//	func TestKeyring(t *testing.T) {
//		keyringtest.Run(t, keyringtest.Harness{Keyring: k, Key: one, Other: another})
//	}
//
// The suite was itself tested against Keyrings that each break one promise.
package keyringtest

import (
	"testing"

	"github.com/byok-go/byok"
)

// Harness is a Keyring, and what the suite may do to the KMS behind it. The
// hooks are optional, and the cases that need one are left out without it: give
// as many as the KMS allows. No two runs may share a Harness at the same time.
type Harness struct {
	// Keyring is under test.
	Keyring byok.Keyring

	// Key and Other are two keys that Keyring may use fully. Required.
	Key, Other byok.KeyID

	// BadKeys are ids that the Keyring must refuse by their syntax, beside those
	// that the suite makes out of Key.
	BadKeys []byok.KeyID

	// Calls returns how many requests the KMS has received so far.
	Calls func() int

	// Disable makes the KMS refuse all use of a key; Enable takes that back.
	// Both take effect before they return.
	Disable, Enable func(key byok.KeyID)

	// Stall makes the KMS take longer for an answer than a test can wait, and
	// returns what ends that.
	Stall func() (resume func())
}

// caseT is the part of *testing.T that cases use, so that the suite can be tested.
type caseT interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// testCase is one promise.
type testCase struct {
	name  string
	needs func(*Harness) bool // nil: nothing
	run   func(caseT, *Harness)
}

func (c *testCase) applies(h *Harness) bool { return c.needs == nil || c.needs(h) }

func canCount(h *Harness) bool  { return h.Calls != nil }
func canStall(h *Harness) bool  { return h.Stall != nil }
func canSwitch(h *Harness) bool { return h.Disable != nil && h.Enable != nil }
func canDescribe(h *Harness) bool {
	_, ok := h.Keyring.(byok.Describer)
	return ok
}

// Run runs the suite, one subtest a case, and logs how many there were.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.Keyring == nil || h.Key == h.Other || h.Key == (byok.KeyID{}) || h.Other == (byok.KeyID{}) {
		t.Fatal("keyringtest: a Harness needs a Keyring and two different keys")
	}
	var ran int
	var without []string
	for _, c := range cases {
		if !c.applies(&h) {
			without = append(without, c.name)
			continue
		}
		ran++
		t.Run(c.name, func(t *testing.T) { c.run(t, &h) })
	}
	t.Logf("keyringtest: %d of %d cases", ran, len(cases))
	if len(without) > 0 {
		t.Logf("keyringtest: left out, for want of a hook: %v", without)
	}
}
