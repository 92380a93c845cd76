package byokhttp_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// An organization that never registered a key is told so, registers one while it works, and is told what the
// platform's key once wrapped. Who may not move may not do that either.
func TestPlatformKeyOverREST(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServerWith(t, byoktest.Options{Platform: true, Keeper: &byok.Options{}})
		k, platform := s.Keeper, s.PlatformCMK
		s.want(t, "acme", "GET", "/keys", "", 404, "BYOK_005")
		sealed, err := k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, []byte("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := s.want(t, "acme", "GET", "/keys", "", 200, "")
		if got["status"] != "platform" || got["platform_key"] != true || got["cmk_arn"] != "" || got["waiver_acknowledged"] != false || len(got["warnings"].([]any)) != 0 {
			t.Errorf("the key: %v", got)
		}
		if got := s.want(t, "acme", "GET", "/health", "", 200, ""); got["key_status"] != "platform" || got["status"] != "healthy" {
			t.Errorf("health: %v", got)
		}
		s.want(t, "acme", "POST", "/keys", arnBody(platform.ARN()), 409, "BYOK_003")
		s.want(t, "acme", "POST", "/keys/move", arnBody(s.CMK("acme").ARN()), 404, "BYOK_005")
		cmk := s.CMK("acme")
		s.want(t, "acme-no-move", "POST", "/keys", arnBody(cmk.ARN()), 403, "BYOK_015")
		s.want(t, "acme-no-move", "POST", "/legal-waiver/acknowledge", ackAll, 200, "")
		got = s.want(t, "acme", "POST", "/keys", arnBody(cmk.ARN()), 202, "")
		if got["status"] != "platform" || got["moving_to_cmk_arn"] != cmk.ARN() || got["job_id"] == nil || got["cmk_arn"] != "" {
			t.Errorf("registered: %v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = k.Run(ctx) }()
		time.Sleep(5 * time.Second)
		job := s.want(t, "acme", "GET", "/keys/move/"+got["job_id"].(string), "", 200, "")
		if job["state"] != "done" || job["previous_dek_version"] != 1.0 || job["new_dek_version"] != 2.0 {
			t.Errorf("the job: %v", job)
		}
		got = s.want(t, "acme", "GET", "/keys", "", 200, "")
		if got["status"] != "active" || got["cmk_arn"] != cmk.ARN() || got["platform_key"] != nil || got["data_keys_once_wrapped_elsewhere"] != 1.0 || got["warnings"].([]any)[0] != "data_keys_once_wrapped_elsewhere" {
			t.Errorf("the key: %v", got)
		}
		platform.Disable()
		if _, err := k.Open(ctx, byok.Scope{Tenant: "acme"}, sealed, nil); err != nil {
			t.Error(err)
		}
		s.want(t, "acme", "DELETE", "/keys", "", 200, "")
		if _, err := k.Seal(ctx, byok.Scope{Tenant: "acme"}, nil, nil); byok.Code(err) != "BYOK_010" {
			t.Errorf("Seal after the removal: %v", err)
		}
		s.want(t, "acme", "GET", "/audit?operation=platform_key", "", 200, "")
	})
}
