package byok

import (
	"bytes"
	"testing"

	"github.com/byok-go/byok/internal/format"
	"github.com/byok-go/byok/internal/shares"
)

// A move to or from PolicyAll can switch while a Writer begins, and what wraps its data key then says another policy
// than envelopes of that data key have. An envelope that carried it would never open: so none begins.
func TestG12_WriterMeetsTheSwitch(t *testing.T) {
	recipients := []format.Recipient{{Provider: "p", Key: "a", Wrapped: []byte{1}}, {Provider: "p", Key: "b", Wrapped: []byte{2}}}
	moved := bytes.Repeat([]byte{3}, shares.WrappedSize)
	for name, c := range map[string]struct {
		w    wrapping
		want error
	}{
		"as it was made, ANY": {wrapping{policy: format.PolicyANY, recipients: recipients}, nil},
		"as it was made, ALL": {wrapping{policy: format.PolicyALL, recipients: recipients}, nil},
		"moved, and the same": {wrapping{policy: format.PolicyANY, recipients: recipients, made: format.PolicyANY}, nil},
		"from ANY to ALL":     {wrapping{policy: format.PolicyALL, recipients: recipients, made: format.PolicyANY, moved: moved}, errReplaced},
		"from ALL to ANY":     {wrapping{policy: format.PolicyANY, recipients: recipients, made: format.PolicyALL}, errReplaced},
		"from ALL to ALL":     {wrapping{policy: format.PolicyALL, recipients: recipients, made: format.PolicyALL, moved: moved}, errReplaced},
	} {
		cache := &tenantCache{tenant: "acme"}
		h := newHold(cache, Event{})
		h.g.e = &entry{wrapped: c.w}
		header, core, err := cache.selfContained(h)
		if err != c.want || (err == nil) != (header != nil && core != nil) {
			t.Errorf("%s: %d bytes, %v", name, len(header), err)
			continue
		}
		if err == nil {
			if got, _, _, err := format.Parse(header); err != nil || got.Policy != c.w.policy {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
}
