package byok_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/format"
)

const invariants = 20 // I1 to I20 of docs/design.md

// Each invariant has a test that is named after it, and the table in docs/design.md names it.
func TestInvariantsHaveTests(t *testing.T) {
	tests := map[int]map[string]bool{} // invariant -> names
	named := regexp.MustCompile(`^I(\d+)$`)
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || fn.Body == nil || len(fn.Body.List) == 0 || !strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			for _, part := range strings.Split(strings.TrimPrefix(fn.Name.Name, "Test"), "_") {
				if m := named.FindStringSubmatch(part); m != nil {
					n, _ := strconv.Atoi(m[1])
					if tests[n] == nil {
						tests[n] = map[string]bool{}
					}
					tests[n][fn.Name.Name] = true
				}
			}
		}
		return nil
	})
	want(t, "WalkDir", err, nil)
	if files < 50 {
		t.Errorf("only %d files of tests were found", files)
	}
	for n := range tests {
		if n < 1 || n > invariants {
			t.Errorf("tests are named after I%d, which is no invariant: %v", n, tests[n])
		}
	}
	design, err := os.ReadFile("docs/design.md")
	want(t, "ReadFile", err, nil)
	for n := 1; n <= invariants; n++ {
		if len(tests[n]) == 0 {
			t.Errorf("I%d has no test named after it", n)
		}
		row := regexp.MustCompile(`(?m)^\| I` + strconv.Itoa(n) + ` \|.*$`).FindString(string(design))
		found := false
		for name := range tests[n] {
			found = found || strings.Contains(row, "`"+name+"`")
		}
		if !found {
			t.Errorf("the table of invariants names no test of I%d: %q", n, row)
		}
	}
}

// Nothing that is cached for one serves another: not another tenant, purpose, CMK,
// wrapped key or Keeper; and policy and tenant of an envelope count on a hit as on a miss.
func TestI11_NothingIsShared(t *testing.T) {
	env := byoktest.New(t, nil)
	_, cmk := env.Tenant("acme")
	env.Tenant("umbrella")
	id := byok.DataKeyID{11}
	dek, r := wrappedBy(t, env, cmk.ARN(), "acme", id)
	_, same := wrappedBy(t, env, cmk.ARN(), "acme", id)
	inEnvelope := forge(t, inside(id, r), dek, "default", "inside")
	stored := seal(t, env.Keeper, "acme", "stored", "")
	seal(t, env.Keeper, "umbrella", "theirs", "")
	mustOpen(t, env.Keeper, "acme", inEnvelope, "", "inside")
	mustOpen(t, env.Keeper, "acme", stored, "", "stored") // all of it is cached now

	other := env.CMK("acme")
	recipients := []format.Recipient{r, {Provider: "aws-kms", Key: other.ARN(), Wrapped: r.Wrapped}}
	if recipients[1].Key < recipients[0].Key {
		recipients[0], recipients[1] = recipients[1], recipients[0]
	}
	all := format.Header{Suite: format.SuiteFLOE, Policy: format.PolicyALL, DataKey: id, Tenant: "acme", Recipients: recipients}
	theirs := inside(id, r)
	theirs.Tenant = "umbrella"
	otherCMK := inside(id, recipients[0])
	if recipients[0].Key == r.Key {
		otherCMK = inside(id, recipients[1])
	}
	for _, c := range []struct {
		name   string
		scope  byok.Scope
		sealed []byte
		calls  int // KMS requests; -1: any number
	}{
		{"another tenant, of the same envelope", byok.Scope{Tenant: "umbrella"}, inEnvelope, 0},
		{"another tenant, of the same data key", byok.Scope{Tenant: "umbrella"}, forge(t, theirs, dek, "default", "x"), 0},
		{"another tenant, of a stored data key", byok.Scope{Tenant: "umbrella"}, stored, 0},
		{"another purpose", byok.Scope{Tenant: "acme", Purpose: "mail"}, inEnvelope, -1},
		{"another purpose, of a stored data key", byok.Scope{Tenant: "acme", Purpose: "mail"}, stored, 0},
		{"another CMK", byok.Scope{Tenant: "acme"}, forge(t, otherCMK, dek, "default", "x"), 0},
		{"another wrapped key", byok.Scope{Tenant: "acme"}, forge(t, inside(id, same), dek, "default", "x"), 1},
		{"another policy", byok.Scope{Tenant: "acme"}, forge(t, all, dek, "default", "x"), 0},
	} {
		env.Fake.ResetCalls()
		_, err := env.Keeper.Open(t.Context(), c.scope, c.sealed, nil)
		want(t, c.name, err, byok.ErrOpen)
		if n := len(env.Fake.Calls()); c.calls >= 0 && n != c.calls {
			t.Errorf("%s: %d KMS requests, want %d", c.name, n, c.calls)
		}
	}
	env.Fake.ResetCalls()
	mustOpen(t, env.Keeper, "acme", inEnvelope, "", "inside")
	mustOpen(t, env.Keeper, "acme", stored, "", "stored")
	if n := len(env.Fake.Calls()); n != 0 {
		t.Fatalf("%d KMS requests for what is cached: this test would prove nothing", n)
	}
	k := env.NewKeeper()
	mustOpen(t, k, "acme", inEnvelope, "", "inside")
	mustOpen(t, k, "acme", stored, "", "stored")
	if n := len(env.Fake.Calls()); n != 2 {
		t.Errorf("another Keeper made %d KMS requests, want 2", n)
	}
}

