// Command age is the least that seals with age, without a KMS.
package main

import (
	"io"

	"filippo.io/age"
)

var recipient age.Recipient

func main() {
	w, err := age.Encrypt(io.Discard, recipient)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
}
