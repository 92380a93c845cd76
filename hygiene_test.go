package byok_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/template"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/floe"
)

// marker is a data key that is easy to find.
const marker = "MARKER-0123456789-ABCDEFGHIJKLMN"

// shapes are what a printed marker would look like, in whole or in part.
func shapes() []string {
	middle := marker[8:24]
	all := []string{marker, middle, fmt.Sprintf("%x", middle), fmt.Sprintf("%X", middle), fmt.Sprintf("%q", middle),
		strings.Trim(fmt.Sprint([]byte(middle)), "[]"), strings.ReplaceAll(strings.Trim(fmt.Sprint([]byte(middle)), "[]"), " ", ","),
		strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(middle)), "[]byte{"), "}"),
		fmt.Sprintf("% x", middle), fmt.Sprintf("%b", []byte(middle)[:8]), fmt.Sprintf("%o", []byte(middle)[:8])}
	for phase := range 3 { // base64 wherever it begins
		b, _ := json.Marshal([]byte(marker[phase:24]))
		all = append(all, string(b[4:20]))
	}
	return all
}

func findMarker(t *testing.T, where, text string) {
	t.Helper()
	for _, s := range shapes() {
		if strings.Contains(text, s) {
			t.Errorf("%s: the key shows as %q", where, s)
		}
	}
}

// A data key shows nowhere: no verb, encoder, logger, template or differ of a
// test finds it, in whatever it is put (threat I-1).
func TestI_1_DEKShowsNowhere(t *testing.T) {
	raw := []byte(marker)
	d, err := byok.NewDEK(raw)
	want(t, "NewDEK", err, nil)
	if !bytes.Equal(raw, make([]byte, 32)) {
		t.Error("NewDEK left the caller's copy")
	}
	type box struct {
		D   *byok.DEK // exported field
		d   *byok.DEK // unexported field
		V   byok.DEK  // by value
		v   byok.DEK
		M   map[string]*byok.DEK
		In  any
		in  any
		Err error
	}
	b := box{d, d, *d, *d, map[string]*byok.DEK{"k": d}, d, *d, dekError{d}}
	values := map[string]any{"pointer": d, "value": *d, "struct": b, "pointer to struct": &b, "unexported field": b.d, "slice": []*byok.DEK{d},
		"slice of values": []byok.DEK{*d}, "array": [1]byok.DEK{*d}, "map": b.M, "key of a map": map[*byok.DEK]int{d: 1}, "error": dekError{d},
		"wrapped error": fmt.Errorf("%w: %v, %+v, %#v", dekError{d}, d, *d, b), "joined error": errors.Join(dekError{d}),
		"pointer to pointer": &d, "channel": make(chan *byok.DEK, 1), "function": d.Use, "panic value": fmt.Sprint(any(d))}
	redactions := 0
	for name, v := range values {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%b", "%o", "%O", "%c", "%U", "%t", "%e", "%T", "%w", "%64.32x"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			l := slog.New(h)
			l.Info("x", "k", v)
			l.With("k", v).WithGroup("g").Info("x", slog.Any("k", v), slog.Group("in", "k", v))
		}
		for _, marshal := range []func(any) ([]byte, error){json.Marshal, xml.Marshal,
			func(v any) ([]byte, error) { return json.MarshalIndent(v, "", " ") },
			func(v any) ([]byte, error) {
				var b bytes.Buffer
				err := gob.NewEncoder(&b).Encode(v)
				return b.Bytes(), err
			}} {
			b, err := marshal(v)
			out.Write(b)
			fmt.Fprintln(&out, err) // which can quote what it could not encode
		}
		for _, text := range []string{`{{.}}`, `{{printf "%#v" .}}`, `{{print .}}`, `{{js .}}`, `{{html .}}`} {
			_ = template.Must(template.New("").Parse(text)).Execute(&out, v)
		}
		fmt.Fprintln(&out, expvar.Func(func() any { return v }).String())
		// As tests print what differs: cmp, looking into everything.
		open := cmp.Exporter(func(reflect.Type) bool { return true })
		if reflect.TypeOf(v).Kind() != reflect.Func {
			func() {
				defer func() { fmt.Fprintln(&out, recover()) }()
				out.WriteString(cmp.Diff(v, reflect.Zero(reflect.TypeOf(v)).Interface(), open))
			}()
		}
		findMarker(t, name, out.String())
		redactions += strings.Count(out.String(), "redacted")
	}
	if redactions < 50 {
		t.Errorf("%d redactions: this test could pass on nothing", redactions)
	}
	findMarker(t, "text", strings.Join([]string{mustText(d.MarshalText()), d.LogValue().String()}, " "))
	// The test itself can see: what is not hidden is found.
	seen := 0
	for _, s := range shapes() {
		if strings.Contains(fmt.Sprintf("%s %x %X %v %#v % x", marker, marker, marker, []byte(marker), []byte(marker), marker), s) {
			seen++
		}
	}
	if seen < 6 {
		t.Errorf("only %d shapes of a key in the open are seen", seen)
	}
}

