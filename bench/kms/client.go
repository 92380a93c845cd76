package kms

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
)

// Client is the SDK's own client, for peers that take nothing else: what it spends on
// marshalling and signing is theirs. Its HTTP ends in this process.
func (f *Fake) Client() *kms.Client {
	return kms.New(kms.Options{Region: "us-east-1", Credentials: nobody, HTTPClient: httpClient(f.serve)})
}

var nobody = credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "a secret of forty characters, as AWS has", "")

// serve speaks AWS's JSON protocol: the members of the SDK's own types are those of the wire.
func (f *Fake) serve(r *http.Request, operation string, body []byte) (any, error) {
	ctx := r.Context()
	switch operation {
	case "Encrypt":
		return serve(body, func(in *kms.EncryptInput) (*kms.EncryptOutput, error) { return f.Encrypt(ctx, in) })
	case "Decrypt":
		return serve(body, func(in *kms.DecryptInput) (*kms.DecryptOutput, error) { return f.Decrypt(ctx, in) })
	case "ReEncrypt":
		return serve(body, func(in *kms.ReEncryptInput) (*kms.ReEncryptOutput, error) { return f.ReEncrypt(ctx, in) })
	case "GenerateDataKey", "GenerateDataKeyWithoutPlaintext":
		return serve(body, func(in *kms.GenerateDataKeyInput) (*kms.GenerateDataKeyOutput, error) {
			out, err := f.GenerateDataKey(ctx, in)
			if err == nil && operation != "GenerateDataKey" {
				out.Plaintext = nil
			}
			return out, err
		})
	}
	return nil, fmt.Errorf("bench/kms: no peer was known to need %s", operation)
}

func serve[I, O any](body []byte, f func(*I) (O, error)) (any, error) {
	var in I
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	return f(&in)
}

// httpClient ends requests in a function. A refusal of AWS's, and nothing else, becomes a
// response; so a gap in a fake is an error of the transport, which no peer takes for an answer.
func httpClient(serve func(r *http.Request, operation string, body []byte) (any, error)) *http.Client {
	return &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		target := r.Header.Get("X-Amz-Target") // TrentService.Decrypt
		out, err := serve(r, target[strings.LastIndexByte(target, '.')+1:], body)
		status := http.StatusOK
		var refusal smithy.APIError
		if errors.As(err, &refusal) {
			status, out = http.StatusBadRequest, map[string]string{"__type": refusal.ErrorCode(), "message": refusal.ErrorMessage()}
		} else if err != nil {
			return nil, err
		}
		if body, err = json.Marshal(out); err != nil {
			return nil, err
		}
		return &http.Response{
			StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amzn-Requestid": {"00000000-0000-0000-0000-000000000000"}},
			Body:   io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		}, nil
	})}
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }
