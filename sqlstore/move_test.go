package sqlstore

import (
	"fmt"
	"sync"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
)

// A move on a file, at which two processes work while a third seals: everything opens in the end, under the new CMK alone.
func TestMoveOnAFile(t *testing.T) { EachDriver(t, testMoveOnAFile) }

func testMoveOnAFile(t *testing.T) {
	path := dbFile(t)
	env := byoktest.New(t, &byoktest.Options{Store: openStore(t, path, "")})
	acme, cmk := env.Tenant("acme")
	next := env.CMK("acme")
	sealed := map[byok.Scope][]byte{}
	seal := func(k *byok.Keeper, purpose string) {
		s := byok.Scope{Tenant: "acme", Purpose: purpose}
		b, err := k.Seal(t.Context(), s, []byte(purpose), nil)
		if err != nil {
			t.Error(err)
		}
		sealed[s] = b
	}
	const n = 40
	for i := range n {
		seal(env.Keeper, fmt.Sprint("p", i))
	}
	job, err := acme.Move(t.Context(), awskms.Key(next.ARN()), "")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 2 {
		k, err := byok.New(byoktest.Service, env.Keys, openStore(t, path, ""), env.Audit, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Close() })
		wg.Go(func() {
			for j, err := range k.Tenant("acme").RunJob(t.Context(), job.ID) {
				if err != nil {
					t.Errorf("%+v, %v", j, err)
				}
			}
		})
	}
	for i := range 10 {
		seal(env.Keeper, fmt.Sprint("late", i))
	}
	wg.Wait()
	last, err := acme.Job(t.Context(), job.ID)
	if err != nil || last.State != byok.JobDone || last.Failed != 0 || last.Done < n {
		t.Errorf("%+v, %v", last, err)
	}
	cmk.Disable()
	k := env.NewKeeper()
	for s, b := range sealed {
		if got, err := k.Open(t.Context(), s, b, nil); err != nil || string(got) != s.Purpose {
			t.Errorf("%s: %q, %v", s.Purpose, got, err)
		}
	}
}
