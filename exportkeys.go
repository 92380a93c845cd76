package byok

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/lease"
)

// exportPatience is how long KMS is asked for one data key of an export while it gives no
// answer. Nobody waits but the one who opens it, and the alternative is to begin anew.
const exportPatience = time.Minute

// exportKeyring has the data keys of an export unwrapped, each once.
type exportKeyring struct {
	k       *Keeper // without a Store, for its clock and its way to call a Keyring
	tenant  string
	trusted []KeyID
	silent  map[KeyID]bool // gave no answer for exportPatience: its next data key gets one try
	keys    map[DataKeyID]*exportedKey
	size    int // of what is kept for them
}

// exportedKey is a data key of an export.
type exportedKey struct {
	exportKey
	parsed *format.Header
	asked  bool
	dek    *DEK
	err    error // of KMS: it is not asked again
}

func newExportKeyring(keys Keyring, trusted []KeyID, h *exportHead) *exportKeyring {
	k := &Keeper{service: h.service, keys: keys, clock: lease.System(), log: slog.Default()}
	k.done, k.stop = context.WithCancel(context.Background())
	return &exportKeyring{k: k, tenant: h.tenant, trusted: slices.Clone(trusted), silent: map[KeyID]bool{}, keys: map[DataKeyID]*exportedKey{}}
}

// find returns the data key of an envelope: the one that stands in the export, or else the
// one in the envelope, which the caller wipes.
func (r *exportKeyring) find(ctx context.Context, purpose string, h *format.Header) (dek *DEK, own bool, err error) {
	if k := r.keys[h.DataKey]; k != nil {
		if k.purpose != purpose {
			return nil, false, ErrOpen // for another purpose: KMS need not be asked
		}
		if !k.asked {
			k.dek, k.err = r.unwrap(ctx, purpose, k.parsed, []byte(k.moved))
			k.asked = k.err == nil || ctx.Err() == nil
		}
		return k.dek, false, k.err
	}
	if h.Policy == format.PolicyREF {
		return nil, false, ErrExportKey
	}
	dek, err = r.unwrap(ctx, purpose, h, nil)
	return dek, true, err
}

// unwrap asks under the keys that the caller trusts, in its order, and no others: what a file
// names is only compared (MUST-15). A denial is final (MUST-16).
func (r *exportKeyring) unwrap(ctx context.Context, purpose string, h *format.Header, moved []byte) (*DEK, error) {
	w := wrappingOf(h)
	w.moved = moved
	if !w.opens(r.trusted) {
		return nil, ErrExportUntrusted
	}
	ec := r.k.context(r.tenant, purpose, h.DataKey)
	parts := make([]*DEK, len(w.recipients))
	var silent error
	for _, key := range r.trusted {
		i := w.index(key)
		if i < 0 {
			continue
		}
		dek, err := r.ask(ctx, key, w.recipients[i].Wrapped, ec)
		switch whole := w.policy == format.PolicyANY; {
		case err == nil && whole:
			return dek, nil
		case err == nil:
			parts[i] = dek
		case whole && passing(err):
			silent = err
		default:
			wipeAll(parts)
			return nil, err
		}
	}
	if silent != nil {
		return nil, silent
	}
	return combine(h.DataKey, parts, w.moved)
}

// ask asks KMS for one data key, again and again while it gives no answer.
func (r *exportKeyring) ask(ctx context.Context, key KeyID, wrapped []byte, ec EncryptionContext) (*DEK, error) {
	for begun, pause := time.Now(), time.Second; ; pause = min(2*pause, 10*time.Second) {
		c := &caller{k: r.k, tenant: r.tenant, key: key}
		res, err := c.unwrap(ctx, wrapped, ec)
		switch {
		case err == nil:
			delete(r.silent, key)
			return res.dek, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !passing(err):
			return nil, err
		case r.silent[key] || time.Since(begun) >= exportPatience:
			r.silent[key] = true
			return nil, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

func (r *exportKeyring) wipe() {
	for _, k := range r.keys {
		k.dek.Wipe()
	}
	r.k.stop()
}
