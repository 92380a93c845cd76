// Command sio is the least that seals with sio, without a KMS.
package main

import (
	"bytes"
	"io"

	"github.com/minio/sio"
)

func main() {
	if _, err := sio.Encrypt(io.Discard, new(bytes.Reader), sio.Config{Key: make([]byte, 32)}); err != nil {
		panic(err)
	}
}
