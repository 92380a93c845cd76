package keyringtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
)

const role = "arn:aws:iam::999988887777:role/platform"

// newHarness is a Keyring that conforms: awskms on the fake.
func newHarness(t *testing.T) Harness {
	t.Helper()
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":"kms:*","Resource":"*"}]}`
	one, two := fake.Account("111122223333").CreateKey(policy), fake.Account("444455556666").CreateKey(policy)
	k, err := awskms.NewFromClient(fake.Client(role), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := Harness{Keyring: k, Key: awskms.Key(one.ARN()), Other: awskms.Key(two.ARN())}
	h.Calls = func() int { return len(fake.Calls()) }
	h.Disable = func(key byok.KeyID) { fake.Account("111122223333").Key(key.ID).Disable() }
	h.Enable = func(key byok.KeyID) { fake.Account("111122223333").Key(key.ID).Enable() }
	h.Stall = func() func() { fake.Latency(time.Minute); return func() { fake.Latency(0) } }
	return h
}

func TestConforming(t *testing.T) { Run(t, newHarness(t)) }

// recorder is a caseT that remembers.
type recorder struct {
	mu     sync.Mutex
	failed []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }

// failures runs the cases against h and returns the names of those that fail.
// Concurrent runs only for its own fault: for some others it is a data race.
func failures(h Harness, seenBy string) (names []string) {
	for _, c := range cases {
		if !c.applies(&h) || c.name == "Concurrent" && seenBy != c.name {
			continue
		}
		var r recorder
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() {
				if v := recover(); v != nil {
					r.Errorf("panic: %v", v)
				}
			}()
			c.run(&r, &h)
		}()
		<-done
		if len(r.failed) > 0 {
			names = append(names, c.name)
		}
	}
	return names
}

// broken is a Keyring with one fault: a non-nil function replaces the method.
type broken struct {
	byok.Keyring
	generate func(context.Context, byok.KeyID, byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error)
	wrap     func(context.Context, byok.KeyID, *byok.DEK, byok.EncryptionContext) (byok.Wrapped, error)
	unwrap   func(context.Context, byok.KeyID, []byte, byok.EncryptionContext) (*byok.DEK, byok.Receipt, error)
	rewrap   rewrapFunc
}

type rewrapFunc func(ctx context.Context, from, to byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (byok.Wrapped, error)

func (b *broken) RewrapDataKey(ctx context.Context, from, to byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (byok.Wrapped, error) {
	whole := b.Keyring.(byok.Rewrapper).RewrapDataKey
	if b.rewrap != nil {
		return b.rewrap(ctx, from, to, wrapped, ec)
	}
	return whole(ctx, from, to, wrapped, ec)
}

// rewraps replaces how data keys are rewrapped; f gets the right way.
func rewraps(f func(whole rewrapFunc) rewrapFunc) func(*broken, *Harness) {
	return func(b *broken, _ *Harness) { b.rewrap = f(b.Keyring.(byok.Rewrapper).RewrapDataKey) }
}

func (b *broken) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	if b.generate != nil {
		return b.generate(ctx, key, ec)
	}
	return b.Keyring.GenerateDataKey(ctx, key, ec)
}

func (b *broken) WrapDataKey(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
	if b.wrap != nil {
		return b.wrap(ctx, key, dek, ec)
	}
	return b.Keyring.WrapDataKey(ctx, key, dek, ec)
}

func (b *broken) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	if b.unwrap != nil {
		return b.unwrap(ctx, key, wrapped, ec)
	}
	return b.Keyring.UnwrapDataKey(ctx, key, wrapped, ec)
}

// context changes the encryption context of every call.
func (b *broken) context(change func(byok.EncryptionContext) byok.EncryptionContext) {
	k := b.Keyring
	b.generate = func(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
		return k.GenerateDataKey(ctx, key, change(ec))
	}
	b.wrap = func(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
		return k.WrapDataKey(ctx, key, dek, change(ec))
	}
	b.unwrap = func(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
		return k.UnwrapDataKey(ctx, key, w, change(ec))
	}
}

