package kmsfake

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func tagsOf(pairs ...string) (out []types.Tag) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, types.Tag{TagKey: aws.String(pairs[i]), TagValue: aws.String(pairs[i+1])})
	}
	return out
}

func TestTags(t *testing.T) {
	fake := New(&Options{TB: t})
	key, c, ctx := fake.Account(customer).CreateKey(""), fake.Client(customer), context.Background()
	id := aws.String(key.ID())
	tag := func(pairs ...string) func() error {
		return func() error {
			return second2(c.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: tagsOf(pairs...)}))
		}
	}
	untag := func(keys ...string) func() error {
		return func() error {
			return second2(c.UntagResource(ctx, &kms.UntagResourceInput{KeyId: id, TagKeys: keys}))
		}
	}
	list := func() string {
		var all []string
		var marker *string
		for {
			out, err := c.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: id, Limit: aws.Int32(2), Marker: marker})
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range out.Tags {
				all = append(all, *x.TagKey+"="+*x.TagValue)
			}
			if marker = out.NextMarker; !out.Truncated {
				return strings.Join(all, " ")
			}
		}
	}
	for i, step := range []struct {
		do         func() error
		code, want string
	}{
		{tag("b", "1", "a", "2", "B", ""), "", "B= a=2 b=1"}, // keys have case
		{tag("a", "3"), "", "B= a=3 b=1"},
		{tag("AWS:x", "3"), "TagException", "B= a=3 b=1"},
		{tag("n", "1", "n", "2"), "TagException", "B= a=3 b=1"},
		{tag(strings.Repeat("k", 129), ""), "ValidationException", "B= a=3 b=1"},
		{tag("k", strings.Repeat("v", 257)), "ValidationException", "B= a=3 b=1"},
		{tag(strings.Repeat("k", 128), strings.Repeat("v", 256)), "", "B= a=3 b=1 " + strings.Repeat("k", 128) + "=" + strings.Repeat("v", 256)},
		{untag("B", "none", strings.Repeat("k", 128)), "", "a=3 b=1"},
		{untag("a", "aws:b"), "TagException", "a=3 b=1"},
	} {
		if err := step.do(); code(err) != step.code {
			t.Errorf("step %d: %v, want %q", i, err, step.code)
		}
		if got := list(); got != step.want {
			t.Errorf("step %d: tags are %q, want %q", i, got, step.want)
		}
	}
	// Fifty are the most, counted over all calls.
	for i := range 48 {
		if err := tag(fmt.Sprintf("t%d", i), "x")(); err != nil {
			t.Fatal(i, err)
		}
	}
	wantText(t, tag("one more", "")(), "Too many tags")
	if err := tag("t1", "replaced")(); err != nil {
		t.Error(err)
	}
	_, err := c.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: id, Marker: aws.String("*")})
	wantCode(t, err, "InvalidMarkerException")
	_, err = c.CreateKey(ctx, &kms.CreateKeyInput{Tags: tagsOf(strings.Split(strings.Repeat("x,y,", 51), ",")[:102]...)})
	wantCode(t, err, "TagException")
}

// Tags decide, where a policy asks for them: those of the key, and those of the
// request.
func TestTagsInConditions(t *testing.T) {
	fake := New(&Options{TB: t, StrictIAM: true})
	ctx := context.Background()
	key := fake.Account(customer).CreateKey(`{"Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"` + appRole + `"},"Action":"kms:Encrypt","Resource":"*",
		 "Condition":{"StringEquals":{"aws:ResourceTag/Team":"red"}}},
		{"Effect":"Allow","Principal":{"AWS":"` + appRole + `"},"Action":["kms:TagResource","kms:UntagResource"],"Resource":"*",
		 "Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["team","cost"]},"StringEqualsIfExists":{"aws:RequestTag/team":["red","blue"]}}}]}`)
	app, root, id := fake.Client(appRole), fake.Client(customer), aws.String(key.ID())
	encrypt := func() error {
		return second2(app.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")}))
	}
	appTags := func(pairs ...string) error {
		return second2(app.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: tagsOf(pairs...)}))
	}
	wantCode(t, encrypt(), "AccessDeniedException")
	wantCode(t, appTags("team", "green"), "AccessDeniedException")
	wantCode(t, appTags("team", "red", "other", "x"), "AccessDeniedException")
	if err := appTags("team", "red", "cost", "1"); err != nil {
		t.Error(err)
	}
	if err := encrypt(); err != nil {
		t.Error(err)
	}
	wantCode(t, second2(app.UntagResource(ctx, &kms.UntagResourceInput{KeyId: id, TagKeys: []string{"team", "x"}})), "AccessDeniedException")
	if _, err := root.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: tagsOf("team", "blue")}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, encrypt(), "AccessDeniedException")
}

// What a key is to be, and its tags, can be conditions on its creation; tags at
// birth need the permission to tag.
func TestConditionsOnCreateKey(t *testing.T) {
	fake := New(&Options{TB: t, StrictIAM: true})
	ctx, app := context.Background(), fake.Client(appRole)
	fake.Account(customer).PutIdentityPolicy(appRole, `{"Statement":{"Effect":"Allow","Action":"kms:CreateKey","Resource":"*",
		"Condition":{"StringEquals":{"kms:KeySpec":"SYMMETRIC_DEFAULT","kms:KeyUsage":"ENCRYPT_DECRYPT","kms:KeyOrigin":"AWS_KMS"},
		"Bool":{"kms:MultiRegion":"false","kms:BypassPolicyLockoutSafetyCheck":"false"},"StringEqualsIfExists":{"aws:RequestTag/team":"red"}}}}`)
	create := func(in kms.CreateKeyInput) error {
		in.Policy = aws.String(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`)
		return second2(app.CreateKey(ctx, &in))
	}
	if err := create(kms.CreateKeyInput{}); err != nil {
		t.Error(err)
	}
	for i, in := range []kms.CreateKeyInput{
		{KeySpec: types.KeySpecHmac256, KeyUsage: usageMac}, {Origin: types.OriginTypeExternal}, {MultiRegion: aws.Bool(true)},
		{BypassPolicyLockoutSafetyCheck: true}, {Tags: tagsOf("team", "blue")}, {Tags: tagsOf("team", "red")},
	} {
		if err := create(in); code(err) != "AccessDeniedException" {
			t.Errorf("case %d: %v", i, err)
		}
	}
	fake.Account(customer).PutIdentityPolicy(appRole, `{"Statement":{"Effect":"Allow","Action":"kms:TagResource","Resource":"*"}}`)
	if err := create(kms.CreateKeyInput{Tags: tagsOf("team", "red")}); err != nil {
		t.Error(err)
	}
}
