package kmsfake

import "time"

// AWSQuota, given to Throttle, is what AWS gives an account that never asked for
// more: see DefaultQuota.
const AWSQuota = -1

// DefaultQuota is AWS's default for symmetric cryptographic operations in a
// Region, in requests a second: 100000 in us-east-1, us-west-2 and eu-west-1,
// 20000 in some others, 10000 elsewhere (developer guide, "Request quotas").
func DefaultQuota(region string) int {
	switch region {
	case "us-east-1", "us-west-2", "eu-west-1":
		return 100_000
	case "us-east-2", "ap-southeast-1", "ap-southeast-2", "ap-northeast-1", "eu-central-1", "eu-west-2":
		return 20_000
	}
	return 10_000
}

// Throttle gives each calling account, in each Region, a quota of requests a
// second, which its symmetric cryptographic operations share as in AWS: Decrypt,
// Encrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, GenerateMac,
// GenerateRandom, ReEncrypt and VerifyMac. Whose key it is does not matter.
// Beyond it, calls get a ThrottlingException, before anything else is looked at.
// The bucket holds one second's worth, starts full, and fills on the service's
// clock. 0, the default, is no quota; AWSQuota is AWS's.
func (f *KMS) Throttle(requestsPerSecond int) {
	f.helper()
	if requestsPerSecond < AWSQuota {
		f.misuse("Throttle: %d requests a second", requestsPerSecond)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.quota, f.buckets = requestsPerSecond, nil
}

var sharedQuota = map[string]bool{
	"Decrypt": true, "Encrypt": true, "GenerateDataKey": true, "GenerateDataKeyWithoutPlaintext": true,
	"GenerateMac": true, "GenerateRandom": true, "ReEncrypt": true, "VerifyMac": true,
}

type bucketOf struct{ account, region string }

type bucket struct {
	tokens float64
	filled time.Time
}

// maxBuckets bounds the memory that callers with invented access key ids can
// take. Who is forgotten then starts with a full bucket.
const maxBuckets = 10_000

var errThrottled = fail("ThrottlingException", "%s", throttlingMessage)

const throttlingMessage = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."

// throttled takes a token for a call, and reports whether there was none.
func (f *KMS) throttled(op string, c caller, now time.Time) bool {
	if f.quota == 0 || !sharedQuota[op] {
		return false
	}
	rate := float64(f.quota)
	if f.quota == AWSQuota {
		rate = float64(DefaultQuota(c.region))
	}
	id := bucketOf{c.who.account, c.region}
	b := f.buckets[id]
	if b == nil {
		if f.buckets == nil || len(f.buckets) >= maxBuckets {
			f.buckets = make(map[bucketOf]*bucket)
		}
		b = &bucket{rate, now}
		f.buckets[id] = b
	}
	if passed := now.Sub(b.filled); passed > 0 { // a clock that was set back fills nothing
		b.tokens = min(rate, b.tokens+rate*passed.Seconds())
	}
	b.filled = now
	if b.tokens < 1 {
		return true
	}
	b.tokens--
	return false
}
