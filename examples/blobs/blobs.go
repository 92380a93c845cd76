// Package blobs is an example of byok.Objects: the objects under a prefix of a bucket, of any store that gocloud.dev/blob knows, S3
// among them. Copy it and make it yours.
//
// # What it can promise
//
// An object must not be replaced if somebody else has written it since it was listed. That takes a condition on its ETag, which S3, GCS and
// Azure check, and for which gocloud.dev has no option of its own: IfMatch sets it, for the store that you use. For S3 with the AWS SDK:
//
//	objects.IfMatch = func(etag string, as func(any) bool) error {
//		var in *s3.PutObjectInput // what As hands out depends on the version of s3blob: see its documentation
//		if !as(&in) {
//			return errors.New("not S3")
//		}
//		in.IfMatch = aws.String(etag)
//		return nil
//	}
//
// Without IfMatch and without Lock, Objects looks at the object again right before the write is committed, and a write of somebody else's that comes in the
// moment between is lost. Then nobody else may write while a re-sealing is under way.
//
// gocloud.dev hashes what it writes with MD5, which FIPS 140-only mode refuses: Replace is errors.ErrUnsupported there. A platform that needs that mode
// writes its Objects on its store's own SDK.
//
// The tests use a bucket in memory. What S3 does with IfMatch they do not try.
package blobs

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/byok-go/byok"
)

// Objects are the objects under Prefix. It is safe for concurrent use.
type Objects struct {
	Bucket  *blob.Bucket
	Prefix  string // "acme/": one tenant's
	Purpose string // as byok.Scope.Purpose

	// IfMatch makes the store refuse a write if the object has another ETag by then. See the package's comment.
	IfMatch func(etag string, as func(any) bool) error

	// Lock is for a store that has no such condition, in its place: the platform's writers hold it too while they write an object.
	Lock func(name string) (unlock func())

	mu     sync.Mutex
	tokens map[string][]byte // of the pages that begin behind an object
}

var _ byok.Objects = (*Objects)(nil)

// AAD is what an object is sealed with: its name without the prefix.
func AAD(name string) []byte { return []byte("object/" + name) }

// Objects implements byok.Objects, in the order of names that all stores list in. It takes a request for each object beside the list, for
// its ETag. A page that follows one that was listed before begins where that ended; else it looks for its place from the beginning.
func (o *Objects) Objects(ctx context.Context, after, last string, limit int) (out []byok.Object, err error) {
	if err := ctx.Err(); err != nil { // not every store looks
		return nil, err
	}
	token := o.token(after)
	for len(out) < limit && token != nil {
		var page []*blob.ListObject
		page, token, err = o.Bucket.ListPage(ctx, token, limit, &blob.ListOptions{Prefix: o.Prefix})
		if err != nil {
			o.remember(after, nil) // the store may have forgotten the place, and would say so for ever
			return nil, told(err)
		}
		for i, item := range page {
			name := strings.TrimPrefix(item.Key, o.Prefix)
			if item.IsDir || name <= after {
				continue
			}
			if last != "" && name > last || len(out) == limit {
				return out, nil
			}
			at, err := o.Bucket.Attributes(ctx, item.Key)
			if gcerrors.Code(err) == gcerrors.NotFound {
				continue // it went while it was listed
			}
			if err != nil {
				return nil, told(err)
			}
			out = append(out, byok.Object{Key: name, Purpose: o.Purpose, AAD: AAD(name), Version: at.ETag})
			if i == len(page)-1 {
				o.remember(name, token)
			}
		}
	}
	return out, nil
}

// maxTokens bounds what is remembered: one place for each shard would do.
const maxTokens = 1024

func (o *Objects) token(after string) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.tokens[after]; t != nil {
		return t
	}
	return blob.FirstPageToken
}

func (o *Objects) remember(after string, token []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tokens == nil || len(o.tokens) >= maxTokens {
		o.tokens = map[string][]byte{}
	}
	if token == nil {
		delete(o.tokens, after)
	} else {
		o.tokens[after] = token
	}
}

// Open implements byok.Objects.
func (o *Objects) Open(ctx context.Context, obj byok.Object) (io.ReadCloser, error) {
	r, err := o.Bucket.NewReader(ctx, o.Prefix+obj.Key, nil)
	if err != nil {
		return nil, told(err)
	}
	return r, nil
}

var errFIPS = fmt.Errorf("%w: gocloud.dev hashes what it writes with MD5, which FIPS 140-only mode refuses", errors.ErrUnsupported)

// Replace implements byok.Objects. Stores make an object visible when all of it is there; a write that is given up leaves nothing.
func (o *Objects) Replace(ctx context.Context, obj byok.Object, write func(w io.Writer) error) (done bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if fips140.Enforced() {
		return false, errFIPS
	}
	if o.Lock != nil {
		defer o.Lock(obj.Key)()
	}
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	key := o.Prefix + obj.Key
	was, err := o.Bucket.Attributes(ctx, key)
	if gcerrors.Code(err) == gcerrors.NotFound || err == nil && was.ETag != obj.Version {
		return false, nil
	}
	if err != nil {
		return false, told(err)
	}
	w, err := o.Bucket.NewWriter(ctx, key, &blob.WriterOptions{ContentType: was.ContentType, Metadata: was.Metadata, BeforeWrite: func(as func(any) bool) error {
		if o.IfMatch == nil {
			return nil
		}
		return o.IfMatch(obj.Version, as)
	}})
	if err != nil {
		return false, told(err)
	}
	if err := write(w); err != nil {
		giveUp() // before Close, which would make what there is the object
		_ = w.Close()
		return false, err
	}
	now, err := o.Bucket.Attributes(ctx, key)
	if err != nil || now.ETag != obj.Version {
		giveUp()
		_ = w.Close()
		if err == nil || gcerrors.Code(err) == gcerrors.NotFound {
			return false, nil
		}
		return false, told(err)
	}
	switch err := w.Close(); gcerrors.Code(err) {
	case gcerrors.OK:
		return true, nil
	case gcerrors.FailedPrecondition, gcerrors.NotFound: // what IfMatch asked for
		return false, nil
	default:
		return false, told(err)
	}
}

// told makes an error that says that an object is gone as byok.Objects wants it.
func told(err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound {
		return fmt.Errorf("%w: %w", byok.ErrNotFound, err)
	}
	return err
}
