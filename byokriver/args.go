package byokriver

import (
	"context"
	"fmt"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/byok-go/byok"
)

// Args name one shard of one job. It may be inserted by hand, into a queue of its own for instance; [Insert] does it for all
// shards of a job, into the client's default queue.
type Args struct {
	Tenant string `json:"tenant"`
	Job    string `json:"job"` // byok.Job.ID
	Shard  int    `json:"shard"`
}

// Kind implements river.JobArgs.
func (Args) Kind() string { return "byok_reseal" }

// InsertOpts implements river.JobArgsWithInsertOpts. A shard is in River once: while its job waits or runs, and as long as
// River remembers that it is completed, another one is skipped.
//
// Of attempts, only kills and what never works use any up (see [AddWorker]); there are many, since a migration that takes
// weeks sees many restarts.
func (Args) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 1000, UniqueOpts: river.UniqueOpts{ByArgs: true}}
}

// maxShards is the most that byok.Resealing.Shards makes.
const maxShards = byok.MaxShards

// Insert has River do all shards of a job that byok.Tenant.Reseal has begun. Inserting them again changes nothing, and the results
// say so: a platform that does not know whether it has done it does it again.
//
// The error is byok.ErrArgument if the shards are not 1 to 256, or River's.
func Insert[TTx any](ctx context.Context, client *river.Client[TTx], tenant, job string, shards int) ([]*rivertype.JobInsertResult, error) {
	all, err := params(tenant, job, shards)
	if err != nil {
		return nil, err
	}
	return client.InsertMany(ctx, all)
}

// InsertTx is Insert as a part of tx: River's jobs are there if tx is committed. The byok job has to be there before.
func InsertTx[TTx any](ctx context.Context, client *river.Client[TTx], tx TTx, tenant, job string, shards int) ([]*rivertype.JobInsertResult, error) {
	all, err := params(tenant, job, shards)
	if err != nil {
		return nil, err
	}
	return client.InsertManyTx(ctx, tx, all)
}

func params(tenant, job string, shards int) ([]river.InsertManyParams, error) {
	if tenant == "" || job == "" || shards < 1 || shards > maxShards {
		return nil, fmt.Errorf("%w: a tenant, a job, and 1 to %d shards", byok.ErrArgument, maxShards)
	}
	all := make([]river.InsertManyParams, shards)
	for i := range all {
		all[i] = river.InsertManyParams{Args: Args{Tenant: tenant, Job: job, Shard: i}}
	}
	return all, nil
}
