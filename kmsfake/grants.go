package kmsfake

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// grantState is one grant on one key. Nothing but Revoked and Ends ever changes.
type grantState struct {
	ID     string // 64 hex digits
	Name   string `json:",omitempty"`
	Issuer string // the account that created it, which may not be the key's

	Grantee         string `json:",omitempty"` // the ARN of a principal, or ...
	GranteeService  string `json:",omitempty"` // ... the name of a service
	Retiring        string `json:",omitempty"`
	RetiringService string `json:",omitempty"`

	Operations  []types.GrantOperation
	Constraints grantConstraints

	Created time.Time
	Starts  time.Time `json:",omitzero"` // when decisions know of it, see Propagation
	Revoked time.Time `json:",omitzero"` // revoked or retired; zero: neither
	Ends    time.Time `json:",omitzero"` // when decisions know of that

	grantee, retiring *principal // parsed; nil if it is none or a service
}

// grantConstraints must hold for a grant to count. A nil map and an empty
// SourceARN constrain nothing.
type grantConstraints struct {
	Equals    map[string]string `json:",omitempty"` // this is the encryption context
	Subset    map[string]string `json:",omitempty"` // this is part of the encryption context
	SourceARN string            `json:",omitempty"` // on whose behalf the call is made
}

// maxGrants is KMS's quota of grants on one key.
const maxGrants = 50000

// parse fills in the principals, after the grant was made or loaded.
func (g *grantState) parse() (err error) {
	if g.grantee, err = grantPrincipal(g.Grantee); err == nil {
		g.retiring, err = grantPrincipal(g.Retiring)
	}
	return err
}

// grantPrincipal is nil for an empty string. A grant takes ARNs only, where a
// policy also takes the bare id of an account.
func grantPrincipal(s string) (*principal, error) {
	if s == "" {
		return nil, nil
	}
	p, err := parsePrincipal(s)
	if err != nil || isAccount(s) {
		return nil, fail("InvalidArnException", "ARN does not refer to a valid principal: %s", s)
	}
	return &p, nil
}

// exists reports whether a grant is neither retired nor revoked.
func (g *grantState) exists() bool { return g.Revoked.IsZero() }

// visible reports whether a grant counts in a decision at an instant. Its creation
// and its end take time to propagate. A grant whose token comes with the call
// counts from its creation; the token brings no revoked grant back.
func (g *grantState) visible(now time.Time, token bool) bool {
	return (token || !now.Before(g.Starts)) && (g.exists() || now.Before(g.Ends))
}

// grant puts a grant on a key.
func (k *keyState) grant(g *grantState) {
	k.Grants = append(k.Grants, g)
	if k.byGrantee != nil {
		k.indexGrant(g)
	}
}

// forget drops the grants that no one will see again.
func (k *keyState) forget(gone func(*grantState) bool) {
	k.Grants = slices.DeleteFunc(k.Grants, gone)
	k.byGrantee = nil
}

func (k *keyState) findGrant(id string) *grantState {
	for _, g := range k.Grants {
		if g.ID == id {
			return g
		}
	}
	return nil
}

// grantsTo are the grants to a principal, then those to its account. A key may
// have 50000 grants, of which a decision is about very few: hence the index,
// made when it is first needed.
func (k *keyState) grantsTo(who *principal) (own, account []*grantState) {
	if len(k.Grants) == 0 {
		return nil, nil
	}
	if k.byGrantee == nil {
		k.byGrantee = make(map[string][]*grantState)
		for _, g := range k.Grants {
			k.indexGrant(g)
		}
	}
	if who.kind != kindRoot {
		own = k.byGrantee[who.identity()]
	}
	return own, k.byGrantee[rootIdentity(who.account)]
}

func (k *keyState) indexGrant(g *grantState) {
	if g.grantee != nil { // services do not call the fake
		k.byGrantee[g.grantee.identity()] = append(k.byGrantee[g.grantee.identity()], g)
	}
}

// grantMiss is why a grant does not allow a call.
type grantMiss uint8

const (
	grantMatches grantMiss = iota
	grantNotVisible
	grantOtherSession
	grantOtherOperation
	grantContext
	grantSource
	grantExceeded // a CreateGrant that would give more than the grant itself has
)

// misses reports why g does not allow q, to a caller to whom the index led.
func (g *candidate) misses(q *question) grantMiss {
	switch {
	case !g.visible:
		return grantNotVisible
	case g.grantee.kind != kindRoot && !q.who.is(g.grantee):
		return grantOtherSession
	case !g.permits(q.action):
		return grantOtherOperation
	case g.Constraints.SourceARN != "" && !slices.Equal(q.facts["aws:sourcearn"], []string{g.Constraints.SourceARN}):
		return grantSource
	case q.creating != nil && !g.covers(q.creating):
		return grantExceeded
	case q.creating == nil && q.action != "kms:DescribeKey" && !g.Constraints.hold(q.ec):
		return grantContext
	}
	return grantMatches
}

func (g *grantState) permits(action string) bool {
	operation := types.GrantOperation(strings.TrimPrefix(action, "kms:"))
	return slices.Contains(g.Operations, operation)
}

// hold reports whether an encryption context satisfies the constraints. As in
// KMS the names of pairs have no case here, though they do in the ciphertext;
// contexts whose names differ only by case satisfy nothing.
func (c *grantConstraints) hold(ec map[string]string) bool {
	if c.Equals != nil && (len(ec) != len(c.Equals) || !includes(ec, c.Equals)) {
		return false
	}
	return includes(ec, c.Subset)
}

// includes reports whether ec has all of the pairs.
func includes(ec, pairs map[string]string) bool {
	for name, value := range pairs {
		found := 0
		for k, v := range ec {
			if strings.EqualFold(k, name) {
				if found++; v != value {
					return false
				}
			}
		}
		if found != 1 {
			return false
		}
	}
	return true
}

// covers reports whether g may create child: with none but its own operations,
// and constraints that are at least as strict.
func (g *grantState) covers(child *grantState) bool {
	for _, op := range child.Operations {
		if !slices.Contains(g.Operations, op) {
			return false
		}
	}
	own, its := &g.Constraints, &child.Constraints
	switch {
	case own.SourceARN != "" && its.SourceARN != own.SourceARN:
		return false
	case own.Equals != nil && (len(its.Equals) != len(own.Equals) || !includes(its.Equals, own.Equals)):
		return false
	}
	// What the child demands of a context, by either constraint, must contain what the parent demands.
	return own.Subset == nil || includes(its.Equals, own.Subset) || includes(its.Subset, own.Subset)
}

// context is what a new grant's constraints say to kms:EncryptionContext
// conditions of a policy that allows or denies its creation.
func (c *grantConstraints) context() map[string]string {
	if c.Equals == nil {
		return c.Subset
	}
	if c.Subset == nil {
		return c.Equals
	}
	both := maps.Clone(c.Subset)
	maps.Copy(both, c.Equals)
	return both
}

// same reports whether two grants are one grant that was asked for twice.
func (g *grantState) same(o *grantState) bool {
	return g.Name == o.Name && g.Issuer == o.Issuer &&
		g.Grantee == o.Grantee && g.GranteeService == o.GranteeService &&
		g.Retiring == o.Retiring && g.RetiringService == o.RetiringService &&
		slices.Equal(slices.Sorted(slices.Values(g.Operations)), slices.Sorted(slices.Values(o.Operations))) &&
		maps.Equal(g.Constraints.Equals, o.Constraints.Equals) && maps.Equal(g.Constraints.Subset, o.Constraints.Subset) &&
		g.Constraints.SourceARN == o.Constraints.SourceARN
}
