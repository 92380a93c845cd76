package kmsfake

import (
	"context"
	"errors"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
)

// operationsOfTheSDK are the methods of *kms.Client that are operations, and
// their inputs.
func operationsOfTheSDK() map[string]reflect.Type {
	out := make(map[string]reflect.Type)
	client := reflect.TypeFor[*kms.Client]()
	for i := range client.NumMethod() {
		m := client.Method(i)
		if m.Type.NumIn() == 4 && m.Type.IsVariadic() && m.Type.NumOut() == 2 && strings.HasSuffix(m.Type.In(2).String(), "Input") {
			out[m.Name] = m.Type.In(2).Elem()
		}
	}
	return out
}

// The table in the docs has a line for each operation of the SDK, and says of
// each what is true: that it is supported, or that it is refused.
func TestDocumentedOperations(t *testing.T) {
	data, err := os.ReadFile("../docs/kmsfake.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z][A-Za-z]+) \| (yes|no) \|.*\|$`).FindAllStringSubmatch(string(data), -1) {
		if documented[m[1]] != "" {
			t.Errorf("%s has two lines", m[1])
		}
		documented[m[1]] = m[2]
	}
	sdk := operationsOfTheSDK()
	if len(sdk) < 50 {
		t.Fatalf("the SDK has only %d operations", len(sdk))
	}
	mine := reflect.TypeFor[*Client]()
	supported := 0
	for name := range sdk {
		_, method := mine.MethodByName(name)
		is := map[bool]string{true: "yes", false: "no"}[operations[name] != nil]
		if documented[name] != is {
			t.Errorf("%s: the docs say %q, it is %q", name, documented[name], is)
		}
		if method != (is == "yes") || unsupported[name] != (is == "no") {
			t.Errorf("%s: a method: %v, refused on the wire: %v", name, method, unsupported[name])
		}
		if is == "yes" {
			supported++
		}
	}
	for name := range documented {
		if sdk[name] == nil {
			t.Errorf("the docs have %s, the SDK has not", name)
		}
	}
	if len(unsupported)+len(operations) != len(sdk) {
		t.Errorf("%d and %d operations of %d", len(operations), len(unsupported), len(sdk))
	}
	t.Logf("%d operations, %d supported", len(sdk), supported)
}

// The client insists on the members that the SDK insists on, and on no others:
// whatever the SDK refuses to send never reaches the service, nor its log.
func TestRequiredMembersAreTheSDKs(t *testing.T) {
	sdk := reflect.ValueOf(kms.New(kms.Options{Region: DefaultRegion, Credentials: aws.AnonymousCredentials{},
		HTTPClient: refusing{}, Retryer: aws.NopRetryer{}}))
	fake := New(&Options{TB: t})
	ours := reflect.ValueOf(fake.Client(customer))
	insists := func(on reflect.Value, name string, in reflect.Type) string {
		out := on.MethodByName(name).Call([]reflect.Value{reflect.ValueOf(context.Background()), reflect.New(in)})
		err, _ := out[1].Interface().(error)
		var missing smithy.InvalidParamsError
		if errors.As(err, &missing) {
			_, text, _ := strings.Cut(missing.Error(), "\n")
			lines := strings.Split(strings.TrimSpace(text), "\n")
			slices.Sort(lines)
			return strings.Join(lines, "\n")
		}
		return ""
	}
	insistent := 0
	for name, in := range operationsOfTheSDK() {
		if operations[name] == nil {
			continue
		}
		want := insists(sdk, name, in)
		if got := insists(ours, name, in); got != want {
			t.Errorf("%s insists on\n%s\nthe SDK on\n%s", name, got, want)
		}
		if want != "" {
			insistent++
		}
	}
	if insistent < 35 {
		t.Errorf("only %d operations have required members", insistent)
	}
}

// refusing is a network that is not there.
type refusing struct{}

func (refusing) Do(*http.Request) (*http.Response, error) { return nil, errors.New("no network") }
