package byok_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/byok-go/byok/byoktest"
)

// The handler of the docs understands what CloudTrail says of each call that the
// rule of the docs asks for, and nothing else.
func TestEventsFromCustomers(t *testing.T) {
	env := byoktest.New(t, nil)
	cmk := env.CMK("acme")
	admin := env.Fake.Client("arn:aws:iam::" + byoktest.Account + ":root")
	id := aws.String(cmk.ARN())
	env.Fake.ResetCalls()
	for _, do := range []func() error{
		func() error { _, err := admin.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id}); return err },
		func() error { _, err := admin.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: id}); return err },
		func() error {
			_, err := admin.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: id, Policy: aws.String(shortPolicy)})
			return err
		},
		func() error {
			_, err := admin.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: id})
			return err
		},
		func() error {
			_, err := admin.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: id})
			return err
		},
	} {
		want(t, "call", do(), nil)
	}
	wrap := func(detail any) string {
		b, err := json.Marshal(map[string]any{"version": "0", "id": "x", "detail-type": "AWS API Call via CloudTrail", "source": "aws.kms",
			"account": byoktest.Account, "time": "2026-03-01T12:00:00Z", "region": "us-east-1", "resources": []string{}, "detail": detail})
		want(t, "Marshal", err, nil)
		return string(b)
	}
	trail := env.Fake.Account(byoktest.Account).CloudTrail()
	if len(trail) != 5 {
		t.Fatalf("%d events", len(trail))
	}
	for _, e := range trail {
		if arn, err := changedKey([]byte(wrap(e))); err != nil || arn != cmk.ARN() {
			t.Errorf("%s: %q, %v", e.EventName, arn, err)
		}
	}
	good := wrap(trail[0])
	for name, bad := range map[string]string{
		"no JSON":              "DisableKey",
		"empty":                "",
		"null":                 "null",
		"an array":             "[" + good + "]",
		"two":                  good + good,
		"garbage after it":     good + "}",
		"too large":            good + strings.Repeat(" ", 256<<10),
		"a read":               strings.Replace(good, "DisableKey", "DescribeKey", 1),
		"another service":      strings.Replace(good, "kms.amazonaws.com", "s3.amazonaws.com", 1),
		"another source":       strings.Replace(good, `"aws.kms"`, `"acme.kms"`, 1),
		"another type":         strings.Replace(good, "AWS API Call via CloudTrail", "AWS Service Event via CloudTrail", 1),
		"another version":      strings.Replace(good, `"version":"0"`, `"version":"1"`, 1),
		"failed":               strings.Replace(good, `"eventName"`, `"errorCode":"AccessDenied","eventName"`, 1),
		"of another account":   strings.Replace(good, `"account":"`+byoktest.Account, `"account":"444455556666`, 1),
		"no key":               strings.Replace(good, `"ARN":"`, `"Arm":"`, 1),
		"an alias":             strings.Replace(good, `:key/`, `:alias/`, -1),
		"another service's":    strings.Replace(good, `arn:aws:kms`, `arn:aws:s3`, -1),
		"an ARN in two pieces": strings.Replace(good, `:key/`, `:x:key/`, -1),
	} {
		if bad == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		if arn, err := changedKey([]byte(bad)); err == nil || arn != "" {
			t.Errorf("%s: %q, %v", name, arn, err)
		}
	}

	// The JSON in the docs is JSON, and its rule asks for what the handler understands.
	doc, err := os.ReadFile("docs/operations.md")
	want(t, "ReadFile", err, nil)
	_, section, ok := strings.Cut(string(doc), "\n## Hearing from customers' accounts\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(section, -1)
	if !ok || len(blocks) != 4 {
		t.Fatalf("%d blocks of JSON in the docs", len(blocks))
	}
	var rule struct {
		Detail struct {
			EventName []string `json:"eventName"`
		} `json:"detail"`
	}
	for i, b := range blocks {
		if !json.Valid([]byte(b[1])) {
			t.Errorf("block %d of the docs is no JSON", i)
		}
	}
	want(t, "Unmarshal", json.Unmarshal([]byte(blocks[0][1]), &rule), nil)
	if !slices.Equal(rule.Detail.EventName, keyEvents) {
		t.Errorf("the rule asks for %v, the handler understands %v", rule.Detail.EventName, keyEvents)
	}
}
