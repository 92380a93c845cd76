// Command awsesdk is the least that seals with the AWS Encryption SDK.
package main

import (
	"context"

	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpltypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	client "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	clienttypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

func main() {
	ctx := context.Background()
	materials, err := mpl.NewClient(mpltypes.MaterialProvidersConfig{})
	if err != nil {
		panic(err)
	}
	keyring, err := materials.CreateAwsKmsKeyring(ctx, mpltypes.CreateAwsKmsKeyringInput{KmsClient: kms.New(kms.Options{}), KmsKeyId: "arn"})
	if err != nil {
		panic(err)
	}
	c, err := client.NewClient(clienttypes.AwsEncryptionSdkConfig{})
	if err == nil {
		_, err = c.Encrypt(ctx, clienttypes.EncryptInput{Keyring: keyring})
	}
	if err != nil {
		panic(err)
	}
}
