package kmsfake

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const (
	principalPattern = `^[\w+=,.@:/-]+$`
	namePattern      = `^[a-zA-Z0-9:/_-]+$`

	maxConstraintPairs = 8
	maxConstraintChars = 384 // of the names and values of one constraint
)

var (
	principalChars = regexp.MustCompile(principalPattern)
	nameChars      = regexp.MustCompile(namePattern)
	serviceName    = regexp.MustCompile(`^[a-z0-9.-]+\.amazonaws\.com(\.cn)?$`)
)

// matching checks an optional string against a pattern of the model.
func (c *checks) matching(at string, s *string, max int, chars *regexp.Regexp) {
	c.str(at, s, 1, max)
	if s != nil && *s != "" && !chars.MatchString(*s) {
		c.add(quoted(*s), at, "satisfy regular expression pattern: "+chars.String())
	}
}

// oneOf checks a principal that may be given as an ARN or as a service, not as both.
func (c *checks) oneOf(at string, arn, service *string, required bool) error {
	c.matching(at, arn, 256, principalChars)
	serviceAt := strings.Replace(at, "Principal", "ServicePrincipal", 1)
	c.str(serviceAt, service, 1, 128)
	switch {
	case arn != nil && service != nil:
		return validation("You cannot specify both %s and %s.", at, serviceAt)
	case arn == nil && service == nil && required:
		c.add(" null", at, "not be null")
	case service != nil && !serviceName.MatchString(*service):
		return validation("%s is not a service principal: %s", serviceAt, *service)
	}
	return nil
}

func (r *request) createGrant(in *kms.CreateGrantInput) (*kms.CreateGrantOutput, error) {
	var c checks
	c.key("keyId", in.KeyId)
	granteeErr := c.oneOf("granteePrincipal", in.GranteePrincipal, in.GranteeServicePrincipal, true)
	retiringErr := c.oneOf("retiringPrincipal", in.RetiringPrincipal, in.RetiringServicePrincipal, false)
	c.operations(in.Operations)
	c.tokens(in.GrantTokens)
	c.matching("name", in.Name, 256, nameChars)
	if err := firstOf(c.err(), granteeErr, retiringErr); err != nil {
		return nil, err
	}
	g := &grantState{
		Name: aws.ToString(in.Name), Issuer: r.who.account, Created: r.now, Starts: r.now.Add(r.f.propagation),
		Grantee: aws.ToString(in.GranteePrincipal), GranteeService: aws.ToString(in.GranteeServicePrincipal),
		Retiring: aws.ToString(in.RetiringPrincipal), RetiringService: aws.ToString(in.RetiringServicePrincipal),
		Operations: slices.Clone(in.Operations),
	}
	if err := firstOf(g.constrain(in.Constraints), g.parse()); err != nil {
		return nil, err
	}
	if err := noAlias(*in.KeyId); err != nil {
		return nil, err
	}
	k, err := r.authorized(aim{
		action: "kms:CreateGrant", id: *in.KeyId, ec: g.Constraints.context(), creating: g,
	})
	if err != nil {
		return nil, err
	}
	if err := firstOf(r.usable(k), g.suits(k)); err != nil {
		return nil, err
	}
	old := k.retried(g, func(o *grantState) bool { return o.exists() })
	if old == nil && len(k.Grants) >= maxGrants {
		return nil, fail("LimitExceededException", "The maximum number of grants on %s, %d, is reached.", k.ARN(), maxGrants)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	if old != nil {
		g = old
	} else {
		g.ID = newGrantID()
		k.grant(g)
		r.f.dirty = true
	}
	return &kms.CreateGrantOutput{
		GrantId: aws.String(g.ID), GrantToken: aws.String(newGrantToken(r.st.Secret, k.ARN(), g.ID)),
	}, nil
}

// noAlias refuses the name of an alias where KMS takes key ids and key ARNs only.
func noAlias(id string) error {
	if strings.HasPrefix(id, "alias/") {
		return fail("NotFoundException", "Invalid keyId '%s'", id)
	}
	if _, _, resource, ok := splitARN(id); ok && strings.HasPrefix(resource, "alias/") {
		return fail("InvalidArnException", "Invalid arn %s", id)
	}
	return nil
}

func newGrantID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// operations checks the list of a grant's operations. The service names the list,
// not the member that is wrong.
func (c *checks) operations(ops []types.GrantOperation) {
	switch {
	case ops == nil:
		c.add(" null", "operations", "not be null")
		return
	case len(ops) == 0:
		c.add(" '[]'", "operations", "have length greater than or equal to 1")
		return
	}
	known := types.GrantOperation("").Values()
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = string(k)
	}
	for _, op := range ops {
		if !slices.Contains(known, op) {
			c.add(" '["+string(op)+"]'", "operations",
				"satisfy constraint: [Member must satisfy enum value set: ["+strings.Join(names, ", ")+"]]")
			return
		}
	}
}

