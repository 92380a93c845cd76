package byokhttp_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/byok-go/byok"
)

// A full rotation and a move over REST, followed to their ends while Run works at them; nobody else sees them.
func TestJobsOverREST(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, false)
		s.active(t, "globex")
		cmk := s.active(t, "acme")
		sealed := s.seal(t, "acme")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = s.Keeper.Run(ctx) }()
		time.Sleep(time.Second)

		said := s.want(t, "acme", "POST", "/keys/rotate", `{"rotation_type":"full","reason":"Compromise"}`, 400, "BYOK_014")
		if detail, _ := said["detail"].(string); !strings.Contains(detail, "re-seal") {
			t.Errorf("after a compromise: %v", said)
		}
		rotated := s.want(t, "acme", "POST", "/keys/rotate", `{"rotation_type":"full","reason":"yearly"}`, 200, "")
		id := rotated["id"].(string)
		if rotated["state"] != "running" || rotated["left"] != 1.0 || rotated["new_dek_version"] != 2.0 || rotated["done"] != 0.0 {
			t.Errorf("rotated: %v", rotated)
		}
		time.Sleep(time.Second)
		got := s.want(t, "acme", "GET", "/keys/rotate/"+id, "", 200, "")
		if got["state"] != "done" || got["done"] != 1.0 || got["left"] != 0.0 || got["failed"] != 0.0 || got["reason"] != "yearly" ||
			got["actor"] != "admin@acme.example" || got["organization_id"] != "acme" || got["method"] != "Decrypt+Encrypt" || got["completed_at"] == nil {
			t.Errorf("followed: %v", got)
		}
		s.want(t, "globex", "GET", "/keys/rotate/"+id, "", 404, "BYOK_019")
		s.want(t, "globex", "DELETE", "/keys/rotate/"+id, "", 404, "BYOK_019")
		s.want(t, "acme", "DELETE", "/keys/rotate/"+id, "", 400, "BYOK_014") // it is done
		s.want(t, "acme", "GET", "/keys/move/"+strings.Repeat("0", 32), "", 404, "BYOK_019")

		next := s.CMK("acme")
		s.want(t, "nobody", "POST", "/keys/move", arnBody(next.ARN()), 401, "BYOK_016")
		s.want(t, "acme", "POST", "/keys/move", `{"reason":"x"}`, 400, "BYOK_014")
		s.want(t, "acme", "POST", "/keys/move", arnBody("alias/x"), 400, "BYOK_001")
		s.want(t, "acme", "POST", "/keys/move", arnBody(cmk.ARN()), 400, "BYOK_014")
		s.want(t, "acme", "POST", "/keys/move", arnBody(s.CMK("globex").ARN()), 403, "BYOK_002")
		// Denied by the old CMK meanwhile, it is paused, and says so. KMS takes its time, so that there is a meanwhile.
		s.Fake.Latency(200 * time.Millisecond)
		moved := s.want(t, "acme", "POST", "/keys/move", `{"cmk_arn":"`+next.ARN()+`","reason":"new account"}`, 202, "")
		id = moved["id"].(string)
		if moved["type"] != "move" || moved["state"] != "running" || moved["from_cmk_arn"] != cmk.ARN() || moved["to_cmk_arn"] != next.ARN() || moved["new_dek_version"] != nil {
			t.Errorf("moved: %v", moved)
		}
		s.want(t, "acme", "POST", "/keys/rotate", `{"rotation_type":"full"}`, 409, "BYOK_018")
		cmk.Disable()
		s.Fake.Latency(0)
		time.Sleep(3 * time.Second)
		if got := s.want(t, "acme", "GET", "/keys/move/"+id, "", 200, ""); got["state"] != "paused" || got["paused_by"] != "BYOK_002" {
			t.Errorf("denied: %v", got)
		}
		s.want(t, "acme", "POST", "/keys/move", arnBody(s.CMK("acme").ARN()), 409, "BYOK_018")
		got = s.want(t, "acme", "DELETE", "/keys/move/"+id, "", 200, "")
		if got["state"] != "cancelled" {
			t.Errorf("cancelled: %v", got)
		}
		cmk.Enable()
		time.Sleep(time.Minute)
		id = s.want(t, "acme", "POST", "/keys/move", arnBody(next.ARN()), 202, "")["id"].(string)
		time.Sleep(5 * time.Second)
		if got := s.want(t, "acme", "GET", "/keys/move/"+id, "", 200, ""); got["state"] != "done" {
			t.Errorf("followed: %v", got)
		}
		if got := s.want(t, "acme", "GET", "/keys", "", 200, ""); got["cmk_arn"] != next.ARN() || got["status"] != "active" {
			t.Errorf("the key: %v", got)
		}
		cmk.Disable()
		if _, err := s.Keeper.Open(ctx, byok.Scope{Tenant: "acme"}, sealed, []byte("aad")); err != nil {
			t.Error(err)
		}
		cancel()
	})
}
