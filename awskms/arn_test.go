package awskms

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"pgregory.net/rapid"

	"github.com/byok-go/byok"
)

const (
	uuid = "12345678-90ab-cdef-1234-567890abcdef"
	mrk  = "mrk-1234567890abcdef1234567890abcdef"
)

func arn(partition, service, region, account, resource string) string {
	return "arn:" + partition + ":" + service + ":" + region + ":" + account + ":" + resource
}

// badARNs are grouped by the threat that they are.
var badARNs = map[string][]string{
	"D4 alias": {
		"alias/foo", "alias/aws/s3", arn("aws", "kms", "us-east-1", tenantAccount, "alias/foo"),
	},
	"D5 key id": {
		uuid, mrk, "key/" + uuid, "",
	},
	"D6 mismatch": {
		arn("aws-cn", "kms", "cn-north-1", tenantAccount, "key/"+uuid),
		arn("aws-us-gov", "kms", "us-gov-west-1", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "cn-north-1", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "us-gov-west-1", tenantAccount, "key/"+uuid),
		arn("aws-cn", "kms", "us-east-1", tenantAccount, "key/"+uuid),
		arn("", "kms", "us-east-1", tenantAccount, "key/"+uuid),
		arn("awsx", "kms", "us-east-1", tenantAccount, "key/"+uuid),
		arn("AWS", "kms", "us-east-1", tenantAccount, "key/"+uuid),
		arn("aws", "KMS", "us-east-1", tenantAccount, "key/"+uuid),
		arn("aws", "s3", "us-east-1", tenantAccount, "key/"+uuid),
		arn("aws", "iam", "", tenantAccount, "role/x"),
		arn("aws", "kms", "US-EAST-1", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "us-east-1", tenantAccount, "key/"+strings.ToUpper(uuid)),
		arn("aws", "kms", "us-east-1", tenantAccount, "KEY/"+uuid),
		arn("aws", "kms", "us-east-1", tenantAccount, "key/../"+uuid),
		arn("aws", "kms", "us-east-1", tenantAccount, "key/"+uuid+"/.."),
		arn("aws", "kms", "us-east-1", tenantAccount, "key/"+uuid+"x"),
		arn("aws", "kms", "us-east-1", tenantAccount, "key/"),
		arn("aws", "kms", "us-east-1", tenantAccount, "key"),
		arn("aws", "kms", "us-east-1", tenantAccount, "key/"+strings.ReplaceAll(uuid, "-", "")),
		arn("aws", "kms", "us-east-1", tenantAccount, "key:"+uuid),
		arn("aws", "kms", "us-east-1", tenantAccount, "grant/"+uuid),
		arn("aws", "kms", "us-east-1", tenantAccount, "key/"+mrk), // no opt-in
		arn("aws", "kms", "us-east-1", tenantAccount, "key/mrk-"+uuid),
		arn("aws", "kms", "us-east-1", tenantAccount, "key/"+uuid) + ":",
		arn("aws", "kms", "us-east-1", tenantAccount, "key/"+uuid) + ":x",
		"arn:aws:kms:us-east-1:key/" + uuid,
		"ARN:aws:kms:us-east-1:" + tenantAccount + ":key/" + uuid,
		" " + testARN, testARN + " ", testARN + "\n", "\t" + testARN, testARN + "\x00", testARN + "\u200b",
		arn("aws", "kms", "us-east-1", "", "key/"+uuid),
		arn("aws", "kms", "us-east-1", "aws", "key/"+uuid),
		arn("aws", "kms", "us-east-1", tenantAccount[1:], "key/"+uuid),
		arn("aws", "kms", "us-east-1", tenantAccount+"4", "key/"+uuid),
		arn("aws", "kms", "us-east-1", "１１１１２２２２３３３３", "key/"+uuid),
		arn("aws", "kms", "us-east-1", "-11122223333", "key/"+uuid),
	},
	"D7 host": {
		arn("aws", "kms", "us-east-1.evil.com", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "us-east-1.evil.com#", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "us-east-1@evil.com", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "us-east-1/", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "169.254.169.254", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "169.254.169.254#", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "localhost", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "us-east-9", tenantAccount, "key/"+uuid), // well-formed, but nobody's
		arn("aws", "kms", "xx-evil-1", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "us-east-1\n", tenantAccount, "key/"+uuid),
		arn("aws", "kms", "aws-global", tenantAccount, "key/"+uuid),
	},
}

func TestD4_D5_D6_D7_BadARNsSendNothing(t *testing.T) {
	api := &stub{}
	k := newFrom(t, api, nil)
	n := 0
	for threat, ids := range badARNs {
		for _, id := range ids {
			for op, call := range operations(t, k) {
				n++
				ke := wantClass(t, call(t.Context(), Key(id)), op, byok.ClassKeyID)
				if !errors.Is(ke, byok.ErrKeyID) || ke.RequestID != "" || ke.Code != "" {
					t.Errorf("%s: %q: %+v", threat, id, ke)
				}
				if id != "" && (strings.Contains(ke.Error(), id) || strings.Contains(ke.Err.Error(), id)) {
					t.Errorf("the reason repeats what was typed: %v", ke.Err)
				}
			}
		}
	}
	if n < 4*50 {
		t.Fatalf("only %d checks", n)
	}
	for _, key := range []byok.KeyID{{ID: testARN}, {Provider: "aws", ID: testARN}, {Provider: "AWS-KMS", ID: testARN}} {
		for op, call := range operations(t, k) {
			wantClass(t, call(t.Context(), key), op, byok.ClassKeyID)
		}
	}
	if api.calls != 0 {
		t.Errorf("%d calls were sent", api.calls)
	}
	// And the same client does send for a good one, so that the zero above means something.
	_ = operations(t, k)["Decrypt"](t.Context(), Key(testARN))
	if api.calls != 1 {
		t.Errorf("a good ARN made %d calls", api.calls)
	}
}

