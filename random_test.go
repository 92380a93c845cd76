package byok_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/floe"
)

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// drawn is what of an envelope is random: the data key's id, FLOE's IV, and the
// nonce of the first segment.
type drawn struct{ DataKey, IV, Nonce []byte }

func drawnOf(sealed []byte, plain int) (d drawn, err error) {
	h, err := byok.Inspect(sealed)
	if err != nil {
		return d, err
	}
	payload := sealed[len(sealed)-floe.SealedSize(floe.Params{}, plain):]
	const prefix = 10 // the parameters
	return drawn{h.DataKey[:], payload[prefix : prefix+32], payload[floe.HeaderSize+4 : floe.HeaderSize+16]}, nil
}

// A program whose random source a dependency has replaced, after initialisation.
func init() {
	children["zero-reader"] = func(out io.Writer) error {
		rand.Reader = zeroReader{}
		keys, err := awskms.New(wireConfig(os.Getenv("KMS_URL")), nil)
		if err != nil {
			return err
		}
		key := awskms.Key(os.Getenv("KMS_KEY"))
		audit := new(byok.MemAudit)
		k, err := byok.New(byoktest.Service, keys, new(byok.MemStore), audit, nil)
		if err != nil {
			return err
		}
		ctx := context.Background()
		if _, err := k.Tenant("acme").Register(ctx, byok.Registration{Key: key}); err != nil {
			return err
		}
		if _, err := k.Tenant("acme").AcknowledgeWaiver(ctx, accepted); err != nil {
			return err
		}
		direct, err := byok.NewDirect(byoktest.Service, keys, key, audit)
		if err != nil {
			return err
		}
		var all []drawn
		for i := range 10 {
			for _, seal := range []func(context.Context, byok.Scope, []byte, []byte) ([]byte, error){k.Seal, direct.Seal} {
				sealed, err := seal(ctx, byok.Scope{Tenant: "acme", Purpose: fmt.Sprint("p", i)}, []byte("x"), nil)
				if err != nil {
					return err
				}
				d, err := drawnOf(sealed, 1)
				if err != nil {
					return err
				}
				all = append(all, d)
			}
		}
		return json.NewEncoder(out).Encode(all)
	}
}

// rand.Read and rand.Text return what rand.Reader does, whoever set it. Nothing
// that byok draws comes from there.
func TestJ1_ReplacedReader(t *testing.T) {
	url, arn := serveKMS(t)
	for _, debug := range []string{"fips140=off", "fips140=only"} {
		var all []drawn
		out := child(t, "zero-reader", "KMS_URL="+url, "KMS_KEY="+arn, "GODEBUG="+debug)
		want(t, "Unmarshal", json.Unmarshal([]byte(out), &all), nil)
		seen := map[string]bool{}
		for _, d := range all {
			for what, b := range map[string][]byte{"data key id": d.DataKey, "IV": d.IV, "nonce": d.Nonce} {
				if len(b) < 12 || bytes.Count(b, b[:1]) == len(b) || seen[string(b)] {
					t.Errorf("%s: the %s %x is not random", debug, what, b)
				}
				seen[string(b)] = true
			}
		}
		if len(all) != 20 {
			t.Fatalf("%d envelopes", len(all))
		}
	}
}

// One data key is one id, and no two messages share an IV or a nonce. A smoke
// test: it would see a source that repeats itself, not one that is a little bad.
func TestJ3_NothingRepeats(t *testing.T) {
	env := byoktest.New(t, nil)
	env.Tenant("acme")
	seen := map[string]bool{}
	alone, err := byok.New(byoktest.Service, env.Keys, env.Store, env.Audit, &byok.Options{PerOperation: true})
	want(t, "New", err, nil)
	defer alone.Close()
	for i := range 2000 {
		k := env.Keeper
		if i%10 == 0 {
			k = alone
		}
		sealed, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, []byte("x"), nil)
		want(t, "Seal", err, nil)
		d, err := drawnOf(sealed, 1)
		want(t, "Inspect", err, nil)
		draws := [][]byte{d.IV, d.Nonce}
		if k == alone {
			draws = append(draws, d.DataKey)
		}
		for _, b := range draws {
			if seen[string(b)] {
				t.Fatalf("%x was drawn twice", b)
			}
			seen[string(b)] = true
		}
	}
}
