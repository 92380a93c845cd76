package dynamostore

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"strconv"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// checksum compares each answer with its X-Amz-Crc32, before anything of it is
// read. The SDK does so itself when it closes the body, which is too late: in
// service/dynamodb v1.73.2 what comes of it is a line in a log.
type checksum struct{}

func (checksum) ID() string { return "byok:checksum" }

func (checksum) HandleDeserialize(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	out, meta, err := next.HandleDeserialize(ctx, in)
	if err != nil {
		return out, meta, err
	}
	resp, ok := out.RawResponse.(*smithyhttp.Response)
	if !ok || resp.Header.Get("X-Amz-Crc32") == "" {
		return out, meta, nil // an answer of a proxy; AWS always sends one
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return out, meta, &smithy.DeserializationError{Err: err}
	}
	if strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 10) != resp.Header.Get("X-Amz-Crc32") {
		return out, meta, &smithy.DeserializationError{Err: errors.New("another checksum than its body has")}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return out, meta, nil
}

func (c checksum) add(stack *middleware.Stack) error {
	return stack.Deserialize.Add(c, middleware.After) // next to the connection
}