// key changes the key of every call.
func (b *broken) key(change func(byok.KeyID) byok.KeyID) {
	k := b.Keyring
	b.generate = func(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
		return k.GenerateDataKey(ctx, change(key), ec)
	}
	b.wrap = func(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
		return k.WrapDataKey(ctx, change(key), dek, ec)
	}
	b.unwrap = func(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
		return k.UnwrapDataKey(ctx, change(key), w, ec)
	}
}

// errors changes the errors of unwrapping.
func (b *broken) errors(change func(error) error) {
	k := b.Keyring
	b.unwrap = func(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
		dek, r, err := k.UnwrapDataKey(ctx, key, w, ec)
		if err != nil {
			err = change(err)
		}
		return dek, r, err
	}
}

func reclass(from, to byok.Class) func(error) error {
	return func(err error) error {
		var ke *byok.KeyError
		if errors.As(err, &ke) && ke.Class == from {
			ke.Class = to
		}
		return err
	}
}

// faults are Keyrings that each break one promise, and the case that has to see it.
var faults = []struct {
	name, seenBy string
	inject       func(b *broken, h *Harness)
}{
	{"sends no context", "ContextExact/Generate", func(b *broken, _ *Harness) {
		b.context(func(byok.EncryptionContext) byok.EncryptionContext { return nil })
	}},
	{"sends a part of the context", "ContextExact/Wrap", func(b *broken, _ *Harness) {
		b.context(func(ec byok.EncryptionContext) byok.EncryptionContext {
			ec = ec.Clone()
			delete(ec, "purpose")
			return ec
		})
	}},
	{"joins the context ambiguously", "ContextExact/Generate", func(b *broken, _ *Harness) {
		b.context(func(ec byok.EncryptionContext) byok.EncryptionContext {
			var pairs []string
			for k, v := range ec {
				pairs = append(pairs, k+v)
			}
			slices.Sort(pairs)
			return byok.EncryptionContext{"c": "x" + strings.Join(pairs, ";")}
		})
	}},
	{"folds the case of the context", "ContextExact/Generate", func(b *broken, _ *Harness) {
		b.context(func(ec byok.EncryptionContext) byok.EncryptionContext {
			out := make(byok.EncryptionContext)
			for k, v := range ec {
				out[strings.ToLower(k)] = strings.ToLower(v)
			}
			return out
		})
	}},
	{"drops what is empty", "ContextExact/Generate", func(b *broken, _ *Harness) {
		b.context(func(ec byok.EncryptionContext) byok.EncryptionContext {
			out := make(byok.EncryptionContext)
			for k, v := range ec {
				if v != "" {
					out[k] = v
				}
			}
			return out
		})
	}},
	{"changes the context", "InputsUntouched", func(b *broken, _ *Harness) {
		b.context(func(ec byok.EncryptionContext) byok.EncryptionContext {
			if ec != nil {
				ec["driver"] = "was here"
			}
			return ec
		})
	}},
	{"trims the key id", "BadKeyID", func(b *broken, _ *Harness) {
		b.key(func(k byok.KeyID) byok.KeyID { k.ID = strings.TrimSpace(k.ID); return k })
	}},
	{"takes any provider", "BadKeyID", func(b *broken, h *Harness) {
		b.key(func(k byok.KeyID) byok.KeyID { k.Provider = h.Key.Provider; return k })
	}},
	{"asks the KMS about bad ids", "BadKeyIDSendsNothing", func(b *broken, h *Harness) {
		k := b.Keyring
		b.wrap = func(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
			if key != h.Key && key != h.Other {
				_, _, _ = k.GenerateDataKey(ctx, h.Key, ec)
			}
			return k.WrapDataKey(ctx, key, dek, ec)
		}
	}},
	{"unwraps with whatever key fits", "OtherKeyRefused", func(b *broken, h *Harness) {
		k := b.Keyring
		b.unwrap = func(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
			dek, r, err := k.UnwrapDataKey(ctx, key, w, ec)
			if errors.Is(err, byok.ErrOpen) {
				if dek, r, err2 := k.UnwrapDataKey(ctx, h.Key, w, ec); err2 == nil {
					return dek, r, nil
				}
			}
			return dek, r, err
		}
	}},
	{"ignores trailing bytes", "BlobTruncated", func(b *broken, _ *Harness) {
		k := b.Keyring
		b.unwrap = func(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
			dek, r, err := k.UnwrapDataKey(ctx, key, w, ec)
			if err != nil && len(w) > 1 {
				return k.UnwrapDataKey(ctx, key, w[:len(w)-1], ec)
			}
			return dek, r, err
		}
	}},
	{"calls a bad blob a denial", "BlobFlipped", func(b *broken, _ *Harness) { b.errors(reclass(byok.ClassBlob, byok.ClassDenied)) }},
	{"calls a denial an outage", "Denied", func(b *broken, _ *Harness) { b.errors(reclass(byok.ClassDenied, byok.ClassOutage)) }},
	{"returns errors of its own", "BlobForeign", func(b *broken, _ *Harness) {
		b.errors(func(err error) error { return fmt.Errorf("driver: %w", err) })
	}},
	{"names no key in its errors", "Denied", func(b *broken, _ *Harness) {
		b.errors(func(err error) error {
			var ke *byok.KeyError
			if errors.As(err, &ke) {
				ke.Key = byok.KeyID{}
			}
			return err
		})
	}},
	{"returns a key with an error", "Denied", func(b *broken, _ *Harness) {
		k := b.Keyring
		b.unwrap = func(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
			dek, r, err := k.UnwrapDataKey(ctx, key, w, ec)
			if err != nil {
				dek, _ = byok.NewDEK(make([]byte, 32))
			}
			return dek, r, err
		}
	}},
	{"has a cache", "OneCallEach", func(b *broken, _ *Harness) {
		k, cache := b.Keyring, map[string]*byok.DEK{}
		var mu sync.Mutex
		b.unwrap = func(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
			at := fmt.Sprint(key, w, ec)
			mu.Lock()
			defer mu.Unlock()
			if dek := cache[at]; dek != nil {
				return dek, byok.Receipt{}, nil
			}
			dek, r, err := k.UnwrapDataKey(ctx, key, w, ec)
			if err == nil {
				cache[at] = dek
			}
			return dek, r, err
		}
	}},
	{"remembers a denial", "DeniedEndsByItself", func(b *broken, _ *Harness) {
		k, denied := b.Keyring, map[byok.KeyID]error{}
		b.unwrap = func(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
			if err := denied[key]; err != nil {
				return nil, byok.Receipt{}, err
			}
			dek, r, err := k.UnwrapDataKey(ctx, key, w, ec)
			if errors.Is(err, byok.ErrKeyDenied) {
				denied[key] = err
			}
			return dek, r, err
		}
	}},
	{"retries a denial", "DeniedIsNotRetried", func(b *broken, _ *Harness) {
		k := b.Keyring
		b.generate = func(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
			dek, w, err := k.GenerateDataKey(ctx, key, ec)
			if errors.Is(err, byok.ErrKeyDenied) {
				return k.GenerateDataKey(ctx, key, ec)
			}
			return dek, w, err
		}
	}},
	{"forgets ctx", "DoneContext", func(b *broken, _ *Harness) {
		k := b.Keyring
		b.generate = func(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
			return k.GenerateDataKey(context.WithoutCancel(ctx), key, ec)
		}
	}},
	{"waits for the KMS whatever ctx says", "CancelledWhileWaiting", func(b *broken, _ *Harness) {
		k := b.Keyring
		b.unwrap = func(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
			dek, r, err := k.UnwrapDataKey(ctx, key, w, ec)
			if ctx.Err() != nil {
				time.Sleep(prompt + time.Second)
			}
			return dek, r, err
		}
	}},
	{"calls a deadline our bug", "DeadlineWhileWaiting", func(b *broken, _ *Harness) { b.errors(reclass(byok.ClassOutage, byok.ClassInternal)) }},
	{"wipes the caller's key", "InputsUntouched", func(b *broken, _ *Harness) {
		k := b.Keyring
		b.wrap = func(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
			defer dek.Wipe()
			return k.WrapDataKey(ctx, key, dek, ec)
		}
	}},
	{"wipes the wrapped bytes", "InputsUntouched", func(b *broken, _ *Harness) {
		k := b.Keyring
		b.unwrap = func(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
			defer clear(w)
			return k.UnwrapDataKey(ctx, key, w, ec)
		}
	}},
	{"reuses one buffer for what it returns", "OutputsIndependent", func(b *broken, _ *Harness) {
		k := b.Keyring
		var buf []byte
		var mu sync.Mutex
		b.generate = func(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
			mu.Lock()
			defer mu.Unlock()
			dek, w, err := k.GenerateDataKey(ctx, key, ec)
			buf = append(buf[:0], w.Bytes...)
			w.Bytes = buf
			return dek, w, err
		}
	}},
	{"generates one key for ever", "DataKeysDiffer", func(b *broken, _ *Harness) {
		k := b.Keyring
		b.generate = func(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
			dek, err := byok.NewDEK(bytes.Repeat([]byte{7}, 32))
			if err != nil {
				return nil, byok.Wrapped{}, err
			}
			w, err := k.WrapDataKey(ctx, key, dek, ec)
			if err != nil {
				return nil, byok.Wrapped{}, err
			}
			return dek, w, nil
		}
	}},
	{"wraps zeros for a wiped key", "WipedDataKey", func(b *broken, _ *Harness) {
		k := b.Keyring
		b.wrap = func(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
			if dek.Use(func([]byte) error { return nil }) != nil {
				dek, _ = byok.NewDEK(make([]byte, 32))
			}
			return k.WrapDataKey(ctx, key, dek, ec)
		}
	}},
	{"mixes up concurrent calls", "Concurrent", func(b *broken, _ *Harness) {
		k := b.Keyring
		var mu sync.Mutex
		var last byok.EncryptionContext
		b.generate = func(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
			mu.Lock()
			last = ec
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			ec = last
			mu.Unlock()
			return k.GenerateDataKey(ctx, key, ec)
		}
	}},
	{"rewraps nothing", "RewrapUnwrap", rewraps(func(rewrapFunc) rewrapFunc {
		return func(_ context.Context, _, _ byok.KeyID, w []byte, _ byok.EncryptionContext) (byok.Wrapped, error) {
			return byok.Wrapped{Bytes: bytes.Clone(w)}, nil
		}
	})},
	{"rewraps under the old key", "RewrapUnwrap", rewraps(func(whole rewrapFunc) rewrapFunc {
		return func(ctx context.Context, from, _ byok.KeyID, w []byte, ec byok.EncryptionContext) (byok.Wrapped, error) {
			return whole(ctx, from, from, w, ec)
		}
	})},
	{"rewraps a data key of its own", "RewrapUnwrap", func(b *broken, _ *Harness) {
		b.rewrap = func(ctx context.Context, _, to byok.KeyID, _ []byte, ec byok.EncryptionContext) (byok.Wrapped, error) {
			_, w, err := b.Keyring.GenerateDataKey(ctx, to, ec)
			return w, err
		}
	}},
	{"takes the source from the ciphertext", "RewrapRefuses", func(b *broken, h *Harness) {
		whole := b.Keyring.(byok.Rewrapper).RewrapDataKey
		b.rewrap = func(ctx context.Context, from, to byok.KeyID, w []byte, ec byok.EncryptionContext) (byok.Wrapped, error) {
			out, err := whole(ctx, from, to, w, ec)
			if err != nil {
				out, err = whole(ctx, h.Other, to, w, ec)
			}
			return out, err
		}
	}},
	{"looks at one key only", "RewrapBadKeyID", rewraps(func(whole rewrapFunc) rewrapFunc {
		return func(ctx context.Context, from, to byok.KeyID, w []byte, ec byok.EncryptionContext) (byok.Wrapped, error) {
			out, err := whole(ctx, from, to, w, ec)
			if err != nil {
				out, err = whole(ctx, from, from, w, ec)
			}
			return out, err
		}
	})},
	{"rewraps twice", "RewrapOneCall", rewraps(func(whole rewrapFunc) rewrapFunc {
		return func(ctx context.Context, from, to byok.KeyID, w []byte, ec byok.EncryptionContext) (byok.Wrapped, error) {
			_, _ = whole(ctx, from, to, w, ec)
			return whole(ctx, from, to, w, ec)
		}
	})},
	{"calls a denied rewrapping an outage", "RewrapDenied", rewraps(func(whole rewrapFunc) rewrapFunc {
		return func(ctx context.Context, from, to byok.KeyID, w []byte, ec byok.EncryptionContext) (byok.Wrapped, error) {
			out, err := whole(ctx, from, to, w, ec)
			if err != nil {
				err = reclass(byok.ClassDenied, byok.ClassOutage)(err)
			}
			return out, err
		}
	})},
	{"rewraps for nobody", "RewrapDoneContext", rewraps(func(whole rewrapFunc) rewrapFunc {
		return func(ctx context.Context, from, to byok.KeyID, w []byte, ec byok.EncryptionContext) (byok.Wrapped, error) {
			return whole(context.WithoutCancel(ctx), from, to, w, ec)
		}
	})},
	{"says one request id for all", "RequestIDsDiffer", func(b *broken, _ *Harness) {
		k := b.Keyring
		b.unwrap = func(ctx context.Context, key byok.KeyID, w []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
			dek, r, err := k.UnwrapDataKey(ctx, key, w, ec)
			r.RequestID = "the-same"
			return dek, r, err
		}
	}},
}

