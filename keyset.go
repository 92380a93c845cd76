package byok

import (
	"errors"
	"slices"

	"github.com/byok-go/byok/internal/format"
)

// A tenant has one CMK, or several that have a say together: its key set. Every key of it can
// stop the tenant by denying; what Policy says is what else is needed to go on.

// Policy says what several CMKs of one tenant have to do with each other.
type Policy string

// The policies.
const (
	// PolicyAny: each key alone opens everything, so that an outage of one is ridden out by
	// another: replicas of a multi-Region key, or an old CMK beside a new one. Whoever controls
	// one of them can open the data, whatever happens to the others.
	PolicyAny Policy = "any"
	// PolicyAll: no key opens anything without the others: dual control. Whoever controls one
	// of them can stop the tenant.
	PolicyAll Policy = "all"
)

// maxKeys is how many CMKs a tenant can have: as many as an envelope has recipients.
const maxKeys = format.MaxRecipients

// keySet is the CMKs that a tenant has, or is moved to.
type keySet struct {
	Key    KeyID   `json:"key,omitzero"`     // the primary
	Others []KeyID `json:"others,omitempty"` // not changed in place
	Policy Policy  `json:"policy,omitempty"` // "" without others
}

// keys returns the key set of s, Key first; nil if there is none.
func (s *state) keys() []KeyID {
	if s == nil {
		return nil
	}
	return s.keySet.keys()
}

func (s *keySet) keys() []KeyID {
	if s.Key == (KeyID{}) {
		return nil
	}
	return append([]KeyID{s.Key}, s.Others...)
}

// all reports whether every key has to consent.
func (s *keySet) all() bool { return s.Policy == PolicyAll }

// consents is how many keys have to consent, at least, before anything opens.
func (s *keySet) consents() int {
	if s.all() {
		return len(s.keys())
	}
	return 1
}

// shares reports whether key only has a share of each data key, and opens nothing: it may have others of other tenants.
func (s *keySet) shares(key KeyID) bool {
	return s.all() && key != s.Key && slices.Contains(s.Others, key)
}

// sameKeys reports whether two states have the same key set, under the same policy.
func (s *state) sameKeys(u *state) bool { return s.same(u.keySet) }

func (s *keySet) same(u keySet) bool {
	return s.Key == u.Key && s.Policy == u.Policy && len(s.Others) == len(u.Others) && !slices.ContainsFunc(s.Others, func(k KeyID) bool {
		return !slices.Contains(u.Others, k) // whose order says who is asked first, and no more
	})
}

// describeKeys names the keys, for an event.
func (s *keySet) describeKeys() string {
	if s.Policy == "" {
		return s.Key.ID
	}
	out := string(s.Policy) + " of"
	for _, k := range s.keys() {
		out += " " + k.ID
	}
	return out
}

// keysOK reports whether the key set is one that Register makes.
func (s *keySet) keysOK() bool {
	keys := s.keys()
	for i, k := range keys {
		if !format.ValidProvider(k.Provider) || !format.ValidKey(k.ID) || slices.Contains(keys[:i], k) {
			return false
		}
	}
	switch s.Policy {
	case "":
		return len(s.Others) == 0
	case PolicyAny, PolicyAll:
		return len(keys) >= 2 && len(keys) <= maxKeys
	}
	return false
}

// seals reports whether a data key that is wrapped like this may seal for the tenant: by
// nobody but its keys, and under PolicyAll by all of them; and as it was when it was made, since envelopes may
// carry it.
func (s *keySet) seals(w wrapping) bool {
	keys := s.keys()
	if w.said() != w.policy || w.moved != nil {
		return false
	}
	for _, r := range w.recipients {
		if !slices.Contains(keys, keyOf(r)) {
			return false
		}
	}
	if s.all() {
		return w.policy == format.PolicyALL && len(w.recipients) == len(keys)
	}
	return w.policy == format.PolicyANY
}

// wraps reports whether exactly the keys of s have wrapped w, and its policy is theirs.
func (s *keySet) wraps(w wrapping) bool {
	keys := s.keys()
	for _, r := range w.recipients {
		if !slices.Contains(keys, keyOf(r)) {
			return false
		}
	}
	return len(w.recipients) == len(keys) && s.all() == (w.policy == format.PolicyALL)
}

// maySeal returns why this Keeper seals nothing under the keys of s, whoever registered them and
// made the data keys, and nil if it may: see Options.AllowAnyKeyToOpenAlone. It opens in either case, since reading makes nothing weaker.
func (k *Keeper) maySeal(s keySet) error {
	if s.Policy == PolicyAny && !k.allowAny {
		return errAnyAlone
	}
	return nil
}

// consent sums up what the keys have answered, in the order of the key set: nil if that
// is enough. An outage of one is none of all only if any key will do, and then only if one has
// consented; whatever else a key says against it is final.
func (s *keySet) consent(answers []error) (err error) {
	consented := false
	for _, a := range answers {
		switch {
		case a == nil:
			consented = true
		case !passing(a):
			return a // a denial is the truth, whoever else did not answer
		case err == nil:
			err = a
		}
	}
	if consented && !s.all() {
		return nil
	}
	return err
}

// passing reports whether an error of one key is the lack of an answer, so that another
// may be asked instead. A denial never is (MUST-16), nor is a fault of our own, such as a budget
// that is used up: whoever can keep it so would otherwise see to it that a key never gets to deny.
func passing(err error) bool {
	return errors.Is(err, ErrKeyUnavailable) && !errors.Is(err, ErrPlatform) && !errors.Is(err, errOverBudget)
}

// accessOf returns what is known of the access to a key of the tenant's, and nil if it is none of
// them now. The caller holds mu.
func (t *tenantCache) accessOf(key KeyID) *access {
	for _, a := range t.keys {
		if a.key == key {
			return a
		}
	}
	return nil
}

// held is accessOf for who does not hold mu: a denial of a key that the tenant has stops it, whatever the question was for.
func (t *tenantCache) held(key KeyID) *access {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.accessOf(key)
}

// setKeys makes keys that of s, and reports whether they are others than before. What is
// known about a key that stays is kept. The caller holds mu for writing.
func (t *tenantCache) setKeys(s *state) bool {
	if t.state != nil && t.state.sameKeys(s) {
		return false
	}
	var keys []*access
	for _, key := range s.keys() {
		a := t.accessOf(key)
		if a == nil {
			a = &access{t: t, key: key, seen: AccessUnknown}
		}
		keys = append(keys, a)
	}
	t.keys = keys
	t.epoch++ // what was proved under others serves nobody
	return true
}

// primary is the key that names the tenant's entries, and the zero KeyID without one. The caller holds mu.
func (t *tenantCache) primary() KeyID {
	if len(t.keys) == 0 {
		return KeyID{}
	}
	return t.keys[0].key
}

// mayAsk returns why no KMS is asked now, and nil if one may be: see access.wait. While a key is
// denied, it is the one that must be asked. The caller holds mu.
func (t *tenantCache) mayAsk() error {
	denied := false
	for _, a := range t.keys {
		if a.lease.Denied() {
			if err := a.wait(); err != nil {
				return err
			}
			denied = true
		}
	}
	if denied || t.state.usable(t.k) != nil { // at most the Store has something to say against it
		return nil
	}
	answers := make([]error, len(t.keys))
	for i, a := range t.keys {
		answers[i] = a.wait()
	}
	return t.state.consent(answers)
}
