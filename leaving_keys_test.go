package byok_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/kmsfake"
)

// ofSeveral is an export of a tenant with several CMKs: a record of the Store's data key and
// one that carries its own.
func ofSeveral(s *several) (b []byte, plain map[uint64]string) {
	s.t.Helper()
	scope := byok.Scope{Tenant: "acme", Purpose: "x"}
	stored, err := s.k.Seal(s.t.Context(), scope, []byte("stored"), nil)
	want(s.t, "Seal", err, nil)
	opts := s.opts
	opts.PerOperation, opts.MaxAge = true, 0
	alone, err := byok.New("byoktest", newRegional(s.t, s.Fake), s.Store, s.Audit, &opts)
	want(s.t, "New", err, nil)
	s.t.Cleanup(func() { _ = alone.Close() })
	inside, err := alone.Seal(s.t.Context(), scope, []byte("inside"), nil)
	want(s.t, "Seal", err, nil)
	var out bytes.Buffer
	e, err := s.acme.Export(s.t.Context(), &out)
	want(s.t, "Export", err, nil)
	for i, sealed := range [][]byte{stored, inside} {
		want(s.t, "Add", e.Add(byok.ExportRecord{Name: fmt.Sprint(i), Purpose: "x"}, sealed), nil)
	}
	want(s.t, "Close", e.Close(), nil)
	return out.Bytes(), map[uint64]string{1: "stored", 2: "inside"}
}

// Dual control holds for an export too: every CMK is asked for its share, and any of them can
// stop it.
func TestExport_PolicyAll(t *testing.T) {
	s := tenantOf(t, 3, byok.PolicyAll, nil)
	b, plain := ofSeveral(s)
	keys := newRegional(t, s.Fake)
	s.Fake.ResetCalls()
	o := openExport(t.Context(), keys, bytes.NewReader(b), s.ids()...)
	if fmt.Sprint(o.plain) != fmt.Sprint(plain) || len(o.bad) != 0 || !o.info.Complete || len(o.info.CMKs) != 3 {
		t.Errorf("%v, %v, %+v", o.plain, o.bad, o.info)
	}
	if n := len(s.Fake.Calls()); n != 6 {
		t.Errorf("%d KMS requests, want one for each share", n)
	}
	s.Fake.ResetCalls()
	o = openExport(t.Context(), keys, bytes.NewReader(b), s.ids()[:2]...)
	if len(o.plain) != 0 || len(o.bad) != 2 || !errors.Is(o.bad[0], byok.ErrExportUntrusted) || len(s.Fake.Calls()) != 0 {
		t.Errorf("with two of three: %v, %v, %d KMS requests", o.plain, o.bad, len(s.Fake.Calls()))
	}
	for i, cmk := range s.cmks {
		cmk.Disable()
		o = openExport(t.Context(), keys, bytes.NewReader(b), s.ids()...)
		if len(o.plain) != 0 || len(o.bad) != 2 || !errors.Is(o.bad[0], byok.ErrKeyDenied) || !errors.Is(o.bad[1], byok.ErrKeyDenied) {
			t.Errorf("without consent of %d: %v, %v", i, o.plain, o.bad)
		}
		cmk.Enable()
	}
}

// Each CMK of PolicyAny opens an export alone. Of several that are named the next is asked if one
// does not answer; a denial is final, and no reason to ask another.
func TestExport_PolicyAny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := tenantOf(t, 2, byok.PolicyAny, &byok.Options{AllowAnyKeyToOpenAlone: true})
		b, plain := ofSeveral(s)
		keys := newRegional(t, s.Fake)
		for i, id := range s.ids() {
			if o := openExport(t.Context(), keys, bytes.NewReader(b), id); fmt.Sprint(o.plain) != fmt.Sprint(plain) || len(o.bad) != 0 {
				t.Errorf("with %d alone: %v, %v", i, o.plain, o.bad)
			}
		}
		end := s.Fake.Inject(kmsfake.Fault{KeyARN: s.cmks[0].ARN(), Code: "KMSInternalException"})
		begun := time.Now()
		o := openExport(t.Context(), keys, bytes.NewReader(b), s.ids()...)
		if fmt.Sprint(o.plain) != fmt.Sprint(plain) || len(o.bad) != 0 || time.Since(begun) > 2*time.Minute {
			t.Errorf("one does not answer: %v, %v after %v", o.plain, o.bad, time.Since(begun))
		}
		end()
		s.cmks[0].Disable()
		s.Fake.ResetCalls()
		o = openExport(t.Context(), keys, bytes.NewReader(b), s.ids()...)
		if len(o.plain) != 0 || len(o.bad) != 2 || !errors.Is(o.bad[0], byok.ErrKeyDenied) {
			t.Errorf("one denies: %v, %v", o.plain, o.bad)
		}
		for _, c := range s.Fake.Calls() {
			if c.KeyARN != s.cmks[0].ARN() {
				t.Errorf("%s was asked after the denial", c.KeyARN)
			}
		}
	})
}