// TestBroken is the test of the suite: each fault is seen, and by the case that
// is there for it.
func TestBroken(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			b := &broken{Keyring: h.Keyring}
			f.inject(b, &h)
			h.Keyring = b
			if names := failures(h, f.seenBy); !slices.Contains(names, f.seenBy) {
				t.Errorf("case %s did not fail; these did: %v", f.seenBy, names)
			}
		})
	}
	t.Logf("%d faults", len(faults))
}

// TestIntact keeps TestBroken honest: the wrapper alone breaks nothing.
func TestIntact(t *testing.T) {
	h := newHarness(t)
	h.Keyring = &broken{Keyring: h.Keyring}
	if names := failures(h, "Concurrent"); len(names) != 0 {
		t.Errorf("cases fail without a fault: %v", names)
	}
}

// TestEveryCaseSeesSomething: a case that no fault can make fail tests nothing.
// The few that only repeat another in a different way are listed.
func TestEveryCaseSeesSomething(t *testing.T) {
	seen := map[string]bool{
		"GenerateUnwrap": true, "WrapUnwrap": true, "WrapUnderAnotherKey": true, "EmptyContext": true, "ContextCharacters": true,
		"WrappedSize": true, "WipedDataKeySendsNothing": true, "DeniedIsOneKeys": true, "Describe": true, "DescribeBadKeyID": true,
	}
	for _, f := range faults {
		seen[f.seenBy] = true
	}
	for _, c := range cases {
		if !seen[c.name] {
			t.Errorf("no fault is seen by %s", c.name)
		}
	}
}

// TestRunFails runs the real Run against a broken Keyring in a process of its
// own: what the recorder sees must be what a driver's author sees.
func TestRunFails(t *testing.T) {
	if os.Getenv("KEYRINGTEST_BROKEN") != "" {
		h := newHarness(t)
		b := &broken{Keyring: h.Keyring}
		b.context(func(byok.EncryptionContext) byok.EncryptionContext { return nil })
		h.Keyring = b
		Run(t, h)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRunFails$", "-test.v")
	cmd.Env = append(os.Environ(), "KEYRINGTEST_BROKEN=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the run against a broken Keyring ended with %v:\n%s", err, out)
	}
	for _, want := range []string{"--- FAIL: TestRunFails/ContextExact/Generate", "--- PASS: TestRunFails/GenerateUnwrap"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the output has no %q:\n%s", want, out)
		}
	}
}
