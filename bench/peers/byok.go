package peers

import (
	"context"
	"io"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/bench/kms"
)

const service = "bench.example.com"

// noAudit is an AuditSink that costs nothing: what a durable one costs is its own matter.
type noAudit struct{}

func (noAudit) Record(context.Context, byok.Event) error { return nil }

// keeper has byok's defaults, but for the fake's lack of key policies, which it would refuse.
type keeper struct{ *byok.Keeper }

func startBYOK(ctx context.Context, w *World) (Library, error) {
	keys, err := awskms.NewFromClient(w.KMS, &awskms.Options{Region: "us-east-1"})
	if err != nil {
		return nil, err
	}
	store, restarted := w.disk.(*byok.MemStore)
	if !restarted {
		store = new(byok.MemStore)
		w.disk = store
	}
	k, err := byok.New(service, keys, store, noAudit{}, &byok.Options{AllowUnboundPolicy: true})
	if err != nil || restarted {
		return &keeper{k}, err
	}
	for _, tenant := range w.Tenants {
		t := k.Tenant(tenant)
		if _, err := t.Register(ctx, byok.Registration{Key: awskms.Key(kms.KeyOf(tenant))}); err != nil {
			return nil, err
		}
		if _, err := t.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}); err != nil {
			return nil, err
		}
	}
	return &keeper{k}, nil
}

func (k *keeper) Seal(ctx context.Context, tenant string, plain, aad []byte) ([]byte, error) {
	return k.Keeper.Seal(ctx, byok.Scope{Tenant: tenant}, plain, aad)
}

func (k *keeper) Open(ctx context.Context, tenant string, sealed, aad []byte) ([]byte, error) {
	return k.Keeper.Open(ctx, byok.Scope{Tenant: tenant}, sealed, aad)
}

func (k *keeper) AppendSeal(ctx context.Context, dst []byte, tenant string, plain, aad []byte) ([]byte, error) {
	return k.Keeper.AppendSeal(ctx, dst, byok.Scope{Tenant: tenant}, plain, aad)
}

func (k *keeper) AppendOpen(ctx context.Context, dst []byte, tenant string, sealed, aad []byte) ([]byte, error) {
	return k.Keeper.AppendOpen(ctx, dst, byok.Scope{Tenant: tenant}, sealed, aad)
}

func (k *keeper) SealStream(ctx context.Context, dst io.Writer, src io.Reader, tenant string, aad []byte) error {
	w, err := k.SealWriter(ctx, dst, byok.Scope{Tenant: tenant}, aad)
	return sealTo(w, src, err)
}

func (k *keeper) OpenStream(ctx context.Context, dst io.Writer, src io.Reader, tenant string, aad []byte) error {
	r, err := k.OpenReader(ctx, src, byok.Scope{Tenant: tenant}, aad)
	if err != nil {
		return err
	}
	defer r.Close()
	return openFrom(dst, r, nil)
}

func (k *keeper) OpenReaderAt(ctx context.Context, src io.ReaderAt, size int64, tenant string, aad []byte) (io.ReaderAt, error) {
	return k.Keeper.OpenReaderAt(ctx, src, size, byok.Scope{Tenant: tenant}, aad)
}

// direct asks KMS each time, as Options.PerOperation does, and has no Store.
type direct struct{ of map[string]*byok.Direct }

func startDirect(_ context.Context, w *World) (Library, error) {
	keys, err := awskms.NewFromClient(w.KMS, &awskms.Options{Region: "us-east-1"})
	if err != nil {
		return nil, err
	}
	d := &direct{map[string]*byok.Direct{}}
	for _, tenant := range w.Tenants {
		if d.of[tenant], err = byok.NewDirect(service, keys, awskms.Key(kms.KeyOf(tenant)), noAudit{}); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *direct) Seal(ctx context.Context, tenant string, plain, aad []byte) ([]byte, error) {
	return d.of[tenant].Seal(ctx, byok.Scope{Tenant: tenant}, plain, aad)
}

func (d *direct) Open(ctx context.Context, tenant string, sealed, aad []byte) ([]byte, error) {
	return d.of[tenant].Open(ctx, byok.Scope{Tenant: tenant}, sealed, aad)
}

func (d *direct) Close() error { return nil }
