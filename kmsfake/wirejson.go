package kmsfake

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"time"
)

// encodeOutput writes an SDK output as AWS JSON 1.1: members that are not set
// are left out, times are seconds since the epoch, blobs are base64. Operations
// without an answer have an empty body.
func encodeOutput(out any) []byte {
	v := reflect.ValueOf(out).Elem()
	if v.NumField() <= 2 { // ResultMetadata and a marker
		return nil
	}
	var b bytes.Buffer
	encodeStruct(&b, v)
	return b.Bytes()
}

var timeType = reflect.TypeFor[time.Time]()

func encodeStruct(b *bytes.Buffer, v reflect.Value) {
	b.WriteByte('{')
	first := true
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Anonymous || f.Name == "ResultMetadata" || unset(v.Field(i)) {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.WriteString(strconv.Quote(f.Name))
		b.WriteByte(':')
		encodeValue(b, v.Field(i))
	}
	b.WriteByte('}')
}

// unset: nil, or an empty enum. Numbers and booleans that are no pointers are
// members that KMS always sends.
func unset(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return v.IsNil()
	case reflect.String:
		return v.Len() == 0
	}
	return false
}

func encodeValue(b *bytes.Buffer, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		encodeValue(b, v.Elem())
	case reflect.Struct:
		if v.Type() == timeType {
			ms := math.Round(float64(v.Interface().(time.Time).UnixMicro()) / 1e3)
			b.WriteString(strconv.FormatFloat(ms/1e3, 'f', -1, 64))
			return
		}
		encodeStruct(b, v)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b.WriteByte('"')
			b.WriteString(base64.StdEncoding.EncodeToString(v.Bytes()))
			b.WriteByte('"')
			return
		}
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			encodeValue(b, v.Index(i))
		}
		b.WriteByte(']')
	default: // strings, numbers, booleans
		data, err := json.Marshal(v.Interface())
		if err != nil {
			panic("kmsfake: internal error: " + err.Error())
		}
		b.Write(data)
	}
}
