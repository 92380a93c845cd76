package kmsfake

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Each operation answers the same through both faces: in process, and to the
// real SDK over HTTP. What is random differs; what is set, and whatever else it
// says, does not.
func TestFacesAnswerAlike(t *testing.T) {
	compared := 0
	for _, op := range slices.Sorted(maps.Keys(operations)) {
		if op == "ListRetirableGrants" { // has no key; see the tests of grants
			continue
		}
		var shapes []map[string]string
		for _, wire := range []bool{false, true} {
			tr := newTrial(t, op, types.KeyStateEnabled)
			tr.fake.RegisterAccessKey("AKIAFACES", customer)
			var c API = tr.fake.Client(customer)
			if wire {
				c = sdkClient(t, tr.fake, "AKIAFACES", testSecret)
			}
			in := tr.ins[op]
			switch op {
			case "CreateKey":
				in = &kms.CreateKeyInput{MultiRegion: aws.Bool(true), Tags: tagsOf("a", "b")}
			case "CancelKeyDeletion":
				tr.key.ScheduleDeletion(7)
			case "GenerateRandom":
				in = &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)}
			case "ListKeys":
				in = &kms.ListKeysInput{}
			case "ImportKeyMaterial": // with a time in the request
				in.(*kms.ImportKeyMaterialInput).ExpirationModel = ""
				in.(*kms.ImportKeyMaterialInput).ValidTo = aws.Time(tr.fake.now().Add(300 * day))
			}
			out := reflect.ValueOf(c).MethodByName(op).Call([]reflect.Value{reflect.ValueOf(context.Background()), reflect.ValueOf(in)})
			if err, _ := out[1].Interface().(error); err != nil {
				t.Fatalf("%s, over HTTP: %v: %v", op, wire, err)
			}
			shape := make(map[string]string)
			outline(shape, "", out[0].Elem())
			delete(shape, ".ResultMetadata.values")
			shapes = append(shapes, shape)
		}
		if !maps.Equal(shapes[0], shapes[1]) {
			t.Errorf("%s:\nin process %v\nover HTTP  %v", op, shapes[0], shapes[1])
		}
		compared++
	}
	t.Logf("%d operations", compared)
	if compared < 47 {
		t.Errorf("only %d", compared)
	}
}

// someID is the id of a key, or of a request.
var someID = regexp.MustCompile(`mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// outline notes what is set in a value, and what it says if that is not random.
func outline(shape map[string]string, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			outline(shape, path, v.Elem())
		}
	case reflect.Struct:
		if v.Type() == timeType {
			shape[path] = "time"
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "ResultMetadata" {
				outline(shape, path+"."+f.Name, v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if v.Len() > 0 {
				shape[path] = "bytes"
			}
			return
		}
		for i := range v.Len() {
			outline(shape, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.String:
		if v.Type() != reflect.TypeFor[string]() { // an enum
			shape[path] = v.String()
		} else if v.Len() < 200 { // tokens are longer
			shape[path] = someID.ReplaceAllString(normal(v.String()), "ID")
		} else {
			shape[path] = "text"
		}
	default:
		shape[path] = fmt.Sprint(v.Interface())
	}
}
