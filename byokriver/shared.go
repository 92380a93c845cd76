package byokriver

import (
	"context"
	"sync"
)

// shared has the Resealer of each job that this process is at, which its shards share: so do they its limits.
type shared struct {
	open func(ctx context.Context, tenant, job string) (resealer, error)

	mu    sync.Mutex
	known map[jobKey]*sharedJob
}

type jobKey struct{ tenant, job string }

type sharedJob struct {
	users int // shards that are at it; the last one that leaves forgets it

	mu sync.Mutex // while it is being made
	r  resealer
}

// get returns the Resealer of a job, until release is called.
func (s *shared) get(ctx context.Context, key jobKey) (r resealer, release func(), err error) {
	s.mu.Lock()
	j := s.known[key]
	if j == nil {
		j = new(sharedJob)
		s.known[key] = j
	}
	j.users++
	s.mu.Unlock()
	release = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if j.users--; j.users == 0 {
			delete(s.known, key)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.r == nil {
		if j.r, err = s.open(ctx, key.tenant, key.job); err != nil {
			j.r = nil
			release()
			return nil, nil, err
		}
	}
	return j.r, release, nil
}
