package kmsfake

import (
	"context"
	"fmt"
	"maps"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"
)

// Every operation, in every state of a key, as its owner and as a stranger: the
// real SDK client over HTTP gets what the client in process gets, down to the
// members that are set and the text of errors.
func TestEveryOperationIsTheSameOnBothFaces(t *testing.T) {
	var fakes [2]*KMS
	var clients [2]map[string]API
	for i := range fakes {
		fakes[i] = New(&Options{TB: t})
		fakes[i].RegisterAccessKey("AKIAROLE", role, testSecret)
		server := httptest.NewServer(fakes[i].Handler())
		t.Cleanup(server.Close)
		clients[i] = make(map[string]API)
		for _, who := range []string{customer, role} {
			if i == 0 {
				clients[i][who] = fakes[i].Client(who)
				continue
			}
			id := map[string]string{customer: customer, role: "AKIAROLE"}[who]
			clients[i][who] = kms.New(kms.Options{
				Region: DefaultRegion, BaseEndpoint: aws.String(server.URL), Retryer: aws.NopRetryer{}, HTTPClient: server.Client(),
				Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					return aws.Credentials{AccessKeyID: id, SecretAccessKey: testSecret}, nil
				}),
			})
		}
	}
	uuid := regexp.MustCompile(`mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}`)
	answer := func(c API, op string, in any) string {
		out := reflect.ValueOf(c).MethodByName(op).Call([]reflect.Value{reflect.ValueOf(context.Background()), reflect.ValueOf(in)})
		if err, _ := out[1].Interface().(error); err != nil {
			return uuid.ReplaceAllString(err.Error(), "ID")
		}
		return "ok " + strings.Join(setMembers(out[0].Elem(), ""), " ")
	}
	cases, succeeded := 0, 0
	for _, op := range slices.Sorted(maps.Keys(operations)) {
		if op == "CreateKey" || op == "GenerateRandom" || op == "ListKeys" || op == "ListRetirableGrants" {
			continue // not about a key; TestClientEqualsSDKClient has them
		}
		for _, state := range allStates {
			for _, who := range []string{customer, role} {
				var got [2]string
				for i := range fakes {
					tr := newTrialOn(t, fakes[i], op, state)
					tr.into(state)
					got[i] = answer(clients[i][who], op, tr.input(op))
					if strings.HasSuffix(op, "Alias") {
						tr.key.Delete() // so that its name is free again
					}
				}
				cases++
				if strings.HasPrefix(got[0], "ok") {
					succeeded++
				}
				if d := cmp.Diff(got[0], got[1]); d != "" {
					t.Errorf("%s, %s, as %s:\n in process %s\n over HTTP  %s", op, state, who, got[0], got[1])
				}
			}
		}
	}
	t.Logf("%d cases, %d of them successes", cases, succeeded)
	if cases < 40*len(allStates)*2 || succeeded < 100 {
		t.Errorf("only %d cases, %d successes", cases, succeeded)
	}
}

// setMembers are the names of the members of an output that have a value.
func setMembers(v reflect.Value, prefix string) (names []string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Name == "ResultMetadata" || v.Field(i).IsZero() {
			continue
		}
		m := v.Field(i)
		for m.Kind() == reflect.Pointer || m.Kind() == reflect.Slice && m.Len() > 0 && m.Type().Elem().Kind() == reflect.Struct {
			if m.Kind() == reflect.Pointer {
				m = m.Elem()
			} else {
				m = m.Index(0)
			}
		}
		if m.Kind() == reflect.Struct && m.Type() != timeType {
			names = append(names, setMembers(m, prefix+f.Name+".")...)
			continue
		}
		name := prefix + f.Name
		switch m.Interface().(type) {
		case types.KeyState, bool, int32:
			name += fmt.Sprintf("=%v", m.Interface())
		}
		names = append(names, name)
	}
	return names
}
