package kmsfake

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// CodeUnreachable is the Code of a call that an Outage swallowed. It is the
// fake's own: AWS would know nothing of such a call.
const CodeUnreachable = "Unreachable"

// Call is one API call, as CloudTrail would tell of it.
type Call struct {
	Time        time.Time // of the decision, by Options.Now
	RequestID   string    // "" if unreachable
	Operation   string    // "Decrypt"
	Principal   string    // the ARN that Client or RegisterAccessKey was given
	AccessKeyID string    // "" in process
	Region      string
	KeyARN      string // "" if the call named no key that could be found
	Code        string // "" is success
	Message     string // of the error

	EncryptionContext map[string]string // of ReEncrypt: the source's

	// Of ReEncrypt, whose KeyARN is the source's.
	DestinationKeyARN            string
	DestinationEncryptionContext map[string]string
}

// maxCalls bounds the log; the oldest calls go first.
const maxCalls = 1 << 16

// Calls returns the calls so far, in the order in which they were decided: the
// last 65536 of them since the last ResetCalls. The caller owns the result.
func (f *KMS) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(f.calls)
	for i := range out {
		out[i].EncryptionContext = cloneContext(out[i].EncryptionContext)
		out[i].DestinationEncryptionContext = cloneContext(out[i].DestinationEncryptionContext)
	}
	return out
}

// ResetCalls forgets the calls so far.
func (f *KMS) ResetCalls() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = nil
}

func (f *KMS) record(c Call) {
	if len(f.calls) >= maxCalls {
		// Drop a quarter at once, so that a full log does not copy itself on each call.
		f.calls = slices.Delete(f.calls, 0, maxCalls/4)
	}
	f.calls = append(f.calls, c)
}

// describe fills in what a call says before anybody judged it, so that refused
// calls, too, are logged with their context.
func describe(c *Call, in any) {
	named := func(id *string) string { // without a lookup, only a key ARN names a key
		if _, _, _, ok := splitKeyARN(aws.ToString(id)); ok {
			return *id
		}
		return ""
	}
	switch in := in.(type) {
	case *kms.EncryptInput:
		c.KeyARN, c.EncryptionContext = named(in.KeyId), cloneContext(in.EncryptionContext)
	case *kms.DecryptInput:
		c.KeyARN, c.EncryptionContext = named(in.KeyId), cloneContext(in.EncryptionContext)
	case *kms.GenerateDataKeyInput:
		c.KeyARN, c.EncryptionContext = named(in.KeyId), cloneContext(in.EncryptionContext)
	case *kms.GenerateDataKeyWithoutPlaintextInput:
		c.KeyARN, c.EncryptionContext = named(in.KeyId), cloneContext(in.EncryptionContext)
	case *kms.ReEncryptInput:
		c.KeyARN, c.EncryptionContext = named(in.SourceKeyId), cloneContext(in.SourceEncryptionContext)
		c.DestinationKeyARN = named(in.DestinationKeyId)
		c.DestinationEncryptionContext = cloneContext(in.DestinationEncryptionContext)
	case *kms.DescribeKeyInput:
		c.KeyARN = named(in.KeyId)
	}
}