type dekError struct{ d *byok.DEK }

func (e dekError) Error() string { return fmt.Sprintf("failed with %v", e.d) }

func mustText(b []byte, err error) string { return string(b) + fmt.Sprint(err) }

// markerKeyring gives the marker for every data key.
type markerKeyring struct{ rawKeyring }

func (m *markerKeyring) GenerateDataKey(ctx context.Context, key byok.KeyID, ec byok.EncryptionContext) (*byok.DEK, byok.Wrapped, error) {
	if err := m.allowed(ec); err != nil {
		return nil, byok.Wrapped{}, err
	}
	dek, err := byok.NewDEK([]byte(marker))
	if err != nil {
		return nil, byok.Wrapped{}, err
	}
	w, err := m.WrapDataKey(ctx, key, dek, ec)
	return dek, w, err
}

// What holds data keys shows them as little as they do themselves.
func TestI_1_KeeperShowsNoKey(t *testing.T) {
	k, err := byok.New(byoktest.Service, &markerKeyring{*newRawKeyring()}, new(byok.MemStore), new(byok.MemAudit), nil)
	want(t, "New", err, nil)
	defer k.Close()
	acme := k.Tenant("acme")
	_, err = acme.Register(t.Context(), byok.Registration{Key: rawKey})
	want(t, "Register", err, nil)
	_, err = acme.AcknowledgeWaiver(t.Context(), accepted)
	want(t, "AcknowledgeWaiver", err, nil)
	seal(t, k, "acme", "x", "")
	if k.Stats().Leases != 1 {
		t.Fatal("no live key: this test could pass on nothing")
	}
	for name, v := range map[string]any{"Keeper": k, "Keeper by value": reflect.ValueOf(k).Elem().Interface(), "Tenant": acme, "Stats": k.Stats()} {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		j, _ := json.Marshal(v)
		out.Write(j)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "k", v)
		findMarker(t, name, out.String())
	}
}

// words are how a trace shows the bytes of a key that it has as arguments: eight,
// four or one at a time.
func words() (all []string) {
	for i := 0; i+8 <= len(marker); i++ {
		n := uint64(0)
		for j := range 8 {
			n |= uint64(marker[i+j]) << (8 * j)
		}
		all = append(all, fmt.Sprintf("0x%x", n))
		if i+8 == len(marker) || i%4 == 0 {
			all = append(all, fmt.Sprintf("0x%x,", n&0xffffffff), fmt.Sprintf("0x%x)", n&0xffffffff))
		}
	}
	for i := range 8 { // the runtime prints no more than the first ten
		all = append(all, fmt.Sprintf("0x%x, 0x%x, 0x%x", marker[i], marker[i+1], marker[i+2]))
	}
	return append(all, marker[8:16])
}

//go:noinline
func leak(key [32]byte, trace func()) byte { trace(); return key[0] }