// D6: ids that are right are still refused if the Options do not allow them.
func TestD6_AllowLists(t *testing.T) {
	cn := arn("aws-cn", "kms", "cn-north-1", tenantAccount, "key/"+uuid)
	gov := arn("aws-us-gov", "kms", "us-gov-west-1", tenantAccount, "key/"+uuid)
	eu := arn("aws", "kms", "eu-west-1", tenantAccount, "key/"+uuid)
	multi := arn("aws", "kms", "us-east-1", tenantAccount, "key/"+mrk)
	for _, tt := range []struct {
		name string
		opts *Options
		arn  string
		want error
	}{
		{"default", nil, testARN, nil},
		{"default, another Region", nil, eu, nil},
		{"default, cn", nil, cn, errPartition},
		{"default, gov", nil, gov, errPartition},
		{"cn allowed", &Options{Partitions: []string{"aws", "aws-cn"}}, cn, nil},
		{"gov allowed", &Options{Partitions: []string{"aws-us-gov"}}, gov, nil},
		{"only gov", &Options{Partitions: []string{"aws-us-gov"}}, testARN, errPartition},
		{"Region allowed", &Options{Regions: []string{"eu-west-1"}}, eu, nil},
		{"Region not allowed", &Options{Regions: []string{"eu-west-1"}}, testARN, errRegion},
		{"account allowed", &Options{Accounts: []string{tenantAccount}}, testARN, nil},
		{"account not allowed", &Options{Accounts: []string{platformAccount}}, testARN, errAccount},
		{"multi-Region", nil, multi, errMultiRegion},
		{"multi-Region allowed", &Options{AllowMultiRegion: true}, multi, nil},
		{"client's Region", &Options{Region: "us-east-1"}, testARN, nil},
		{"another than the client's Region", &Options{Region: "us-east-1"}, eu, errClient},
	} {
		t.Run(tt.name, func(t *testing.T) {
			api := &stub{}
			_, err := newFrom(t, api, tt.opts).DescribeKey(t.Context(), Key(tt.arn))
			var ke *byok.KeyError
			switch {
			case !errors.As(err, &ke):
				t.Fatal(err)
			case tt.want == nil && (ke.Class == byok.ClassKeyID || api.calls != 1):
				t.Errorf("refused: %v", ke.Err)
			case tt.want != nil && (!errors.Is(ke.Err, tt.want) || api.calls != 0):
				t.Errorf("got %v and %d calls, want %v", ke.Err, api.calls, tt.want)
			}
		})
	}
}

// D6: the lists are copies; what the caller does to his later changes nothing.
func TestD6_OptionsAreCopied(t *testing.T) {
	o := &Options{Accounts: []string{tenantAccount}, Regions: []string{"us-east-1"}, Partitions: []string{"aws"}}
	k := newFrom(t, &stub{}, o)
	o.Accounts[0], o.Regions[0], o.Partitions[0] = platformAccount, "eu-west-1", "aws-cn"
	if _, err := k.limits.check(Key(testARN)); err != nil {
		t.Error(err)
	}
}

// D7: each Region compiled in has a KMS, at the host that its name says.
func TestD7_RegionsOfTheSDK(t *testing.T) {
	suffix := map[string]string{"aws": "amazonaws.com", "aws-cn": "amazonaws.com.cn", "aws-us-gov": "amazonaws.com"}
	n := 0
	for partition, regions := range regionsOf {
		for _, region := range regions {
			n++
			if !regionSyntax.MatchString(region) {
				t.Errorf("%q is not a Region", region)
			}
			ep, err := kms.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), kms.EndpointParameters{Region: &region})
			if want := "https://kms." + region + "." + suffix[partition]; err != nil || ep.URI.String() != want {
				t.Errorf("%s: %v, %v; want %s", region, ep.URI.String(), err, want)
			}
		}
	}
	if n < 36 {
		t.Errorf("only %d Regions", n)
	}
}

// An ARN is accepted if and only if it is written as we would write it from its parts.
func TestParseARNIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(
			rapid.StringMatching(`arn:aws(-cn)?:kms:[a-z]{2}-[a-z]{1,9}-[0-9]:[0-9]{12}:key/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`),
			rapid.Custom(func(t *rapid.T) string { // one edit away from a good one
				b := []byte(testARN)
				b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = byte(rapid.IntRange(0, 255).Draw(t, "byte"))
				return string(b)
			}),
			rapid.String(),
		).Draw(t, "arn")
		a, err := parseARN(s)
		if err == nil && arn(a.partition, "kms", a.region, a.account, "key/"+a.resource) != s {
			t.Fatalf("%q was read as %+v", s, a)
		}
	})
}

func FuzzParseARN(f *testing.F) {
	f.Add(testARN)
	for _, ids := range badARNs {
		for _, id := range ids {
			f.Add(id)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := parseARN(s); err == nil && arn(a.partition, "kms", a.region, a.account, "key/"+a.resource) != s {
			t.Fatalf("%q was read as %+v", s, a)
		}
	})
}
