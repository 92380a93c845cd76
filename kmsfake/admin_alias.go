package kmsfake

import (
	"cmp"
	"encoding/base64"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const aliasPattern = `^[a-zA-Z0-9:/_-]+$`

var aliasChars = regexp.MustCompile(aliasPattern)

// aliasName checks a name, and returns the ARN of that alias of the caller's.
func (r *request) aliasName(name, target *string, hasTarget bool) (arn string, err error) {
	var c checks
	c.need("aliasName", name, 1, 256)
	if name != nil && *name != "" && !aliasChars.MatchString(*name) {
		c.add(quoted(*name), "aliasName", "satisfy regular expression pattern: "+aliasPattern)
	}
	if hasTarget {
		c.key("targetKeyId", target)
	}
	if err := c.err(); err != nil {
		return "", err
	}
	if !strings.HasPrefix(*name, "alias/") || *name == "alias/" {
		return "", validation("Alias must start with the prefix \"alias/\". Please see " +
			"https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html")
	}
	return aliasARN(r.region, r.who.account, *name), nil
}

// aliasTarget finds the key of an alias operation: it needs permission on the
// alias and on the key, which must be in the caller's account and Region.
func (r *request) aliasTarget(action, arn string, target string) (*keyState, error) {
	if err := r.own(action, arn); err != nil {
		return nil, err
	}
	if strings.HasPrefix(target, "alias/") || strings.Contains(target, ":alias/") {
		return nil, validation("Aliases must refer to keys. Not aliases")
	}
	return r.authorized(aim{action: action, id: target})
}

func (r *request) createAlias(in *kms.CreateAliasInput) (*kms.CreateAliasOutput, error) {
	arn, err := r.aliasName(in.AliasName, in.TargetKeyId, true)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(*in.AliasName, "alias/aws/") {
		return nil, fail("NotAuthorizedException", "") // reserved for AWS managed keys
	}
	k, err := r.aliasTarget("kms:CreateAlias", arn, *in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	if err := r.usable(k); err != nil {
		return nil, err
	}
	if r.st.Aliases[arn] != nil {
		return nil, fail("AlreadyExistsException", "An alias with the name %s already exists", arn)
	}
	if err := r.roomForAlias(k); err != nil {
		return nil, err
	}
	r.st.Aliases[arn] = &aliasState{
		Name: *in.AliasName, Account: k.Account, Region: k.Region, Target: k.ID, Created: r.now, Updated: r.now,
	}
	r.f.dirty = true
	return &kms.CreateAliasOutput{}, nil
}

// updateAlias needs permission on the old key, too: an alias is worth stealing.
func (r *request) updateAlias(in *kms.UpdateAliasInput) (*kms.UpdateAliasOutput, error) {
	arn, err := r.aliasName(in.AliasName, in.TargetKeyId, true)
	if err != nil {
		return nil, err
	}
	old, _, err := r.findAlias(arn)
	if err != nil {
		return nil, err
	}
	if _, err := r.authorized(aim{action: "kms:UpdateAlias", id: old.ARN()}); err != nil {
		return nil, err
	}
	k, err := r.aliasTarget("kms:UpdateAlias", arn, *in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	if err := r.usable(k); err != nil {
		return nil, err
	}
	if k != old {
		if err := r.roomForAlias(k); err != nil {
			return nil, err
		}
	}
	a := r.st.Aliases[arn]
	a.Target, a.Updated, r.f.dirty = k.ID, r.now, true
	return &kms.UpdateAliasOutput{}, nil
}

// maxAliases is AWS's quota of aliases that point to one key.
const maxAliases = 50

func (r *request) roomForAlias(k *keyState) error {
	n := 0
	for _, a := range r.st.Aliases {
		if a.Account == k.Account && a.Region == k.Region && a.Target == k.ID {
			n++
		}
	}
	if n >= maxAliases {
		return fail("LimitExceededException", "The maximum number of aliases of %s, %d, is reached.", k.ARN(), maxAliases)
	}
	return nil
}

func (r *request) deleteAlias(in *kms.DeleteAliasInput) (*kms.DeleteAliasOutput, error) {
	arn, err := r.aliasName(in.AliasName, nil, false)
	if err != nil {
		return nil, err
	}
	k, _, err := r.findAlias(arn)
	if err != nil {
		return nil, err
	}
	if _, err := r.aliasTarget("kms:DeleteAlias", arn, k.ARN()); err != nil {
		return nil, err
	}
	delete(r.st.Aliases, arn)
	r.f.dirty = true
	return &kms.DeleteAliasOutput{}, nil
}

func (r *request) listAliases(in *kms.ListAliasesInput) (*kms.ListAliasesOutput, error) {
	var c checks
	c.str("keyId", in.KeyId, 1, 2048)
	c.page(in.Limit, in.Marker)
	if err := firstOf(c.err(), r.own("kms:ListAliases", "*")); err != nil {
		return nil, err
	}
	only := ""
	if in.KeyId != nil {
		k, _, err := r.find(*in.KeyId)
		switch {
		case err != nil:
			return nil, err
		case k == nil || k.Account != r.who.account:
			return nil, fail("NotFoundException", "Key '%s' does not exist", *in.KeyId)
		}
		only = r.about(k).ID
	}
	var names []string
	for _, a := range r.st.Aliases {
		if a.Account == r.who.account && a.Region == r.region && (only == "" || a.Target == only) &&
			r.live(keyARN(a.Region, a.Account, a.Target)) != nil {
			names = append(names, a.Name)
		}
	}
	names, next, err := page(names, in.Limit, in.Marker, 50)
	if err != nil {
		return nil, err
	}
	out := &kms.ListAliasesOutput{NextMarker: next, Truncated: next != nil, Aliases: []types.AliasListEntry{}}
	for _, n := range names {
		arn := aliasARN(r.region, r.who.account, n)
		a := r.st.Aliases[arn]
		out.Aliases = append(out.Aliases, types.AliasListEntry{
			AliasArn: aws.String(arn), AliasName: aws.String(n), TargetKeyId: aws.String(a.Target),
			CreationDate: aws.Time(a.Created), LastUpdatedDate: aws.Time(a.Updated),
		})
	}
	return out, nil
}

func (r *request) listKeys(in *kms.ListKeysInput) (*kms.ListKeysOutput, error) {
	var c checks
	c.page(in.Limit, in.Marker)
	if err := firstOf(c.err(), r.own("kms:ListKeys", "*")); err != nil {
		return nil, err
	}
	var ids []string
	for arn, k := range r.st.Keys {
		if k.Account == r.who.account && k.Region == r.region && r.live(arn) != nil {
			ids = append(ids, k.ID)
		}
	}
	ids, next, err := page(ids, in.Limit, in.Marker, 100)
	if err != nil {
		return nil, err
	}
	out := &kms.ListKeysOutput{NextMarker: next, Truncated: next != nil, Keys: []types.KeyListEntry{}}
	for _, id := range ids {
		out.Keys = append(out.Keys, types.KeyListEntry{
			KeyId: aws.String(id), KeyArn: aws.String(keyARN(r.region, r.who.account, id)),
		})
	}
	return out, nil
}

// page cuts one page out of a list of names. The marker is the last name of the
// page before, so that a list that changes meanwhile skips and repeats nothing.
func page(names []string, limit *int32, marker *string, size int) (out []string, next *string, err error) {
	slices.SortFunc(names, cmp.Compare[string])
	if marker != nil {
		last, err := base64.RawURLEncoding.DecodeString(*marker)
		if err != nil || len(last) == 0 {
			return nil, nil, fail("InvalidMarkerException", "Invalid marker")
		}
		at, found := slices.BinarySearch(names, string(last))
		if found {
			at++
		}
		names = names[at:]
	}
	if limit != nil {
		size = int(*limit)
	}
	if len(names) > size {
		names = names[:size]
		next = aws.String(base64.RawURLEncoding.EncodeToString([]byte(names[size-1])))
	}
	return names, next, nil
}