// A trace shows where a panic came from, with the arguments of every function on
// the way, and so do dumps of all goroutines. None of it is a key byte, wherever in
// an exported call it is taken (threat I-2).
func TestI_2_PanicTraces(t *testing.T) {
	var mu sync.Mutex
	var traces atomic.Int64 // also taken by what goes on behind a call
	functions := map[string]bool{}
	buf := make([]byte, 1<<20)
	trace := func(where string) {
		mu.Lock()
		defer mu.Unlock()
		text := string(buf[:runtime.Stack(buf, true)]) // as the runtime prints it when it dies
		traces.Add(1)
		for _, w := range words() {
			if strings.Contains(text, w) {
				t.Errorf("%s: a trace shows %s", where, w)
			}
		}
		for _, f := range []string{"floe.Seal(", "floe.Open(", "byok.(*DEK).Use(", "hmac.New", "sha512", "byok.NewDEK("} {
			functions[f] = functions[f] || strings.Contains(text, f)
		}
	}
	// The test can see: a function that breaks the rule is found.
	var key [32]byte
	copy(key[:], marker)
	found := false
	leak(key, func() {
		text := string(buf[:runtime.Stack(buf, true)])
		for _, w := range words() {
			found = found || strings.Contains(text, w)
		}
	})
	if !found {
		t.Error("a key that is passed by value is not seen: this test could pass on nothing")
	}

	store := &hookStore{Store: new(byok.MemStore), hook: func() { trace("in the Store") }}
	sink := &hookSink{MemAudit: new(byok.MemAudit)}
	sink.before(func(e byok.Event) { trace("recording " + string(e.Op)) })
	observer := &byok.Observer{KMSCall: func(string, byok.KMSCall) { trace("in the Observer") }}
	k, err := byok.New(byoktest.Service, &tracingKeyring{&markerKeyring{*newRawKeyring()}, trace}, store, sink,
		&byok.Options{Observer: observer, Logger: slog.New(slog.DiscardHandler)})
	want(t, "New", err, nil)
	defer k.Close()
	ctx, acme, scope := t.Context(), k.Tenant("acme"), byok.Scope{Tenant: "acme"}
	direct, err := byok.NewDirect(byoktest.Service, &markerKeyring{*newRawKeyring()}, rawKey, sink)
	want(t, "NewDirect", err, nil)
	var sealed []byte
	ignore := func(_ any, err error) error { return err }
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"Register", func() error { return ignore(acme.Register(ctx, byok.Registration{Key: rawKey})) }},
		{"AcknowledgeWaiver", func() error { return ignore(acme.AcknowledgeWaiver(ctx, accepted)) }},
		{"Seal", func() (err error) { sealed, err = k.Seal(ctx, scope, make([]byte, 1<<16), nil); return err }},
		{"Open", func() error { return ignore(k.Open(ctx, scope, sealed, nil)) }},
		{"Health", func() error { return ignore(acme.Health(ctx)) }},
		{"Recheck", func() error { return ignore(acme.Recheck(ctx)) }},
		{"Rotate", func() error { return ignore(acme.Rotate(ctx, byok.Rotation{Type: byok.RotateDEK})) }},
		{"Status", func() error { return ignore(acme.Status(ctx)) }},
		{"WaiverStatus", func() error { return ignore(acme.WaiverStatus(ctx)) }},
		{"Audit", func() error { return ignore(acme.Audit(ctx, byok.AuditQuery{})) }},
		{"Suspend", func() error { return ignore(acme.Suspend(ctx, "")) }},
		{"Resume", func() error { return ignore(acme.Resume(ctx, "")) }},
		{"Direct.Seal", func() (err error) { sealed, err = direct.Seal(ctx, scope, []byte("x"), nil); return err }},
		{"Direct.Open", func() error { return ignore(direct.Open(ctx, scope, sealed, nil)) }},
		{"Revoke", func() error { return ignore(acme.Revoke(ctx, "")) }},
	} {
		before := traces.Load()
		want(t, c.name, c.call(), nil)
		if traces.Load() == before && !strings.HasSuffix(c.name, "Status") {
			t.Errorf("%s: no trace was taken", c.name)
		}
	}
	dek, err := byok.NewDEK([]byte(marker))
	want(t, "NewDEK", err, nil)
	_ = dek.Use(func([]byte) error { trace("in Use"); return nil })

	// And at any moment inside the cryptography, where nothing can be hooked.
	done, enough := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		text := make([]byte, 1<<14)
		for {
			select {
			case <-enough:
				return
			default:
			}
			_ = dek.Use(func(raw []byte) error {
				sealed, err := floe.Seal(nil, raw, floe.Params{}, nil, text)
				if err == nil {
					_, err = floe.Open(nil, raw, nil, sealed)
				}
				return err
			})
			raw := []byte(marker)
			_, _ = byok.NewDEK(raw)
		}
	}()
	seenIn := []string{"floe.Seal(", "floe.Open(", "byok.(*DEK).Use("}
	unseen := func(f string) bool {
		mu.Lock()
		defer mu.Unlock()
		return !functions[f]
	}
	start := time.Now()
	for n := 0; n < 300 || time.Since(start) < 10*time.Second; n++ {
		trace("in the cryptography")
		if runtime.Gosched(); n >= 300 && !slices.ContainsFunc(seenIn, unseen) {
			break
		}
	}
	close(enough)
	<-done
	for _, f := range seenIn {
		if unseen(f) {
			t.Errorf("%d traces, and none in %s", traces.Load(), f)
		}
	}
}

// hookStore calls a function before each read and write.
type hookStore struct {
	byok.Store
	hook func()
}

func (s *hookStore) Get(ctx context.Context, r byok.Ref) (byok.Item, error) {
	s.hook()
	return s.Store.Get(ctx, r)
}

func (s *hookStore) Apply(ctx context.Context, w ...byok.Item) error {
	s.hook()
	return s.Store.Apply(ctx, w...)
}

// tracingKeyring takes a trace while it has a data key in its hands.
type tracingKeyring struct {
	*markerKeyring
	trace func(string)
}

func (k *tracingKeyring) WrapDataKey(ctx context.Context, key byok.KeyID, dek *byok.DEK, ec byok.EncryptionContext) (byok.Wrapped, error) {
	_ = dek.Use(func([]byte) error { k.trace("in a driver"); return nil })
	return k.markerKeyring.WrapDataKey(ctx, key, dek, ec)
}

func (k *tracingKeyring) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	d, r, err := k.markerKeyring.UnwrapDataKey(ctx, key, wrapped, ec)
	k.trace("in a driver")
	return d, r, err
}
