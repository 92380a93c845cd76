package blobs

import (
	"context"
	"crypto/fips140"
	"errors"
	"io"
	"sync"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/sourcetest"
)

// place is a bucket as the suite sees it: the platform's own reads and writes beside Objects.
func place(bucket *blob.Bucket) sourcetest.Place {
	ctx := context.Background()
	key := func(k string) string { return "acme/" + k }
	var mu sync.Mutex // memblob has no conditions
	lock := func(string) func() {
		mu.Lock()
		return mu.Unlock
	}
	return sourcetest.Place{
		Objects: &Objects{Bucket: bucket, Prefix: "acme/", Purpose: "files", Lock: lock},
		Put: func(k string, value []byte, _ bool) error {
			defer lock(k)()
			return bucket.WriteAll(ctx, key(k), value, nil)
		},
		Get: func(k string) ([]byte, bool, error) {
			b, err := bucket.ReadAll(ctx, key(k))
			if err != nil {
				return nil, false, told(err)
			}
			return b, false, nil
		},
		Delete: func(k string) error {
			defer lock(k)()
			err := bucket.Delete(ctx, key(k))
			if gcerrors.Code(err) == gcerrors.NotFound {
				return nil
			}
			return err
		},
		Same:       func(k string) (string, []byte) { return "files", AAD(k) },
		SealedOnly: true,
	}
}

func TestContract(t *testing.T) {
	if refusedInFIPS(t) {
		return
	}
	sourcetest.Test(t, func(t *testing.T) sourcetest.Place {
		b := memblob.OpenBucket(nil)
		t.Cleanup(func() { _ = b.Close() })
		return place(b)
	})
}

// refusedInFIPS reports whether FIPS 140-only mode is on, in which gocloud.dev cannot write: Replace has to say so, and not to panic.
func refusedInFIPS(t *testing.T) bool {
	if !fips140.Enforced() {
		return false
	}
	b := memblob.OpenBucket(nil)
	defer b.Close()
	done, err := (&Objects{Bucket: b}).Replace(t.Context(), byok.Object{Key: "k"}, func(io.Writer) error {
		t.Error("something was written")
		return nil
	})
	if done || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v, %v", done, err)
	}
	return true
}

// forgetful is a store with three objects, that forgets places in its list.
type forgetful struct{ driver.Bucket }

var errForgotten = errors.New("no such place")

func (forgetful) ListPaged(_ context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	if len(opts.PageToken) > 0 {
		return nil, errForgotten
	}
	page := &driver.ListPage{NextPageToken: []byte("c")}
	for _, name := range []string{"a", "b", "c"} {
		page.Objects = append(page.Objects, &driver.ListObject{Key: name})
	}
	return page, nil
}

func (forgetful) Attributes(context.Context, string) (*driver.Attributes, error) {
	return &driver.Attributes{ETag: "1"}, nil
}
func (forgetful) ErrorCode(error) gcerrors.ErrorCode { return gcerrors.InvalidArgument }
func (forgetful) ErrorAs(error, any) bool            { return false }
func (forgetful) Close() error                       { return nil }

// A store may forget a place in a list after some time. The page that asked for it fails, and the next one looks from the beginning: else a
// re-sealing would ask for it for ever.
func TestForgottenPlace(t *testing.T) {
	bucket := blob.NewBucket(forgetful{})
	defer bucket.Close()
	objects := &Objects{Bucket: bucket}
	objects.remember("a", []byte("an old place"))
	if page, err := objects.Objects(t.Context(), "a", "", 2); !errors.Is(err, errForgotten) {
		t.Fatalf("%v, %v", page, err)
	}
	if page, err := objects.Objects(t.Context(), "a", "", 2); err != nil || len(page) != 2 || page[0].Key != "b" {
		t.Errorf("%v, %v", page, err)
	}
}

// A bucket is re-sealed, but for an object that is none of ours; and IfMatch is told the ETag that was listed.
func TestReseal(t *testing.T) {
	if refusedInFIPS(t) {
		return
	}
	env := byoktest.New(t, &byoktest.Options{Keeper: &byok.Options{MaxAge: byok.MinMaxAge}})
	acme, _ := env.Tenant("acme")
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	ctx, scope := t.Context(), byok.Scope{Tenant: "acme", Purpose: "files"}
	names := []string{"a", "b/c", "b.d", "e"}
	for _, name := range names {
		sealed, err := env.Keeper.Seal(ctx, scope, []byte("this is "+name), AAD(name))
		if err == nil {
			err = bucket.WriteAll(ctx, "acme/"+name, sealed, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := bucket.WriteAll(ctx, "acme/z", []byte("no envelope"), nil); err != nil {
		t.Fatal(err)
	}
	if err := bucket.WriteAll(ctx, "other/a", []byte("another tenant's"), nil); err != nil {
		t.Fatal(err)
	}
	etags := map[string]bool{}
	objects := &Objects{Bucket: bucket, Prefix: "acme/", Purpose: "files", IfMatch: func(etag string, _ func(any) bool) error {
		etags[etag] = true
		return nil
	}}
	job, err := acme.Reseal(ctx, byok.Resealing{Source: "bucket", Reason: byok.ReasonCompromise})
	if err != nil {
		t.Fatal(err)
	}
	r, err := acme.ObjectResealer(ctx, job.ID, objects, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(ctx); !errors.Is(err, byok.ErrRecordsFailed) {
		t.Errorf("Run: %v", err)
	}
	if job, err = acme.Job(ctx, job.ID); err != nil || job.Done != 4 || len(job.Failures) != 1 || job.Failures[0].Key != "z" {
		t.Errorf("%+v, %v", job, err)
	}
	fresh := env.NewKeeper()
	for _, name := range names {
		sealed, err := bucket.ReadAll(ctx, "acme/"+name)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := fresh.Open(ctx, scope, sealed, AAD(name))
		due, derr := fresh.Due(ctx, scope, sealed)
		if err != nil || string(plain) != "this is "+name || due || derr != nil {
			t.Errorf("%s: %q, %v; due %v, %v", name, plain, err, due, derr)
		}
	}
	if len(etags) < 4 || etags[""] {
		t.Errorf("%d ETags were told", len(etags))
	}
}
