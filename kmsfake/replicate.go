package kmsfake

import (
	"regexp"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

var regionChars = regexp.MustCompile(`^([a-z]+-){2,3}\d+$`)

func (c *checks) region(at string, s *string) {
	c.need(at, s, 1, 32)
	if s != nil && *s != "" && !regionChars.MatchString(*s) {
		c.add(quoted(*s), at, "satisfy regular expression pattern: "+regionChars.String())
	}
}

// in is the same request, asked of another Region.
func (r *request) in(region string) *request {
	there := *r
	there.region = region
	return &there
}

// replicateKey makes a replica of a primary in another Region. Which Regions
// there are is not known here: any that looks like one is. The replica is
// Creating for as long as changes take to propagate, by default until somebody
// looks.
func (r *request) replicateKey(in *kms.ReplicateKeyInput) (*kms.ReplicateKeyOutput, error) {
	var extra map[string][]string
	if in.ReplicaRegion != nil {
		extra = map[string][]string{"kms:replicaregion": {*in.ReplicaRegion}}
	}
	primary, err := r.aboutKeyWith(in.KeyId, extra, func(c *checks) {
		c.region("replicaRegion", in.ReplicaRegion)
		c.str("policy", in.Policy, 1, 131072)
		c.policy(in.Policy)
		c.str("description", in.Description, 0, 8192)
		c.tags(in.Tags)
	})
	if err != nil {
		return nil, err
	}
	region := *in.ReplicaRegion
	if partitionOf(region) != partitionOf(r.region) {
		return nil, validation("ReplicaRegion %s is not in the partition of the primary key.", region)
	}
	there := r.in(region)
	if arn := keyARN(region, primary.Account, primary.ID); there.live(arn) != nil {
		return nil, fail("AlreadyExistsException", "Key '%s' already exists", arn)
	}
	k := &keyState{
		ID: primary.ID, Account: primary.Account, Region: region, Created: r.now,
		Spec: primary.Spec, Usage: primary.Usage, Origin: primary.Origin,
		Primary: primary.Region, Description: aws.ToString(in.Description),
	}
	conditions := k.attributes()
	conditions["kms:bypasspolicylockoutsafetycheck"] = []string{strconv.FormatBool(in.BypassPolicyLockoutSafetyCheck)}
	tags, tagErr := newTags(nil, in.Tags)
	k.Tags = tags
	err = firstOf(tagErr, there.mayCreate(in.Tags, conditions),
		there.givePolicy(k, in.Policy, in.BypassPolicyLockoutSafetyCheck), there.roomForKey())
	if err != nil {
		return nil, err
	}
	k.State = types.KeyStateCreating
	r.st.put(k)
	r.st.join(primary, k)
	k.Settles, k.Then = r.now.Add(r.f.propagation), k.wholeState(types.KeyStateEnabled)
	r.f.dirty = true
	out := &kms.ReplicateKeyOutput{ReplicaKeyMetadata: there.metadata(k), ReplicaPolicy: aws.String(k.Policy), ReplicaTags: in.Tags}
	out.ReplicaKeyMetadata.CurrentKeyMaterialId = nil // a key that is being created has none to show
	return out, nil
}

// join makes k, which is in the state, a member of a multi-Region key.
func (st *state) join(primary, k *keyState) {
	regions := append(slices.Clone(primary.Regions), k.Region)
	slices.Sort(regions)
	for _, region := range regions {
		if o := st.Keys[keyARN(region, k.Account, k.ID)]; o != nil {
			o.Regions = regions
		}
	}
	st.share(primary)
}

// updatePrimaryRegion makes a replica the primary, and the primary a replica. The
// caller needs the permission on both. They are Updating for as long as changes
// take to propagate.
func (r *request) updatePrimaryRegion(in *kms.UpdatePrimaryRegionInput) (*kms.UpdatePrimaryRegionOutput, error) {
	var extra map[string][]string
	if in.PrimaryRegion != nil {
		extra = map[string][]string{"kms:primaryregion": {*in.PrimaryRegion}}
	}
	old, err := r.aboutKeyWith(in.KeyId, extra, func(c *checks) { c.region("primaryRegion", in.PrimaryRegion) })
	if err != nil {
		return nil, err
	}
	there := r.in(*in.PrimaryRegion)
	arn := keyARN(there.region, old.Account, old.ID)
	if there.live(arn) == nil {
		return nil, fail("NotFoundException", "Key '%s' does not exist", arn)
	}
	next, err := there.authorized(aim{action: "kms:UpdatePrimaryRegion", id: arn, extra: extra})
	r.about(old)
	if err != nil {
		return nil, err
	}
	if next == old {
		return nil, fail("UnsupportedOperationException", "%s is the multi-region primary key already.", arn)
	}
	if err := there.usable(next); err != nil {
		return nil, err
	}
	for _, k := range r.st.related(old) {
		k.Primary = next.Region
	}
	for _, k := range []*keyState{old, next} {
		k.Settles, k.Then, k.State = r.now.Add(r.f.propagation), k.State, types.KeyStateUpdating
	}
	r.f.dirty = true
	return &kms.UpdatePrimaryRegionOutput{}, nil
}
