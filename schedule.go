package byok

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Schedule says when data keys are rotated without being told to. The zero Schedule is the limits of a data key and nothing more.
// Each of them comes up to a tenth earlier than said, by chance, so that tenants that came together do not
// rotate together.
type Schedule struct {
	// Age is how old a generation of data keys may become: 1 h to 10 years. A process that Runs begins the next one, with one
	// validating data key, as Rotate does. It looks at a tenant every ten minutes, and 0.1 s later for each other one, so that much later it can
	// come. 0: never for its age.
	Age time.Duration

	// Messages and Bytes are how much one data key may seal, all processes together: 1000 to 2^32, and 2^20 to 2^48.
	// The process that finds little left begins the next generation in the background. Defaults to the greatest.
	Messages, Bytes int64
}

// Limits of a Schedule.
const (
	minScheduleAge      = time.Hour
	maxScheduleAge      = 10 * 365 * 24 * time.Hour
	minScheduleMessages = 1000
	minScheduleBytes    = 1 << 20
)

// use makes s that of a Keeper, or says what is wrong with it.
func (s Schedule) use(k *Keeper) error {
	bad := func(what string) error { return fmt.Errorf("%w: Schedule.%s", ErrArgument, what) }
	l := &k.limits
	switch {
	case s.Age != 0 && (s.Age < minScheduleAge || s.Age > maxScheduleAge):
		return bad("Age must be 1 h to 10 years")
	case s.Messages != 0 && (s.Messages < minScheduleMessages || s.Messages > l.messages):
		return bad("Messages must be 1000 to 2^32")
	case s.Bytes != 0 && (s.Bytes < minScheduleBytes || s.Bytes > l.bytes):
		return bad("Bytes must be 2^20 to 2^48")
	}
	k.schedule = s
	// As many blocks as with the limits that a data key has anyway would be a block of less than a message; with
	// few, a crash wastes much. 64 are enough for the processes of a fleet.
	if s.Messages != 0 {
		l.messages, l.blockMessages = s.Messages, min(l.blockMessages, s.Messages/64)
	}
	if s.Bytes != 0 {
		l.bytes, l.blockBytes = s.Bytes, min(l.blockBytes, s.Bytes/64)
	}
	return nil
}

// limitsOf is how much a data key may seal: every process must find the same.
func (k *Keeper) limitsOf(id DataKeyID) sealLimits {
	l := k.limits
	if k.schedule.Messages != 0 {
		l.messages -= part(id[:8], l.messages/10)
	}
	if k.schedule.Bytes != 0 {
		l.bytes -= part(id[8:], l.bytes/10)
	}
	return l
}

// part is 0 to n, by what is random in b.
func part(b []byte, n int64) int64 {
	return int64(float64(binary.BigEndian.Uint32(b)) / (1 << 32) * float64(n))
}

// rotationDue reports whether the tenant's generation is too old.
func (s *state) rotationDue(k *Keeper, tenant string, now time.Time) bool {
	age := k.schedule.Age
	if age == 0 || s.usable(k) != nil || s.DataKeys == 0 {
		return false
	}
	last := s.CreatedAt
	if s.LastRotationAt.After(last) {
		last = s.LastRotationAt
	}
	sum := sha256.Sum256([]byte(tenant + last.UTC().String()))
	return now.Sub(last) >= age-time.Duration(part(sum[:8], int64(age/10)))
}

// rotateDue begins a new generation for its age. Of several processes that come by, one does.
func (t *tenantCache) rotateDue(ctx context.Context, s *state) {
	ctx, done, err := t.k.within(ctx)
	if err != nil {
		return
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	event := t.k.stamp(Event{Op: OpRotate, Outcome: OutcomeSuccess, Reason: "scheduled: the data keys are older than " + t.k.schedule.Age.String(),
		Scope: Scope{Tenant: t.tenant}})
	now, err := t.rotate(ctx, &event, &RotationResult{Type: RotateDEK}, s.Generation)
	if errors.Is(err, errLostRace) { // its KMS calls were made all the same
		event.Reason, err = "another process was first", nil
	}
	if now == nil {
		_, _ = t.k.conclude(ctx, event, err)
	}
}
