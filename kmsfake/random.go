package kmsfake

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

func (r *request) generateRandom(in *kms.GenerateRandomInput) (*kms.GenerateRandomOutput, error) {
	var c checks
	c.num("numberOfBytes", in.NumberOfBytes, 1, 1024)
	c.str("customKeyStoreId", in.CustomKeyStoreId, 1, 64)
	if err := firstOf(c.err(), r.own("kms:GenerateRandom", "*"), noEnclave(in.Recipient)); err != nil {
		return nil, err
	}
	switch {
	case in.NumberOfBytes == nil:
		return nil, validation("NumberOfBytes is required.")
	case in.CustomKeyStoreId != nil:
		return nil, fail("UnsupportedOperationException", "kmsfake does not support custom key stores.")
	}
	return &kms.GenerateRandomOutput{Plaintext: randomMaterial(int(aws.ToInt32(in.NumberOfBytes)))}, nil
}
