// Package random is where byok's random bytes come from: the source that
// crypto/rand had when this package was initialised.
//
// crypto/rand.Reader is a variable that every package of a program can replace,
// for a test or by mistake, and rand.Read and rand.Text then return what the
// replacement does. Two data keys with one id, or two messages with one IV, would
// be the end of more than one secret, so nothing that happens after
// initialisation matters here.
//
// A package that is initialised before this one can still have replaced it.
// [Err] says whether the source looked broken then. What looks random and is not,
// nobody can tell: a cloned virtual machine is such a case, see docs/design.md.
package random

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"io"
	"strings"
)

// source is as it was at initialisation.
var source = rand.Reader

var broken = selfTest(source)

// Err returns nil, or why the source must not be used. A Keeper is not made then.
func Err() error { return broken }

var errBroken = errors.New("crypto/rand.Reader was replaced by something that is not random")

// selfTest reads twice. A source that ran dry, repeats itself, or returns one
// byte over and over fails: that of a real one would, once in 2^247 starts.
func selfTest(r io.Reader) error {
	var a, b [32]byte
	if _, err := io.ReadFull(r, a[:]); err != nil {
		return errBroken
	}
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return errBroken
	}
	if a == b || constant(a[:]) || constant(b[:]) {
		return errBroken
	}
	return nil
}

func constant(b []byte) bool { return bytes.Count(b, b[:1]) == len(b) }

// Read fills b. It never fails: without random bytes nothing of byok may go on, so
// it panics, where crypto/rand would end the program.
func Read(b []byte) {
	if broken != nil {
		panic("byok: internal error: " + broken.Error())
	}
	if _, err := io.ReadFull(source, b); err != nil {
		panic("byok: internal error: no random bytes: " + err.Error())
	}
}

// Text returns 26 characters [a-z2-7], of 128 random bits.
func Text() string {
	var b [16]byte
	Read(b[:])
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}
