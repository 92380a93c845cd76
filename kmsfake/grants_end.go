package kmsfake

import "github.com/aws/aws-sdk-go-v2/service/kms"

// revokeGrant is for whoever the key policy lets revoke: it needs no part in the
// grant, and works in every state of the key.
func (r *request) revokeGrant(in *kms.RevokeGrantInput) (*kms.RevokeGrantOutput, error) {
	var c checks
	c.key("keyId", in.KeyId)
	c.need("grantId", in.GrantId, 1, 128)
	if err := c.err(); err != nil {
		return nil, err
	}
	if err := noAlias(*in.KeyId); err != nil {
		return nil, err
	}
	k, err := r.authorized(aim{action: "kms:RevokeGrant", id: *in.KeyId})
	if err != nil {
		return nil, err
	}
	g, err := r.namedGrant(k, *in.GrantId)
	if err := firstOf(r.usable(k), err, dryRun(in.DryRun)); err != nil {
		return nil, err
	}
	r.endGrant(k, g)
	return &kms.RevokeGrantOutput{}, nil
}

// retireGrant is for the principals that the grant names. A policy alone lets
// nobody retire: key policies are not even asked.
func (r *request) retireGrant(in *kms.RetireGrantInput) (*kms.RetireGrantOutput, error) {
	var c checks
	c.str("grantToken", in.GrantToken, 1, 8192)
	c.str("keyId", in.KeyId, 1, 2048)
	c.str("grantId", in.GrantId, 1, 128)
	if err := c.err(); err != nil {
		return nil, err
	}
	k, id, err := r.retiringGrant(in)
	if err != nil {
		return nil, err
	}
	// Whether there is such a grant is told to those only who may know it.
	var g *grantState
	if k != nil {
		r.about(k)
		if g = k.findGrant(id); g != nil && !g.exists() {
			g = nil
		}
	}
	switch {
	case g == nil && k != nil && k.Account == r.who.account:
		_, err := r.namedGrant(k, id)
		return nil, err
	case g == nil:
		r.unseen("kms:RetireGrant", "grant "+id)
		return nil, r.denied("kms:RetireGrant", "on the grant", noIdentityAllows)
	}
	if r.mayRetire(k, g) != allowed {
		return nil, r.denied("kms:RetireGrant", "on the grant", noIdentityAllows)
	}
	if err := firstOf(r.usable(k), dryRun(in.DryRun)); err != nil {
		return nil, err
	}
	r.endGrant(k, g)
	return &kms.RetireGrantOutput{}, nil
}

// retiringGrant finds what a RetireGrant is about: a token, or a key and an id.
// The key is nil if it is another account's and not there.
func (r *request) retiringGrant(in *kms.RetireGrantInput) (k *keyState, id string, err error) {
	switch {
	case in.GrantToken != nil && (in.KeyId != nil || in.GrantId != nil):
		return nil, "", validation("Specify either a grant token or a key ID and a grant ID, not both.")
	case in.GrantToken != nil:
		arn, id, err := parseGrantToken(r.st.Secret, *in.GrantToken)
		if err != nil {
			return nil, "", err
		}
		if region, _, _, ok := splitKeyARN(arn); !ok || region != r.region {
			return nil, "", nil
		}
		return r.live(arn), id, nil
	case in.KeyId == nil || in.GrantId == nil:
		return nil, "", validation("Specify a grant token, or both a key ID and a grant ID.")
	}
	if err := noAlias(*in.KeyId); err != nil {
		return nil, "", err
	}
	k, _, err = r.find(*in.KeyId)
	return k, *in.GrantId, err
}

// mayRetire: the retiring principal; the grantee, if the grant says so; and the
// account that created the grant. Where that, or the retiring principal, is an
// account, its root may, and whom its IAM gives kms:RetireGrant. A deny in IAM
// holds against all of them.
func (r *request) mayRetire(k *keyState, g *grantState) verdict {
	q := r.askOwn(&aim{action: "kms:RetireGrant"}, k.ARN(), k)
	iam := q.byIdentity()
	names := func(p *principal) bool {
		switch {
		case p == nil:
			return false
		case p.kind == kindRoot:
			return p.account == r.who.account && (r.who.kind == kindRoot || iam == outcomeAllow)
		}
		return r.who.is(p)
	}
	by := ruling{noIdentityAllows, ruleRetireNone}
	switch {
	case iam == outcomeDeny:
		by = ruling{deniedByIdentity, ruleIdentityDeny}
	case names(g.retiring):
		by = ruling{allowed, ruleRetirePrincipal}
	case g.permits("kms:RetireGrant") && names(g.grantee):
		by = ruling{allowed, ruleRetireGrantee}
	case names(&principal{kind: kindRoot, account: g.Issuer}):
		by = ruling{allowed, ruleRetireIssuer}
	}
	return r.decided(q, by)
}

// namedGrant finds a grant of a key for somebody who may know.
func (r *request) namedGrant(k *keyState, id string) (*grantState, error) {
	if !isGrantID(id) {
		return nil, fail("InvalidGrantIdException", "Grant ID %s is invalid.", id)
	}
	g := k.findGrant(id)
	if g == nil || !g.exists() {
		return nil, fail("NotFoundException", "Grant ID %s is not found on key %s.", id, k.ARN())
	}
	return g, nil
}

func isGrantID(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if !('0' <= s[i] && s[i] <= '9' || 'a' <= s[i] && s[i] <= 'f') {
			return false
		}
	}
	return true
}

// endGrant ends a grant as of now. Grants that it created live on.
func (r *request) endGrant(k *keyState, g *grantState) {
	g.Revoked, g.Ends, r.f.dirty = r.now, r.now.Add(r.f.propagation), true
	k.forget(func(g *grantState) bool { return !g.visible(r.now, true) })
}
