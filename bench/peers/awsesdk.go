package peers

import (
	"context"
	"encoding/base64"

	keystore "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographykeystoresmithygenerated"
	keystoretypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographykeystoresmithygeneratedtypes"
	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpltypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	client "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	clienttypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
	"github.com/byok-go/byok/bench/kms"
)

// esdk is the AWS Encryption SDK. Messages are committed to their key, as with its default,
// but not signed: no other peer signs.
type esdk struct {
	client  *client.Client
	keyring mpltypes.IKeyring
}

var esdkSuite = mpltypes.ESDKAlgorithmSuiteIdAlgAes256GcmHkdfSha512CommitKey

// startESDK takes the keyring that asks KMS for every message.
func startESDK(ctx context.Context, w *World) (Library, error) {
	materials, err := mpl.NewClient(mpltypes.MaterialProvidersConfig{})
	if err != nil {
		return nil, err
	}
	keyring, err := materials.CreateAwsKmsKeyring(ctx, mpltypes.CreateAwsKmsKeyringInput{KmsClient: w.KMS.Client(), KmsKeyId: kms.Key})
	return newESDK(keyring, err)
}

// branch is what the hierarchical keyring has stored: a key store, and its one branch key.
type branch struct {
	table *kms.Table
	id    string
}

// startESDKHierarchical takes the keyring that derives from a branch key, which KMS unwraps,
// and which is cached for ten minutes here. For DynamoDB there is a fake.
func startESDKHierarchical(ctx context.Context, w *World) (Library, error) {
	b, restarted := w.disk.(*branch)
	if !restarted {
		b = &branch{table: kms.NewTable()}
		w.disk = b
	}
	store, err := keystore.NewClient(keystoretypes.KeyStoreConfig{
		DdbTableName: "keys", LogicalKeyStoreName: "keys",
		KmsConfiguration: &keystoretypes.KMSConfigurationMemberkmsKeyArn{Value: kms.Key},
		DdbClient:        b.table.Client(), KmsClient: w.KMS.Client(),
	})
	if err != nil {
		return nil, err
	}
	if !restarted {
		out, err := store.CreateKey(ctx, keystoretypes.CreateKeyInput{})
		if err != nil {
			return nil, err
		}
		b.id = out.BranchKeyIdentifier
	}
	materials, err := mpl.NewClient(mpltypes.MaterialProvidersConfig{})
	if err != nil {
		return nil, err
	}
	keyring, err := materials.CreateAwsKmsHierarchicalKeyring(ctx, mpltypes.CreateAwsKmsHierarchicalKeyringInput{KeyStore: store, TtlSeconds: 600, BranchKeyId: &b.id})
	return newESDK(keyring, err)
}

func newESDK(keyring mpltypes.IKeyring, err error) (Library, error) {
	if err != nil {
		return nil, err
	}
	c, err := client.NewClient(clienttypes.AwsEncryptionSdkConfig{})
	return &esdk{c, keyring}, err
}

func esdkContext(tenant string, aad []byte) map[string]string {
	return map[string]string{"tenant": tenant, "aad": base64.StdEncoding.EncodeToString(aad)}
}

func (e *esdk) Seal(ctx context.Context, tenant string, plain, aad []byte) ([]byte, error) {
	out, err := e.client.Encrypt(ctx, clienttypes.EncryptInput{Plaintext: plain, Keyring: e.keyring, EncryptionContext: esdkContext(tenant, aad), AlgorithmSuiteId: &esdkSuite})
	if err != nil {
		return nil, err
	}
	return out.Ciphertext, nil
}

func (e *esdk) Open(ctx context.Context, tenant string, sealed, aad []byte) ([]byte, error) {
	out, err := e.client.Decrypt(ctx, clienttypes.DecryptInput{Ciphertext: sealed, Keyring: e.keyring, EncryptionContext: esdkContext(tenant, aad)})
	if err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}

func (e *esdk) Close() error { return nil }
