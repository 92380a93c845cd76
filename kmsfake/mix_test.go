package kmsfake

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// 64 callers do everything at once to a few keys. Whatever they meet, nothing
// breaks inside, each call is logged once, and a data key that was given out
// opens, or is refused for the state of its key, but never opens to other bytes.
func TestEverythingAtOnce(t *testing.T) {
	fake := New(&Options{TB: t})
	trials := make(map[string]*trial)
	for op := range operations {
		if _, ofKey := stateTable[op]; ofKey {
			trials[op] = newTrialOn(t, fake, op, types.KeyStateEnabled)
		}
	}
	ops := slices.Sorted(maps.Keys(trials))
	fake.ResetCalls()
	var calls, opened atomic.Int64
	var wg sync.WaitGroup
	const workers, rounds = 64, 3
	for w := range workers {
		wg.Go(func() {
			c, ctx := fake.Client(customer), context.Background()
			random := rand.New(rand.NewPCG(uint64(w), 0)) //nolint:gosec // an order, no secret
			for range rounds {
				for _, i := range random.Perm(len(ops)) {
					op := ops[i]
					if op == "GetParametersForImport" && w%32 != 0 { // makes an RSA key each time
						continue
					}
					calls.Add(1)
					if err := trials[op].do(customer, op); err != nil && (serverFaults[err.code] != 0 || err.code == "AccessDeniedException") {
						t.Errorf("%s: %v", op, err)
					}
				}
				id, ec := aws.String(trials["GenerateDataKey"].key.ARN()), map[string]string{"w": fmt.Sprint(w)}
				out, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: id, KeySpec: types.DataKeySpecAes256, EncryptionContext: ec})
				calls.Add(1)
				if err != nil {
					t.Error(err)
					continue
				}
				dec, err := c.Decrypt(ctx, &kms.DecryptInput{KeyId: id, CiphertextBlob: out.CiphertextBlob, EncryptionContext: ec})
				calls.Add(1)
				if err != nil || !bytes.Equal(dec.Plaintext, out.Plaintext) {
					t.Errorf("%v", err)
					continue
				}
				opened.Add(1)
			}
		})
	}
	wg.Wait()
	if got := int64(len(fake.Calls())); got != calls.Load() || opened.Load() != workers*rounds {
		t.Errorf("%d calls logged of %d; %d of %d data keys opened", got, calls.Load(), opened.Load(), workers*rounds)
	}
	t.Logf("%d calls of %d operations", calls.Load(), len(ops))
}
