package kmsfake

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
)

// decodeInput reads the JSON of a request into an SDK input. It is not
// json.Unmarshal, which would take "keyid" for KeyId, the union of two encryption
// contexts for one, and bytes for what they are not; here the last of two
// meanings is never the one that counts, because two are an error. Members that
// KMS does not know are ignored, as KMS does; null is an absent member; times are
// seconds since the epoch. Errors quote nothing but names: values can be secret.
func decodeInput(body []byte, in any) error {
	if halfCharacter(body) {
		return errors.New("a string has half of a surrogate pair")
	}
	return decodeStruct(body, reflect.ValueOf(in).Elem())
}

func decodeStruct(raw json.RawMessage, v reflect.Value) error {
	all, err := members(raw)
	if err != nil {
		return err
	}
	for name, raw := range all {
		f, ok := v.Type().FieldByName(name)
		if !ok || !f.IsExported() || name == "ResultMetadata" || string(raw) == "null" {
			continue
		}
		if err := decodeValue(raw, v.FieldByIndex(f.Index)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func decodeValue(raw json.RawMessage, v reflect.Value) error {
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(raw, v.Elem())
	case v.Type() == timeType:
		return decodeTime(raw, v)
	case v.Kind() == reflect.Struct:
		return decodeStruct(raw, v)
	case v.Kind() == reflect.String:
		s, err := text(raw)
		v.SetString(s)
		return err
	case isBinary(v.Type()):
		s, err := text(raw)
		if err != nil {
			return err
		}
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return errors.New("not base64")
		}
		v.SetBytes(b)
		return nil
	case v.Kind() == reflect.Slice:
		var all []json.RawMessage
		if err := json.Unmarshal(raw, &all); err != nil || raw[0] != '[' {
			return errors.New("not a list")
		}
		v.Set(reflect.MakeSlice(v.Type(), len(all), len(all)))
		for i, raw := range all {
			if string(raw) == "null" {
				continue // an empty structure, which the checks then refuse
			}
			if err := decodeValue(raw, v.Index(i)); err != nil {
				return err
			}
		}
		return nil
	case v.Type() == reflect.TypeFor[map[string]string]():
		return decodeContext(raw, v)
	}
	// Numbers and booleans. encoding/json checks their kind and their range.
	if err := json.Unmarshal(raw, v.Addr().Interface()); err != nil {
		return errors.New("not a " + v.Kind().String())
	}
	return nil
}

// decodeContext reads pairs of strings. A null among them is no pair and no string.
func decodeContext(raw json.RawMessage, v reflect.Value) error {
	all, err := members(raw)
	if err != nil {
		return err
	}
	m := make(map[string]string, len(all))
	for name, raw := range all {
		if m[name], err = text(raw); err != nil {
			return errors.New("a value is not a string")
		}
	}
	v.Set(reflect.ValueOf(m))
	return nil
}

func decodeTime(raw json.RawMessage, v reflect.Value) error {
	var seconds float64
	if err := json.Unmarshal(raw, &seconds); err != nil {
		return errors.New("not a number of seconds")
	}
	if !(math.Abs(seconds) < 1e11) { // the year 5138
		return errors.New("out of range")
	}
	v.Set(reflect.ValueOf(time.UnixMilli(int64(math.Round(seconds * 1e3))).UTC()))
	return nil
}

// halfCharacter finds escapes of half a character, which encoding/json replaces:
// two encryption contexts could become the same by it.
func halfCharacter(body []byte) bool {
	for i := 0; i+1 < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		i++ // what is escaped escapes nothing itself
		if body[i] != 'u' {
			continue
		}
		switch first := escaped(body[i+1:]); {
		case first >= 0xdc00 && first < 0xe000:
			return true
		case first >= 0xd800 && first < 0xdc00:
			rest := body[min(i+5, len(body)):]
			if len(rest) < 2 || rest[0] != '\\' || rest[1] != 'u' {
				return true
			}
			if second := escaped(rest[2:]); second < 0xdc00 || second >= 0xe000 {
				return true
			}
			i += 6
		}
	}
	return false
}

// escaped is the code unit of \uXXXX, -1 if it is none.
func escaped(digits []byte) int {
	if len(digits) < 4 {
		return -1
	}
	v, err := strconv.ParseUint(string(digits[:4]), 16, 16)
	if err != nil {
		return -1
	}
	return int(v)
}
