package byok_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/shares"
	"github.com/byok-go/byok/internal/vectors"
)

// shareKeyring unwraps for each recipient of a vector what it has wrapped: the data key, or its share.
type shareKeyring struct {
	vectorKeyring
	keys []byok.KeyID
}

func (k *shareKeyring) UnwrapDataKey(ctx context.Context, key byok.KeyID, wrapped []byte, ec byok.EncryptionContext) (*byok.DEK, byok.Receipt, error) {
	i, v := slices.Index(k.keys, key), *k.v
	if n := len(v.Key) / shares.Size; n > 1 {
		v.Key = v.Key[min(i, n-1)*shares.Size:]
		v.Key = v.Key[:min(shares.Size, len(v.Key))]
	}
	one := vectorKeyring{t: k.t, v: &v}
	k.asked++
	return one.UnwrapDataKey(ctx, key, wrapped, ec)
}

// Each vector that carries its data key does in a Keeper what it says, for a tenant that has all of its
// recipients' keys: each of them is asked once.
func TestVectorsByAKeeper(t *testing.T) {
	golden, err := vectors.All(goldenDir)
	want(t, "All", err, nil)
	bad, err := vectors.All(badDir)
	want(t, "All", err, nil)
	opened := map[uint8]int{}
	refused := 0
	for _, v := range append(golden, bad...) {
		h, _, _, err := format.Parse(v.Envelope)
		if err != nil || h.Policy == format.PolicyREF || v.Result == vectors.Argument || v.Result == vectors.Malformed {
			continue
		}
		ring := &shareKeyring{vectorKeyring: vectorKeyring{t: t, v: v}}
		for _, r := range h.Recipients {
			ring.keys = append(ring.keys, byok.KeyID{Provider: r.Provider, ID: r.Key})
		}
		policy := map[uint8]byok.Policy{format.PolicyANY: byok.PolicyAny, format.PolicyALL: byok.PolicyAll}[h.Policy]
		if len(ring.keys) == 1 {
			policy = ""
		}
		state, err := json.Marshal(map[string]any{"v": 1, "lifecycle": "active", "key": ring.keys[0], "others": ring.keys[1:], "policy": policy, "generation": 1})
		want(t, "Marshal", err, nil)
		store := new(byok.MemStore)
		want(t, "Apply", store.Apply(t.Context(), byok.Item{Ref: byok.Ref{Partition: "tenant:" + v.Tenant, ID: "state"}, Value: state}), nil)
		k, err := byok.New(byoktest.Service, ring, store, new(byok.MemAudit), nil)
		want(t, "New", err, nil)
		for way, open := range map[string]func() ([]byte, error){
			"Open": func() ([]byte, error) {
				return k.Open(t.Context(), byok.Scope{Tenant: v.Tenant, Purpose: v.Purpose}, v.Envelope, v.AAD)
			},
			"OpenReader": func() ([]byte, error) {
				r, err := k.OpenReader(t.Context(), bytes.NewReader(v.Envelope), byok.Scope{Tenant: v.Tenant, Purpose: v.Purpose}, v.AAD)
				if err != nil {
					return nil, err
				}
				defer r.Close()
				var b bytes.Buffer
				_, err = r.WriteTo(&b)
				return b.Bytes(), err
			},
		} {
			plain, err := open()
			switch {
			case v.Result == vectors.Opens:
				if want(t, v.Name+" "+way, err, nil); v.Check(vectors.Opens, plain) != nil || ring.asked != len(ring.keys) {
					t.Errorf("%s %s: another plaintext, or %d questions", v.Name, way, ring.asked)
				}
				opened[h.Policy]++
			case v.Rule == "MUST-21": // a driver cannot even make a DEK of it
				want(t, v.Name, err, byok.ErrInternal)
				refused++
			case v.Name == "all-too-many-shares": // here each recipient has one
				want(t, v.Name, err, nil)
			default:
				want(t, v.Name+" "+way, err, byok.ErrOpen)
				refused++
			}
		}
		want(t, "Close", k.Close(), nil)
	}
	if opened[format.PolicyANY] < 8 || opened[format.PolicyALL] < 8 || refused < 8 {
		t.Errorf("%v opened, %d refused: this test could pass on nothing", opened, refused)
	}
}

// C6: a data key is one of ALL or of ANY for ever. An envelope that names the tenant's data key, and is sealed under
// it with every tag right, but says that any key opens it, is refused: with the data key at hand, without, and per operation.
func TestC6_EnvelopeOfAnotherPolicy(t *testing.T) {
	s := tenantOf(t, 2, byok.PolicyAll, nil)
	stream := sealStream(t, s.k, []byte("x"), "")
	h, _, _, err := format.Parse(stream)
	want(t, "Parse", err, nil)
	keys := newRegional(t, s.Fake)
	ec := byok.EncryptionContext{byok.ContextTenant: "acme", byok.ContextService: byoktest.Service, byok.ContextPurpose: "default",
		byok.ContextDataKey: byok.DataKeyID(h.DataKey).String()}
	var parts [][]byte
	for _, r := range h.Recipients {
		dek, _, err := keys.UnwrapDataKey(t.Context(), byok.KeyID{Provider: r.Provider, ID: r.Key}, r.Wrapped, ec)
		want(t, "UnwrapDataKey", err, nil)
		want(t, "Use", dek.Use(func(raw []byte) error { parts = append(parts, bytes.Clone(raw)); return nil }), nil)
	}
	raw, err := shares.Combine(h.DataKey[:], parts)
	want(t, "Combine", err, nil)
	forge := func(policy uint8, n int, key []byte) []byte {
		f := *h
		f.Policy, f.Recipients = policy, h.Recipients[:n]
		head, err := f.Append(nil)
		want(t, "Append", err, nil)
		core, err := f.AppendCore(nil)
		want(t, "AppendCore", err, nil)
		return append(head, vectors.Forge(key, format.PayloadAAD(core, "default", nil), 65536).Message([]byte("x"))...)
	}
	mustOpen(t, s.k, "acme", forge(format.PolicyALL, 2, raw), "", "x")
	for _, alone := range []bool{false, true} {
		s.opts.PerOperation = alone
		cold := s.process()
		for _, k := range []*byok.Keeper{s.k, cold, cold} {
			for _, e := range [][]byte{forge(format.PolicyANY, 2, raw), forge(format.PolicyANY, 1, raw), forge(format.PolicyANY, 1, parts[0])} {
				_, err := open(t, k, "acme", e, "")
				want(t, "Open", err, byok.ErrOpen)
				_, err = openStream(t, k, e, "")
				want(t, "OpenReader", err, byok.ErrOpen)
			}
		}
	}
}
