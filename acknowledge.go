package byok

import (
	"context"
	"fmt"
	"strings"
)

// waiverItem keeps a text that somebody acknowledged, for ever.
type waiverItem struct {
	V      int    `json:"v"`
	Waiver Waiver `json:"waiver"`
}

// AcknowledgeWaiver accepts the current waiver for the tenant, before or after
// registration, and activates a key that waits for it. What is
// kept is the text, its hash, the actor of ctx and the time. Accepting the current waiver again
// changes nothing.
//
// The error is ErrWaiverRequired if a flag is not set (the text names it) or
// a.Version is not the current one, else ErrStore, ErrAudit, ErrArgument or
// ErrClosed; ErrNotAudited beside the status as in Register.
func (t *Tenant) AcknowledgeWaiver(ctx context.Context, a Acknowledgement) (WaiverStatus, error) {
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return WaiverStatus{}, err
	}
	defer done()
	event := t.k.stamp(Event{Op: OpWaiver, Outcome: OutcomeSuccess, Actor: actorFrom(ctx), Scope: Scope{Tenant: t.id}})
	s, err := c.acknowledge(ctx, a, event)
	if err == errUnchanged {
		_, err = t.k.conclude(ctx, event, nil)
	} else if s == nil {
		_, err = t.k.conclude(ctx, event, err)
	}
	if s == nil {
		return WaiverStatus{}, err
	}
	return t.k.waiverStatus(s), err
}

func (t *tenantCache) acknowledge(ctx context.Context, a Acknowledgement, event Event) (*state, error) {
	if err := a.check(&t.k.waiver); err != nil {
		return nil, err
	}
	var unchanged *state
	s, err := t.change(ctx, false, func(ctx context.Context, s *state) (change, error) {
		if s.Ack.of(&t.k.waiver, t.k.waiverHash) && s.Lifecycle != lifecyclePending {
			unchanged = s
			return change{}, errUnchanged
		}
		now := event
		now.Reason, now.Key = "waiver "+t.k.waiver.Version+" sha256 "+t.k.waiverHash, s.Key
		s.Acks++
		s.Ack = &ack{Version: t.k.waiver.Version, SHA256: t.k.waiverHash, Actor: now.Actor, At: now.Time,
			DataLossRisk: a.DataLossRisk, KeyManagement: a.KeyManagement, NoLiability: a.NoLiability}
		writes := []Item{encodeItem(refAck(t.tenant, s.Acks), 0, struct {
			V int `json:"v"`
			*ack
		}{layoutVersion, s.Ack})}
		text := Ref{partWaiver, t.k.waiverHash}
		switch _, err := t.k.getJSON(ctx, text, &waiverItem{}); {
		case err == ErrNotFound:
			writes = append(writes, encodeItem(text, 0, waiverItem{layoutVersion, t.k.waiver}))
		case err != nil:
			return change{}, err
		}
		activated := t.activate(s, now)
		return change{quiet: activated == nil, events: append([]Event{now}, activated...), writes: writes}, nil
	})
	if err == errUnchanged {
		return unchanged, err
	}
	return s, err
}

// check names every flag that is missing.
func (a Acknowledgement) check(w *Waiver) error {
	var missing []string
	for _, f := range []struct {
		set  bool
		name string
	}{{a.DataLossRisk, FlagDataLossRisk}, {a.KeyManagement, FlagKeyManagement}, {a.NoLiability, FlagNoLiability}} {
		if !f.set {
			missing = append(missing, f.name)
		}
	}
	switch {
	case missing != nil:
		return fmt.Errorf("%w: must be true: %s", ErrWaiverRequired, strings.Join(missing, ", "))
	case a.Version != "" && a.Version != w.Version:
		return fmt.Errorf("%w: the current version is %s", ErrWaiverRequired, w.Version)
	}
	return nil
}

// WaiverStatus returns what the tenant has acknowledged.
func (t *Tenant) WaiverStatus(ctx context.Context) (WaiverStatus, error) {
	ctx, c, done, err := t.open(ctx)
	if err != nil {
		return WaiverStatus{}, err
	}
	defer done()
	s, err := c.readState(ctx)
	if err != nil {
		return WaiverStatus{}, err
	}
	return t.k.waiverStatus(s), nil
}

func (k *Keeper) waiverStatus(s *state) WaiverStatus {
	out := WaiverStatus{CurrentVersion: k.waiver.Version, CurrentSHA256: k.waiverHash}
	if s.Ack != nil {
		out.AcknowledgedAt, out.AcknowledgedBy = s.Ack.At, s.Ack.Actor
		out.AcknowledgedVersion, out.AcknowledgedSHA256 = s.Ack.Version, s.Ack.SHA256
	}
	out.Acknowledged = s.Ack.of(&k.waiver, k.waiverHash)
	out.NeedsAcknowledgement = !out.Acknowledged
	return out
}
