package kmsfake

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// A dry run of whatever takes one says that it would have succeeded, and changes
// nothing at all; for somebody without permission it is denied, and where the
// state forbids the call it is refused like the call itself.
func TestDryRunChangesNothing(t *testing.T) {
	tried := 0
	for _, op := range slices.Sorted(maps.Keys(operations)) {
		dry := reflect.TypeOf(operations[op].input()).Elem()
		if _, has := dry.FieldByName("DryRun"); !has {
			continue
		}
		tried++
		tr := newTrial(t, op, types.KeyStateEnabled)
		tr.do(customer, "DescribeKey") // whatever settles by itself has settled
		in := reflect.ValueOf(tr.input(op)).Elem()
		in.FieldByName("DryRun").Set(reflect.ValueOf(aws.Bool(true)))
		before, _ := json.Marshal(tr.fake.st)
		if err := tr.do(customer, op); err == nil || err.code != "DryRunOperationException" ||
			err.msg != "The request would have succeeded, but the DryRun option is set." {
			t.Errorf("%s: %v", op, err)
		}
		if after, _ := json.Marshal(tr.fake.st); string(after) != string(before) {
			t.Errorf("a dry run of %s changed something", op)
		}
		if op != "RetireGrant" {
			if err := tr.do(role, op); err == nil || err.code != "AccessDeniedException" {
				t.Errorf("%s by a stranger: %v", op, err)
			}
		}
		if stateTable[op][stateColumns[types.KeyStateDisabled]] == disabled {
			tr.key.Disable()
			if err := tr.do(customer, op); err == nil || err.code != "DisabledException" {
				t.Errorf("%s of a disabled key: %v", op, err)
			}
		}
	}
	t.Logf("%d operations have a dry run", tried)
	if tried < 15 {
		t.Errorf("only %d", tried)
	}
}
