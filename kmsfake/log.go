package kmsfake

import (
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// CodeUnreachable is the Code of a call that an Outage, a ConnectionReset or a
// Hang swallowed. It is the fake's own: AWS would know nothing of such a call.
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
	Fault       string // the Code or Effect of the Fault that the call met, if any

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

// ResetCalls forgets the calls so far, and CloudTrail's events of them.
func (f *KMS) ResetCalls() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.trail = nil, trail{}
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
	named := func(id string) string { // without a lookup, only a key ARN names a key
		if _, _, _, ok := splitKeyARN(id); ok {
			return id
		}
		return ""
	}
	s := subjectOf(in)
	c.KeyARN, c.EncryptionContext = named(s.key), cloneContext(s.context)
	c.DestinationKeyARN, c.DestinationEncryptionContext = named(s.destination), cloneContext(s.destinationContext)
}

// subject is what an input is about, in the words of its caller.
type subject struct {
	key, destination            string
	ciphertext                  []byte
	context, destinationContext map[string]string
}

// subjectFields are the members of inputs that say so; ReEncrypt has a name of
// its own for each.
var subjectFields = [...][]string{
	{"KeyId", "SourceKeyId", "TargetKeyId"}, {"DestinationKeyId"}, {"CiphertextBlob"},
	{"EncryptionContext", "SourceEncryptionContext"}, {"DestinationEncryptionContext"},
}

// subjectIndex remembers for each type of input where these members are.
var subjectIndex sync.Map // reflect.Type to [len(subjectFields)]int

func subjectOf(in any) (s subject) {
	v := reflect.ValueOf(in).Elem()
	found, ok := subjectIndex.Load(v.Type())
	if !ok {
		var at [len(subjectFields)]int
		for i, names := range subjectFields {
			at[i] = -1
			for _, name := range names {
				if f, ok := v.Type().FieldByName(name); ok && len(f.Index) == 1 {
					at[i] = f.Index[0]
				}
			}
		}
		found, _ = subjectIndex.LoadOrStore(v.Type(), at)
	}
	at := found.([len(subjectFields)]int)
	s.key, s.destination = aws.ToString(fieldAt[*string](v, at[0])), aws.ToString(fieldAt[*string](v, at[1]))
	s.ciphertext = fieldAt[[]byte](v, at[2])
	s.context, s.destinationContext = fieldAt[map[string]string](v, at[3]), fieldAt[map[string]string](v, at[4])
	return s
}

func fieldAt[T any](v reflect.Value, i int) (value T) {
	if i >= 0 {
		value, _ = v.Field(i).Interface().(T)
	}
	return value
}
