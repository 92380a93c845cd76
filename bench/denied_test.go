package bench

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"
	"github.com/byok-go/byok"
	"github.com/byok-go/byok/bench/peers"
)

// denied is what a peer does once the customer has disabled the CMK.
type denied struct {
	Peer             string
	OpenFor, SealFor time.Duration // how long this process goes on, with what it had in use; patience is for ever
	Restart          string        // what a process does that starts then
	Told             string        // how a program can tell the refusal from other failures
}

const patience = 2 * time.Hour

// What each peer does when KMS denies, on the clock of a bubble: how long a process that uses
// a tenant's data every two seconds goes on to open and to seal, and what a new process does.
// cmd/report makes a table of it.
func TestDenied(t *testing.T) {
	for _, p := range peers.All() {
		t.Run(p.Name, func(t *testing.T) {
			var d denied
			synctest.Test(t, func(t *testing.T) {
				w := peers.NewWorld("acme")
				l := start(t, p, w)
				sealed, err := l.Seal(t.Context(), "acme", []byte("hello"), aad)
				if err != nil {
					t.Fatal(err)
				}
				open := func(l peers.Library) error {
					_, err := l.Open(t.Context(), "acme", sealed, aad)
					return err
				}
				seal := func() error {
					_, err := l.Seal(t.Context(), "acme", []byte("hello"), aad)
					return err
				}
				if err := open(l); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				w.KMS.Disable()
				var refusal error
				d.OpenFor, d.SealFor = patience, patience
				for began, wait := time.Now(), time.Duration(0); wait < patience; wait = time.Since(began) {
					if err := open(l); err != nil && wait < d.OpenFor {
						refusal, d.OpenFor = err, wait
					}
					if seal() != nil {
						d.SealFor = min(d.SealFor, wait)
					}
					if d.OpenFor < patience && d.SealFor < patience {
						break
					}
					time.Sleep(2 * time.Second)
				}

				restarted, err := p.Start(t.Context(), w)
				if err == nil {
					defer restarted.Close()
					err = open(restarted)
				}
				if d.Restart = "refuses"; err == nil {
					d.Restart = "goes on"
				} else if refusal == nil {
					refusal = err
				}
				d.Told = told(refusal)
			})
			if p.Name == "byok" && (d.OpenFor > byok.DefaultMaxAge || d.SealFor > byok.DefaultMaxAge || d.Restart != "refuses") {
				t.Errorf("byok goes on for longer than it says: %+v", d)
			}
			d.Peer = p.Name
			out, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			t.Attr("denied", string(out))
		})
	}
}

func told(err error) string {
	var api smithy.APIError
	switch {
	case err == nil:
		return "never refused"
	case errors.Is(err, byok.ErrKeyDenied):
		return "errors.Is(err, byok.ErrKeyDenied)"
	case errors.As(err, &api):
		return "errors.As, " + api.ErrorCode()
	}
	return "by its text alone"
}