// While KMS denies the CMK nothing that anybody on the platform's side can do opens
// what it sealed, nor seals under another key: no command, mode, option, restart or other CMK.
func TestI16_NothingTurnsADenialIntoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := byoktest.New(t, nil)
		acme, cmk := env.Tenant("acme")
		sealed := seal(t, env.Keeper, "acme", "x", "")
		alone := keeperWith(t, env, &byok.Options{PerOperation: true})
		inEnvelope := seal(t, alone, "acme", "x", "")
		other := env.CMK("acme")
		cmk.Disable()
		_, err := acme.Recheck(t.Context())
		want(t, "Recheck", err, nil)
		newer := byok.DefaultWaiver()
		newer.Version = "2.0"
		keepers := map[string]*byok.Keeper{
			"the same process": env.Keeper, "a restarted one": env.NewKeeper(), "per operation": alone,
			"the longest lease": keeperWith(t, env, &byok.Options{MaxAge: byok.MaxMaxAge}),
			"any policy":        keeperWith(t, env, &byok.Options{AllowUnboundPolicy: true}),
			"another waiver":    keeperWith(t, env, &byok.Options{Waiver: &newer}),
		}
		shut := func(when string, seals error) {
			t.Helper()
			time.Sleep(time.Minute) // beyond every back-off: KMS is asked
			for name, k := range keepers {
				for _, s := range [][]byte{sealed, inEnvelope} {
					if plain, err := open(t, k, "acme", s, ""); err == nil {
						t.Errorf("%s, %s: opened %q", when, name, plain)
					}
				}
				_, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme", Purpose: "new"}, nil, nil)
				if !errors.Is(err, seals) {
					t.Errorf("%s, %s: Seal: %v, want %v", when, name, err, seals)
				}
			}
		}
		shut("after a denial", byok.ErrKeyDenied)
		for name, do := range map[string]func(k *byok.Tenant) error{
			"AcknowledgeWaiver": func(k *byok.Tenant) error { _, err := k.AcknowledgeWaiver(t.Context(), accepted); return err },
			"Suspend, Resume": func(k *byok.Tenant) error {
				_, err := k.Suspend(t.Context(), "")
				if err == nil {
					_, err = k.Resume(t.Context(), "")
				}
				return err
			},
			"Health":  func(k *byok.Tenant) error { _, err := k.Health(t.Context()); return err },
			"Recheck": func(k *byok.Tenant) error { _, err := k.Recheck(t.Context()); return err },
			"Rotate": func(k *byok.Tenant) error {
				_, err := k.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK})
				return ignore(err, byok.ErrKeyDenied)
			},
			"Register":       func(k *byok.Tenant) error { _, err := register(t, k, cmk); return ignore(err, byok.ErrKeyTaken) },
			"Register other": func(k *byok.Tenant) error { _, err := register(t, k, other); return ignore(err, byok.ErrKeyTaken) },
		} {
			want(t, name, do(acme), nil)
			shut("after "+name, byok.ErrKeyDenied)
		}
		// The tenant removes its key: the same one is refused, and another one opens nothing.
		_, err = acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		_, err = register(t, acme, cmk)
		want(t, "Register a CMK that denies us", err, byok.ErrKeyDenied)
		_, err = register(t, acme, other)
		want(t, "Register another CMK", err, byok.ErrMoveRequired)
		shut("after Revoke", byok.ErrKeyRemoved)
		_, err = acme.Register(t.Context(), byok.Registration{Key: awskms.Key(other.ARN()), AbandonExistingData: true})
		want(t, "Register another CMK, abandoning", err, nil)
		for name, k := range keepers {
			if name == "another waiver" {
				continue // was not active in between
			}
			for _, s := range [][]byte{sealed, inEnvelope} {
				_, err := open(t, k, "acme", s, "")
				want(t, "Open of what another CMK sealed, "+name, err, byok.ErrOpen)
			}
		}
		// Only the CMK's owner can.
		cmk.Enable()
		_, err = acme.Revoke(t.Context(), "")
		want(t, "Revoke", err, nil)
		_, err = register(t, acme, cmk)
		want(t, "Register", err, nil)
		time.Sleep(byok.MaxMaxAge)
		mustOpen(t, env.Keeper, "acme", sealed, "", "x")
		mustOpen(t, alone, "acme", inEnvelope, "", "x")
	})
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return errors.Join(errors.New("not refused as expected"), err)
}

func keeperWith(t *testing.T, env *byoktest.Env, o *byok.Options) *byok.Keeper {
	t.Helper()
	k, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, o)
	want(t, "New", err, nil)
	t.Cleanup(func() { _ = k.Close() })
	return k
}
