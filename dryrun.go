package byok

import (
	"cmp"
	"context"
	"fmt"
)

// Census is [Resealer.Census] of a re-sealing that has not begun: what would be due, and what it would cost. It begins nothing, in the
// Store or elsewhere. After ReasonCompromise, everything is due. The error is ErrArgument, what the Source returned, ErrNotRegistered, ErrStore or ErrClosed.
func (t *Tenant) Census(ctx context.Context, r Resealing, src Source, opts *ResealOptions) (Census, error) {
	if src == nil {
		return Census{}, fmt.Errorf("%w: a Source is required", ErrArgument)
	}
	return t.census(ctx, r, rows{src}, opts)
}

// ObjectCensus is Census for Objects.
func (t *Tenant) ObjectCensus(ctx context.Context, r Resealing, objs Objects, opts *ResealOptions) (Census, error) {
	if objs == nil {
		return Census{}, fmt.Errorf("%w: Objects are required", ErrArgument)
	}
	return t.census(ctx, r, streams{objs}, opts)
}

func (t *Tenant) census(ctx context.Context, r Resealing, src recordSource, opts *ResealOptions) (Census, error) {
	if err := r.check(); err != nil {
		return Census{}, err
	}
	worker, err := t.newResealer("", src, opts)
	if err != nil {
		return Census{}, err
	}
	ctx, c, leave, err := t.open(ctx)
	if err != nil {
		return Census{}, err
	}
	defer leave()
	s, err := c.readState(ctx)
	switch {
	case err != nil:
		return Census{}, err
	case s.Generation == 0:
		return Census{}, ErrNotRegistered
	case r.Generation > s.Generation:
		return Census{}, fmt.Errorf("%w: the tenant's generation is %d", ErrArgument, s.Generation)
	}
	generation := cmp.Or(r.Generation, s.Generation)
	if r.Reason == ReasonCompromise {
		generation++ // the one that would begin
	}
	return worker.censusUnder(ctx, c, &jobItem{Type: JobReseal, Reseal: &resealItem{Generation: generation, Adopt: r.Adopt, Shards: 1}})
}
