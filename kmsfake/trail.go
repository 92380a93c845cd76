package kmsfake

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// maxTrail bounds the calls that CloudTrail can be asked about; the oldest go first.
const maxTrail = 1 << 14

// trail are the records of the last calls, and how many there were before them.
type trail struct {
	records   []*trailRecord
	dropped   int // records that are gone from the front
	delivered int // how many of all there were went into log files
}

func (t *trail) add(r *trailRecord) {
	if len(t.records) >= maxTrail {
		t.records = slices.Delete(t.records, 0, maxTrail/4) // not each time a little
		t.dropped += maxTrail / 4
	}
	t.records = append(t.records, r)
}

// afterPermission are the errors that a call can only get once it was permitted:
// the owner of the key learns of those, too.
var afterPermission = map[string]bool{
	"DisabledException": true, "KMSInvalidStateException": true, "KeyUnavailableException": true,
	"InvalidCiphertextException": true, "IncorrectKeyException": true, "InvalidKeyUsageException": true,
	"DryRunOperationException": true, "KMSInvalidMacException": true, "KMSInvalidSignatureException": true,
}

// testify makes CloudTrail's record of a call. named are the ARNs of keys that
// the call itself contained: of other keys, a denied stranger must not learn.
func (r *request) testify(in, out any, named []string) {
	c := r.call
	rec := &trailRecord{call: *c, who: r.who, from: r.from, recipients: []string{r.who.account}}
	if rec.from == nil {
		rec.from = inProcess
	}
	if r.session != nil {
		rec.invokedBy = r.session.ViaService
	}
	rec.call.EncryptionContext, rec.call.DestinationEncryptionContext = nil, nil // they are in the parameters
	rec.parameters = encodeTrail(in, parameterDefaults[c.Operation])
	permitted := c.Code == "" || c.Fault == "" && afterPermission[c.Code]
	for _, arn := range []string{c.KeyARN, c.DestinationKeyARN} {
		_, owner, _, ok := splitKeyARN(arn)
		if !ok || !permitted && owner != r.who.account && !slices.Contains(named, arn) {
			continue
		}
		res := CloudTrailResource{owner, "AWS::KMS::Key", arn}
		if !slices.Contains(rec.resources, res) {
			rec.resources = append(rec.resources, res)
		}
		if permitted && !slices.Contains(rec.recipients, owner) {
			rec.recipients = append(rec.recipients, owner)
		}
	}
	if c.Code == "" {
		rec.material = r.materials(out)
		if !readOnly(c.Operation) {
			rec.elements = encodeTrail(out, map[string]string{"keyId": c.KeyARN})
		}
	}
	r.f.trail.add(rec)
}

// materials are the ids of the key material that was used, with their names in
// events, of operations that use a symmetric key for encryption.
func (r *request) materials(out any) []labelled {
	switch out := out.(type) {
	case *kms.EncryptOutput: // which does not say
		if k := r.st.Keys[r.call.KeyARN]; k != nil && k.current() != nil {
			return []labelled{{"keyMaterialId", k.current().ID}}
		}
	case *kms.DecryptOutput:
		return []labelled{{"keyMaterialId", aws.ToString(out.KeyMaterialId)}}
	case *kms.GenerateDataKeyOutput:
		return []labelled{{"keyMaterialId", aws.ToString(out.KeyMaterialId)}}
	case *kms.GenerateDataKeyWithoutPlaintextOutput:
		return []labelled{{"keyMaterialId", aws.ToString(out.KeyMaterialId)}}
	case *kms.GenerateDataKeyPairOutput:
		return []labelled{{"keyMaterialId", aws.ToString(out.KeyMaterialId)}}
	case *kms.GenerateDataKeyPairWithoutPlaintextOutput:
		return []labelled{{"keyMaterialId", aws.ToString(out.KeyMaterialId)}}
	case *kms.ReEncryptOutput:
		return []labelled{{"sourceKeyMaterialId", aws.ToString(out.SourceKeyMaterialId)},
			{"destinationKeyMaterialId", aws.ToString(out.DestinationKeyMaterialId)}}
	}
	return nil
}

// parameterDefaults are request parameters that CloudTrail tells of also when the
// caller relied on the default.
var parameterDefaults = map[string]map[string]string{
	"Encrypt":   {"encryptionAlgorithm": string(symmetric)},
	"Decrypt":   {"encryptionAlgorithm": string(symmetric)},
	"ReEncrypt": {"sourceEncryptionAlgorithm": string(symmetric), "destinationEncryptionAlgorithm": string(symmetric)},
}

// neverTold are the members that are as good as a secret without being binary.
// All that is binary (plaintext, ciphertext, messages, MACs, tokens) is left out.
var neverTold = map[string]bool{
	"GrantTokens": true, "GrantToken": true, "KeyStorePassword": true, "RawSecretAccessKey": true, "ResultMetadata": true,
}

// encodeTrail writes an input or output as CloudTrail's parameters and elements:
// JSON with names in lower camel case. Without members it is nil, CloudTrail's null.
func encodeTrail(value any, defaults map[string]string) json.RawMessage {
	var b bytes.Buffer
	trailStruct(&b, reflect.ValueOf(value).Elem(), defaults)
	if b.Len() == len("{}") {
		return nil
	}
	return b.Bytes()
}

func trailStruct(b *bytes.Buffer, v reflect.Value, defaults map[string]string) {
	b.WriteByte('{')
	first := true
	name := func(s string) {
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.WriteByte('"')
		b.WriteString(s)
		b.WriteString(`":`)
	}
	told := make(map[string]bool)
	for _, m := range toldMembers(v.Type()) {
		if f := v.Field(m.index); !silent(f) {
			told[m.name] = true
			name(m.name)
			trailValue(b, f)
		}
	}
	for key, value := range defaults {
		if !told[key] && value != "" {
			name(key)
			trailValue(b, reflect.ValueOf(value))
		}
	}
	b.WriteByte('}')
}

// toldMember is a member that CloudTrail may tell of, and its name there.
type toldMember struct {
	index int
	name  string
}

var toldIndex sync.Map // reflect.Type to []toldMember

func toldMembers(t reflect.Type) []toldMember {
	if known, ok := toldIndex.Load(t); ok {
		return known.([]toldMember)
	}
	var all []toldMember
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && !neverTold[f.Name] && !isBinary(f.Type) {
			all = append(all, toldMember{i, lowerCamel(f.Name)})
		}
	}
	toldIndex.Store(t, all)
	return all
}

func isBinary(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// silent is unset, and a flag that is down: the SDK cannot tell it from an absent one.
func silent(v reflect.Value) bool { return unset(v) || v.Kind() == reflect.Bool && !v.Bool() }

func lowerCamel(s string) string {
	if strings.HasPrefix(s, "AWS") {
		return "aws" + s[len("AWS"):]
	}
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[n:]
}

func trailValue(b *bytes.Buffer, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		trailValue(b, v.Elem())
	case reflect.Struct:
		if t, ok := v.Interface().(time.Time); ok {
			trailValue(b, reflect.ValueOf(t.UTC().Format("Jan 2, 2006, 3:04:05 PM")))
			return
		}
		trailStruct(b, v, nil)
	case reflect.Slice:
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			trailValue(b, v.Index(i))
		}
		b.WriteByte(']')
	default: // strings, numbers, booleans, and maps of strings
		data, err := json.Marshal(v.Interface())
		if err != nil {
			panic("kmsfake: internal error: " + err.Error())
		}
		b.Write(data)
	}
}
