package byokriver_test

import (
	"context"
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byokriver"
)

// Each process of the platform has a client. The limit is that of one process.
func ExampleAddWorker() {
	var (
		ctx    context.Context
		keeper *byok.Keeper
		pool   *pgxpool.Pool
		source func(tenant string) (byok.Source, error) // package sqltable has one
	)
	workers := river.NewWorkers()
	byokriver.AddWorker(workers,
		func(ctx context.Context, f func(tx pgx.Tx) error) error { return pgx.BeginFunc(ctx, pool, f) },
		func(ctx context.Context, tenant, job string) (*byok.Resealer, error) {
			src, err := source(tenant)
			if err != nil {
				return nil, err
			}
			return keeper.Tenant(tenant).Resealer(ctx, job, src, &byok.ResealOptions{PerSecond: 500})
		})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 10}},
		Workers:              workers,
		RescueStuckJobsAfter: 3 * time.Minute,
		SoftStopTimeout:      10 * time.Second,
	})
	if err != nil {
		panic(err)
	}
	if err := client.Start(ctx); err != nil {
		panic(err)
	}
}

// Whoever begins a job inserts its shards, in a transaction of its own if it likes.
func ExampleInsert() {
	var (
		ctx    context.Context
		keeper *byok.Keeper
		client *river.Client[*sql.Tx]
		source interface {
			byok.Source
			byok.Splitter
			byok.Counter
		}
	)
	shards, err := source.Split(ctx, 16)
	if err != nil {
		panic(err)
	}
	total, err := source.Count(ctx)
	if err != nil {
		panic(err)
	}
	job, err := keeper.Tenant("acme").Reseal(ctx, byok.Resealing{Source: "table invoices", Shards: shards, Total: total, Reason: byok.ReasonCompromise})
	if err != nil {
		panic(err)
	}
	if _, err := byokriver.Insert(ctx, client, "acme", job.ID, len(shards)+1); err != nil {
		panic(err)
	}
}
