package byok

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// The jobs that are under way stand in an index, for processes to look through. It has a fixed number of items, each of
// which many tenants share, and only what is not ended stands in it: so a look costs one List of as many small items, however many
// tenants have ever had a job, or an item each that is never deleted.
//
// It is a list and no more: the tenant's state says which job is under way, and a stop writes nothing here.
const (
	jobIndexItems = 256
	maxJobsListed = 200 // in one item; with the longest names, all of them quotes, they fit MaxItemValue
)

// jobIndex is one item of the index.
type jobIndex struct {
	V    int               `json:"v"`
	Jobs map[string]string `json:"jobs,omitempty"` // tenant -> job
}

// refJobIndex names the item that a tenant's job is listed in. The hash spreads tenants evenly.
func refJobIndex(tenant string) Ref {
	sum := sha256.Sum256([]byte(tenant))
	return Ref{partOpenJobs, fmt.Sprintf("%03d", int(sum[0])%jobIndexItems)}
}

func (k *Keeper) readJobIndex(ctx context.Context, r Ref) (*jobIndex, uint64, error) {
	x := &jobIndex{V: layoutVersion}
	rev, err := k.getJSON(ctx, r, x)
	if err == ErrNotFound {
		err = nil
	}
	if x.Jobs == nil {
		x.Jobs = map[string]string{}
	}
	return x, rev, err
}

// listJob returns the write that lists a job. It goes with the write that begins the job, so that
// whatever is under way is listed.
func (t *tenantCache) listJob(ctx context.Context, id string) (Item, error) {
	ref := refJobIndex(t.tenant)
	x, rev, err := t.k.readJobIndex(ctx, ref)
	if err != nil {
		return Item{}, err
	}
	if x.Jobs[t.tenant] = id; len(x.Jobs) > maxJobsListed {
		return Item{}, fmt.Errorf("%w: too many jobs are under way", ErrStore)
	}
	return encodeItem(ref, rev, x), nil
}

// relist lists the job of s, if it is not: the Store was restored from a backup, or is of a version that had another list.
func (t *tenantCache) relist(ctx context.Context, s *state) error {
	x, _, err := t.k.readJobIndex(ctx, refJobIndex(t.tenant))
	if err != nil || x.Jobs[t.tenant] == s.Job.ID {
		return err
	}
	i, err := t.listJob(ctx, s.Job.ID)
	if err == nil {
		err = t.k.store.Apply(ctx, i)
	}
	t.k.jobs.nudge()
	return err
}

// unlistJob takes a job off the list. If it cannot, the next look finds a job that has ended, and tries again.
func (t *tenantCache) unlistJob(ctx context.Context, id string) error {
	ref := refJobIndex(t.tenant)
	for try := range logTries {
		if try > 0 {
			pause(ctx, try)
		}
		x, rev, err := t.k.readJobIndex(ctx, ref)
		if err != nil || x.Jobs[t.tenant] != id { // a newer job is listed
			return err
		}
		delete(x.Jobs, t.tenant)
		if err = t.k.store.Apply(ctx, encodeItem(ref, rev, x)); err == nil {
			return nil
		}
		if !errors.Is(err, ErrConflict) { // else other tenants' jobs came or went meanwhile
			return storeError(err)
		}
	}
	return nil
}

// openJobs returns what is listed, in the order of the list.
func (k *Keeper) openJobs(ctx context.Context) ([]openJob, error) {
	items, err := k.store.List(ctx, partOpenJobs, "", MaxListLimit)
	if err != nil {
		return nil, storeError(err)
	}
	var out []openJob
	for _, i := range items {
		var x jobIndex
		if derr := decodeItem(i.Value, &x); derr != nil { // those in the others are found all the same
			err = derr
			continue
		}
		for _, tenant := range slices.Sorted(maps.Keys(x.Jobs)) {
			out = append(out, openJob{tenant, x.Jobs[tenant]})
		}
	}
	return out, err
}