// retried is the grant that an earlier, equal request with the same name made:
// a name makes CreateGrant safe to repeat, and is for nothing else.
func (k *keyState) retried(g *grantState, visible func(*grantState) bool) *grantState {
	if g.Name == "" {
		return nil
	}
	for _, o := range k.Grants {
		if o.same(g) && visible(o) {
			return o
		}
	}
	return nil
}

// constrain checks and sets the constraints. The maps are the caller's, so they
// are copied.
func (g *grantState) constrain(in *types.GrantConstraints) error {
	if in == nil {
		in = &types.GrantConstraints{}
	}
	for name, pairs := range map[string]map[string]string{
		"EncryptionContextEquals": in.EncryptionContextEquals, "EncryptionContextSubset": in.EncryptionContextSubset,
	} {
		chars := 0
		for k, v := range pairs {
			chars += len(k) + len(v)
		}
		switch {
		case pairs != nil && len(pairs) == 0:
			return validation("%s must not be empty.", name)
		case len(pairs) > maxConstraintPairs:
			return validation("%s must not have more than %s pairs.", name, strconv.Itoa(maxConstraintPairs))
		case chars > maxConstraintChars:
			return validation("%s must not be longer than %s characters.", name, strconv.Itoa(maxConstraintChars))
		}
	}
	source := aws.ToString(in.SourceArn)
	switch {
	case in.SourceArn != nil && !strings.HasPrefix(source, "arn:"):
		return fail("InvalidArnException", "Invalid arn %s", source)
	case g.GranteeService != "" && source == "":
		return validation("A grant to a service principal needs the SourceArn constraint.")
	case g.GranteeService != "" && g.Retiring == "" && g.RetiringService == "":
		return validation("A grant to a service principal needs a retiring principal.")
	}
	g.Constraints = grantConstraints{
		Equals: maps.Clone(in.EncryptionContextEquals), Subset: maps.Clone(in.EncryptionContextSubset), SourceARN: source,
	}
	return nil
}

// suits refuses operations that the key cannot do, and context constraints where
// there is no context.
func (g *grantState) suits(k *keyState) error {
	allowed := grantOperations(k)
	for _, op := range g.Operations {
		if !slices.Contains(allowed, op) {
			return validation("Operation %s is not valid for a grant on a key whose KeyUsage is %s and whose KeySpec is %s.",
				op, k.Usage, k.Spec)
		}
	}
	if !k.symmetric() && (g.Constraints.Equals != nil || g.Constraints.Subset != nil) {
		return validation("Encryption context constraints are valid for symmetric encryption keys only.")
	}
	return nil
}

// grantOperations are the operations that a grant on a key may have.
func grantOperations(k *keyState) []types.GrantOperation {
	ops := []types.GrantOperation{types.GrantOperationDescribeKey, types.GrantOperationCreateGrant, types.GrantOperationRetireGrant}
	more := func(names ...types.GrantOperation) { ops = append(ops, names...) }
	symmetric := k.symmetric()
	switch k.Usage {
	case types.KeyUsageTypeEncryptDecrypt:
		more("Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo")
		if symmetric {
			more("GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext")
		}
	case types.KeyUsageTypeSignVerify:
		more("Sign", "Verify")
	case types.KeyUsageTypeGenerateVerifyMac:
		more("GenerateMac", "VerifyMac")
		return ops
	case types.KeyUsageTypeKeyAgreement:
		more("DeriveSharedSecret")
	}
	if !symmetric {
		more("GetPublicKey")
	}
	return ops
}
