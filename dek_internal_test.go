package byok

import (
	"bytes"
	"testing"

	"github.com/byok-go/byok/internal/floe"
)

type keyTaker func(raw []byte, shared *floe.Keyed) error

func (f keyTaker) withKey(raw []byte, shared *floe.Keyed) error { return f(raw, shared) }

// Wipe takes the keyed HMAC with the key: with the next key nothing goes on under the
// old one.
func TestI_3_WipeDropsSharedState(t *testing.T) {
	dek, err := NewDEK(bytes.Repeat([]byte{1}, dekSize))
	if err != nil {
		t.Fatal(err)
	}
	var kept *floe.Keyed
	err = dek.lend(keyTaker(func(raw []byte, shared *floe.Keyed) error {
		kept = shared // which no user may
		_, err := shared.Seal(nil, raw, floe.Params{}, nil, nil)
		return err
	}), 0)
	if err != nil {
		t.Fatal(err)
	}
	dek.Wipe()
	other := bytes.Repeat([]byte{2}, dekSize)
	sealed, err := kept.Seal(nil, other, floe.Params{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := floe.Open(nil, other, nil, sealed); err != nil {
		t.Errorf("the HMAC of a wiped key is in use: %v", err)
	}
	if err := dek.lend(keyTaker(func([]byte, *floe.Keyed) error { t.Error("lent"); return nil }), 1); err != errWiped {
		t.Errorf("lend after Wipe: %v", err)
	}
}
