package byok

import "context"

// SetDrillable says whether a revocation drill (package drill, and the command
// "byok drill revoke") may block this tenant for some minutes without being told
// so each time. Registration.Drillable says it from the start; a new
// registration says it anew.
//
// It is a mark for people and tools, kept in the tenant's state and shown in its
// KeyStatus: Seal and Open do not look at it. The event is OpDrillable, and says
// in its reason which of both was set. The error is ErrNotRegistered,
// ErrArgument, ErrStore, ErrAudit or ErrClosed; and ErrNotAudited beside the new
// status.
func (t *Tenant) SetDrillable(ctx context.Context, drillable bool, reason string) (KeyStatus, error) {
	said := "drills may not block this tenant"
	if drillable {
		said = "drills may block this tenant"
	}
	if reason != "" {
		said += ": " + reason
	}
	return t.command(ctx, OpDrillable, said, false, func(_ context.Context, _ *tenantCache, s *state) ([]Item, bool, error) {
		if s.Lifecycle == lifecycleNone {
			return nil, false, ErrNotRegistered
		}
		unchanged := s.Drillable == drillable
		s.Drillable = drillable
		return nil, unchanged, nil
	})
}
