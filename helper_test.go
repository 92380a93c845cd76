package byok_test

import "github.com/aws/aws-sdk-go-v2/service/kms"

// plaintextOf returns the data key in an answer of KMS.
func plaintextOf(out any) []byte {
	switch o := out.(type) {
	case *kms.GenerateDataKeyOutput:
		return o.Plaintext
	case *kms.DecryptOutput:
		return o.Plaintext
	}
	return nil
}
