package byokhttp

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"github.com/byok-go/byok"
)

// Limit allows N requests, and N more for each Per that passes, evenly: a bucket
// that holds N.
type Limit struct {
	N   int           // 1 to 1 000 000
	Per time.Duration // 1 s to 24 h
}

// String is the limit in words, such as "5 an hour".
func (l Limit) String() string {
	switch l.Per {
	case time.Second:
		return fmt.Sprintf("%d a second", l.N)
	case time.Minute:
		return fmt.Sprintf("%d a minute", l.N)
	case time.Hour:
		return fmt.Sprintf("%d an hour", l.N)
	}
	return fmt.Sprintf("%d in %s", l.N, inWords(seconds(l.Per)))
}

// inWords is a time for people, to the second: what Retry-After says.
func inWords(s int64) string {
	var parts []string
	for _, u := range []struct {
		name string
		n    int64
	}{{"hour", s / 3600}, {"minute", s / 60 % 60}, {"second", s % 60}} {
		switch {
		case u.n == 1:
			parts = append(parts, "1 "+u.name)
		case u.n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", u.n, u.name))
		}
	}
	return strings.Join(parts, " ")
}

// Limits are the rate limits, each per Identity.Tenant and Token, but for FailedAuth.
// They are kept in this process's memory. Each zero Limit is its default.
type Limits struct {
	RegisterKey Limit // POST /keys; 5 an hour
	GetKey      Limit // GET /keys; 100 a minute
	DeleteKey   Limit // DELETE /keys, counted when it removed a key; 1 an hour
	Rotate      Limit // POST /keys/rotate, and each DELETE of a job; 10 an hour
	Move        Limit // POST /keys/move; 5 an hour
	GetJob      Limit // GET /keys/rotate/{id} and /keys/move/{id}, each; 60 a minute
	DataKeys    Limit // GET /keys/data-keys, which reads as many items as the tenant has data keys; 10 a minute
	Health      Limit // GET /health; 60 a minute
	Audit       Limit // GET /audit; 60 a minute
	Waiver      Limit // each of the three under /legal-waiver; 60 a minute
	FailedAuth  Limit // failed authentications per peer address; 60 a minute
}

func (l Limits) withDefaults() (Limits, error) {
	for _, f := range []struct {
		name string
		at   *Limit
		def  Limit
	}{
		{"RegisterKey", &l.RegisterKey, Limit{5, time.Hour}},
		{"GetKey", &l.GetKey, Limit{100, time.Minute}},
		{"DeleteKey", &l.DeleteKey, Limit{1, time.Hour}},
		{"Rotate", &l.Rotate, Limit{10, time.Hour}},
		{"Move", &l.Move, Limit{5, time.Hour}},
		{"GetJob", &l.GetJob, Limit{60, time.Minute}},
		{"DataKeys", &l.DataKeys, Limit{10, time.Minute}},
		{"Health", &l.Health, Limit{60, time.Minute}},
		{"Audit", &l.Audit, Limit{60, time.Minute}},
		{"Waiver", &l.Waiver, Limit{60, time.Minute}},
		{"FailedAuth", &l.FailedAuth, Limit{60, time.Minute}},
	} {
		if *f.at == (Limit{}) {
			*f.at = f.def
		}
		if f.at.N < 1 || f.at.N > 1_000_000 || f.at.Per < time.Second || f.at.Per > 24*time.Hour {
			return l, fmt.Errorf("%w: byokhttp: Limits.%s must be 1 to 1 000 000 per 1 s to 24 h", byok.ErrArgument, f.name)
		}
	}
	return l, nil
}

// bucketKey tells buckets apart. It is a struct: parts of a joined string could
// run into each other.
type bucketKey struct{ route, tenant, token string }

// maxBuckets bounds memory: about 20 MiB.
const maxBuckets = 1 << 16

// rates is a bounded set of token buckets.
//
// Only a bucket that is full again may be forgotten, for a forgotten bucket comes
// back full: who floods the set with new keys cannot win back a budget that was
// spent. If no bucket is found that is full and there is no room, newcomers share one bucket
// for each route.
type rates struct {
	limits Limits
	max    int

	mu      sync.Mutex
	buckets *simplelru.LRU[bucketKey, *rate.Limiter]
}

func newRates(l Limits) *rates {
	r := &rates{limits: l, max: maxBuckets}
	r.buckets, _ = simplelru.NewLRU[bucketKey, *rate.Limiter](math.MaxInt, nil) // fails without a size. Which one has to go is ours to say
	return r
}

// take counts one request, or returns a 429.
func (r *rates) take(k bucketKey, l Limit) error {
	now := time.Now()
	b := r.bucket(now, k, l)
	if b.AllowN(now, 1) {
		return nil
	}
	return limited(b, now, k.route, l)
}

// check returns the 429 that take would, and counts nothing.
func (r *rates) check(k bucketKey, l Limit) error {
	now := time.Now()
	b := r.bucket(now, k, l)
	if b.TokensAt(now) >= 1-1e-9 { // a bucket that should be full to the nanosecond is
		return nil
	}
	return limited(b, now, k.route, l)
}

// routeAuth is the bucketKey.route of failed authentications.
const routeAuth = "auth"

// limited says which limit it was, and when there will be a token again.
func limited(b *rate.Limiter, now time.Time, route string, l Limit) error {
	p := answers[codeRateLimited]
	p.Code = codeRateLimited
	missing := 1 - b.TokensAt(now)
	p.retryAfter = time.Duration(missing / float64(b.Limit()) * float64(time.Second))
	what := "The rate limit of " + route
	if route == routeAuth {
		what = "The limit of failed authentications from one address"
	}
	p.Detail = fmt.Sprintf("%s is reached, which is %s. Try again in %s.", what, l, inWords(seconds(p.retryAfter)))
	return &p
}

func (r *rates) bucket(now time.Time, k bucketKey, l Limit) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, ok := r.buckets.Get(k); ok {
		return b
	}
	if r.buckets.Len() >= r.max && !r.room(now) {
		k = bucketKey{route: k.route} // few routes, so this overshoots max by a few
		if b, ok := r.buckets.Get(k); ok {
			return b
		}
	}
	b := rate.NewLimiter(rate.Every(l.Per/time.Duration(l.N)), l.N)
	r.buckets.Add(k, b)
	return b
}

// lookBack is how many buckets a newcomer looks at, to find one that is full: a flood must not turn into work for everybody.
const lookBack = 16

// room forgets a bucket that is full, if there is one among those that have not been looked at for longest. The others go to the
// other end: they take their time to be full.
func (r *rates) room(now time.Time) bool {
	for range lookBack {
		k, b, _ := r.buckets.GetOldest()
		if b.TokensAt(now) >= float64(b.Burst()) {
			return r.buckets.Remove(k)
		}
		r.buckets.Get(k)
	}
	return false
}
