package kmsfake

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// maxTags is how many tags a key can have.
const maxTags = 50

// tags checks the lengths of tags, whose limits are per member.
func (c *checks) tags(in []types.Tag) {
	for i, t := range in {
		c.need(fmt.Sprintf("tags.%d.member.tagKey", i+1), t.TagKey, 1, 128)
		c.need(fmt.Sprintf("tags.%d.member.tagValue", i+1), t.TagValue, 0, 256)
	}
}

var (
	errReservedTag  = fail("TagException", "Tags beginning with aws: are reserved")
	errDuplicateTag = fail("TagException", "Duplicate tag keys")
	errTooManyTags  = fail("TagException", "Too many tags")
)

func reservedTag(key string) bool { return strings.HasPrefix(strings.ToLower(key), "aws:") }

// newTags puts tags over old ones. Tag keys have case.
func newTags(old []tag, in []types.Tag) ([]tag, error) {
	out := slices.Clone(old)
	seen := make(map[string]bool, len(in))
	for _, t := range in {
		key, value := aws.ToString(t.TagKey), aws.ToString(t.TagValue)
		switch {
		case reservedTag(key):
			return nil, errReservedTag
		case seen[key]:
			return nil, errDuplicateTag
		}
		seen[key] = true
		if i := slices.IndexFunc(out, func(o tag) bool { return o.Key == key }); i >= 0 {
			out[i].Value = value
		} else {
			out = append(out, tag{key, value})
		}
	}
	if len(out) > maxTags {
		return nil, errTooManyTags
	}
	return out, nil
}

// tagConditions are the condition keys of a request that carries tags.
func tagConditions(in []types.Tag) map[string][]string {
	out := make(map[string][]string, len(in)+1)
	for _, t := range in {
		key := aws.ToString(t.TagKey)
		out["aws:requesttag/"+strings.ToLower(key)] = []string{aws.ToString(t.TagValue)}
		out["aws:tagkeys"] = append(out["aws:tagkeys"], key)
	}
	return out
}

// tagValue is aws:ResourceTag/name. Names of condition keys have no case; of two
// tags that differ in nothing else, neither counts.
func (k *keyState) tagValue(lower string) (value []string) {
	for _, t := range k.Tags {
		if strings.EqualFold(t.Key, lower) {
			if value != nil {
				return nil
			}
			value = []string{t.Value}
		}
	}
	return value
}

func (r *request) tagResource(in *kms.TagResourceInput) (*kms.TagResourceOutput, error) {
	k, err := r.aboutKeyWith(in.KeyId, tagConditions(in.Tags), func(c *checks) {
		c.list("tags", in.Tags == nil)
		c.tags(in.Tags)
	})
	if err != nil {
		return nil, err
	}
	tags, err := newTags(k.Tags, in.Tags)
	if err != nil {
		return nil, err
	}
	k.Tags, r.f.dirty = tags, true
	return &kms.TagResourceOutput{}, nil
}

// untagResource takes tags away; those that are not there are no error.
func (r *request) untagResource(in *kms.UntagResourceInput) (*kms.UntagResourceOutput, error) {
	k, err := r.aboutKeyWith(in.KeyId, map[string][]string{"aws:tagkeys": in.TagKeys}, func(c *checks) {
		c.list("tagKeys", in.TagKeys == nil)
		for i := range in.TagKeys {
			c.str(fmt.Sprintf("tagKeys.%d.member", i+1), &in.TagKeys[i], 1, 128)
		}
	})
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(in.TagKeys, reservedTag) {
		return nil, errReservedTag
	}
	k.Tags = slices.DeleteFunc(slices.Clone(k.Tags), func(t tag) bool { return slices.Contains(in.TagKeys, t.Key) })
	r.f.dirty = true
	return &kms.UntagResourceOutput{}, nil
}

func (r *request) listResourceTags(in *kms.ListResourceTagsInput) (*kms.ListResourceTagsOutput, error) {
	k, err := r.aboutKey(in.KeyId, func(c *checks) { c.page(in.Limit, in.Marker) })
	if err != nil {
		return nil, err
	}
	values := make(map[string]string, len(k.Tags))
	var keys []string
	for _, t := range k.Tags {
		values[t.Key] = t.Value
		keys = append(keys, t.Key)
	}
	keys, next, err := page(keys, in.Limit, in.Marker, 50)
	if err != nil {
		return nil, err
	}
	out := &kms.ListResourceTagsOutput{NextMarker: next, Truncated: next != nil, Tags: []types.Tag{}}
	for _, key := range keys {
		out.Tags = append(out.Tags, types.Tag{TagKey: aws.String(key), TagValue: aws.String(values[key])})
	}
	return out, nil
}
