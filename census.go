package byok

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/byok-go/byok/internal/cost"
)

// Census counts records by what seals them: what a re-sealing has to do, and what it will cost. It goes by what envelopes say of
// themselves.
type Census struct {
	Records   int64
	Due       int64           // would be re-sealed; with those in clear, if the job adopts
	Clear     int64           // are in clear, as the Source says
	Carried   int64           // carry their data key, which the Store does not know
	Malformed int64           // are no envelopes of this tenant, nor in clear
	DataKeys  []DataKeyCensus // that are in the Store, or should be; oldest generations first

	// What Due takes at the rate of the Resealer, with one process. KMSRequests is the most that it makes; what they cost is AWS's price of
	// 2025 for most Regions, 0.03 USD for 10 000, see https://aws.amazon.com/kms/pricing/.
	Time        time.Duration
	KMSRequests int64
	Dollars     float64
}

// DataKeyCensus counts the records of one data key.
type DataKeyCensus struct {
	DataKey    DataKeyID
	Generation uint64 // 0: the Store does not know it, or not for this purpose: its records will fail
	Records    int64
}

// censusRecord is one record.
type censusRecord struct {
	due, clear, carried, malformed bool
	key                            DataKeyID
	generation                     uint64
}

func (r *Resealer) censusOf(ctx context.Context, t *tenantCache, j *jobItem, purpose string, h Header, herr error) (censusRecord, error) {
	rec := censusRecord{key: h.DataKey, malformed: herr != nil || h.Tenant != t.tenant}
	var err error
	rec.due, rec.generation, err = r.due(ctx, t, j, purpose, h, herr)
	rec.carried = len(h.Recipients) > 0 && rec.generation == 0
	return rec, err
}

// Census looks at all records, and changes nothing: a dry run, and what is left afterwards. KMS is asked nothing. It takes as long as reading
// them does, and remembers each data key once. Of Objects it reads the first bytes. The error is what the Source returned, ErrStore, ErrJobNotFound or ErrClosed.
func (r *Resealer) Census(ctx context.Context) (Census, error) {
	ctx, t, leave, err := r.t.open(ctx)
	if err != nil {
		return Census{}, err
	}
	defer leave()
	j, err := t.readReseal(ctx, r.id)
	if err != nil {
		return Census{}, err
	}
	return r.censusUnder(ctx, t, j)
}

func (r *Resealer) censusUnder(ctx context.Context, t *tenantCache, j *jobItem) (out Census, err error) {
	keys := map[DataKeyID]*DataKeyCensus{}
	count := func(rec censusRecord) {
		out.Records++
		switch {
		case rec.clear:
			out.Clear++
			rec.due = j.Reseal.Adopt
		case rec.malformed:
			out.Malformed++
			rec.due = false // it cannot be
		case rec.carried:
			out.Carried++
		default:
			k := keys[rec.key]
			if k == nil {
				k = &DataKeyCensus{DataKey: rec.key, Generation: rec.generation}
				keys[rec.key] = k
			}
			k.Records++
		}
		if rec.due {
			out.Due++
		}
	}
	for after, more := "", true; more; {
		if after, more, err = r.src.census(ctx, r, t, j, after, "", count); err != nil {
			return Census{}, err
		}
	}
	for _, k := range keys {
		out.DataKeys = append(out.DataKeys, *k)
	}
	slices.SortFunc(out.DataKeys, func(a, b DataKeyCensus) int {
		return cmp.Or(cmp.Compare(a.Generation, b.Generation), strings.Compare(a.DataKey.String(), b.DataKey.String()))
	})
	s, err := t.readState(ctx)
	if err != nil {
		return Census{}, err
	}
	out.estimate(r, t.k, j, len(s.keys()))
	return out, nil
}

// estimate says what is due takes. Each data key is asked for once in each MaxAge at most, as long as the job goes on, and under each of the tenant's CMKs.
func (c *Census) estimate(r *Resealer, k *Keeper, j *jobItem, cmks int) {
	c.Time = time.Duration(float64(c.Due) / float64(r.opts.PerSecond) * float64(time.Second))
	leases := 1 + int64(c.Time/k.maxAge)
	for _, d := range c.DataKeys {
		if d.Generation < j.Reseal.Generation {
			c.KMSRequests += min(d.Records, leases)
		}
	}
	if k.perOperation {
		c.KMSRequests = 2 * c.Due
	} else if c.Due > 0 {
		c.KMSRequests += c.Carried + leases + 1 // and those that seal
	}
	c.KMSRequests *= int64(cmks)
	c.Dollars = cost.Dollars(float64(c.KMSRequests))
}
