package peers

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/byok-go/byok/bench/kms"
	"github.com/godaddy/asherah/go/appencryption"
	"github.com/godaddy/asherah/go/appencryption/pkg/crypto/aead"
	"github.com/godaddy/asherah/go/appencryption/pkg/persistence"
	plugin "github.com/godaddy/asherah/go/appencryption/plugins/aws-v2/kms"
)

// asherah has a key of its own for each tenant ("partition"), under a system key that the KMS
// wraps, and asks the KMS again after an hour. Sessions are cached, as its documents advise for
// servers; the metastore is its own, in memory.
type asherah struct{ f *appencryption.SessionFactory }

func startAsherah(_ context.Context, w *World) (Library, error) {
	crypto := aead.NewAES256GCM()
	keys, err := plugin.NewBuilder(crypto, map[string]string{"us-east-1": kms.Key}).
		WithPreferredRegion("us-east-1").
		WithAWSConfig(aws.Config{Region: "us-east-1"}).
		WithKMSFactory(func(aws.Config, ...func(*awskms.Options)) plugin.AWSClient { return w.KMS }).
		Build()
	if err != nil {
		return nil, err
	}
	meta, ok := w.disk.(*persistence.MemoryMetastore)
	if !ok {
		meta = persistence.NewMemoryMetastore()
		w.disk = meta
	}
	policy := appencryption.NewCryptoPolicy(appencryption.WithSessionCache(), appencryption.WithSessionCacheMaxSize(2*len(w.Tenants)+1000))
	return &asherah{appencryption.NewSessionFactory(&appencryption.Config{Service: "bench", Product: "example", Policy: policy}, meta, keys, crypto)}, nil
}

func (a *asherah) Seal(ctx context.Context, tenant string, plain, _ []byte) ([]byte, error) {
	s, err := a.f.GetSession(tenant)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	row, err := s.Encrypt(ctx, plain)
	if err != nil {
		return nil, err
	}
	return json.Marshal(row) // which its documents store
}

func (a *asherah) Open(ctx context.Context, tenant string, sealed, _ []byte) ([]byte, error) {
	s, err := a.f.GetSession(tenant)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var row appencryption.DataRowRecord
	if err := json.Unmarshal(sealed, &row); err != nil {
		return nil, err
	}
	return s.Decrypt(ctx, row)
}

func (a *asherah) Close() error { return a.f.Close() }
