package main

import (
	"strings"
	"testing"
	"time"
)

// With -platform-key an organization that never registered a key has records, and takes them along when it does.
func TestPlatformKey(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, nil)
	s.want(t, acme, "PUT", note, "x", 404, "BYOK_005")
	platform := s.fake.Account("777788889999").CreateKey(shortPolicy("777788889999"))
	s.shutdown()

	s = start(t, dir, func(c *config) { c.platformKey = platform.ARN() })
	s.want(t, acme, "PUT", note, "mine", 201, "")
	if got := s.want(t, acme, "GET", keysPath, "", 200, "").json(t); got["status"] != "platform" || got["platform_key"] != true || got["cmk_arn"] != "" {
		t.Errorf("the key: %v", got)
	}
	own := s.demo.Organizations[acme].CMKARN
	s.want(t, acme, "POST", keysPath, arnBody(platform.ARN()), 409, "BYOK_003")
	s.want(t, acme, "POST", "/api/v1/byok/legal-waiver/acknowledge", ackAll, 200, "")
	s.want(t, acme, "POST", keysPath, arnBody(own), 202, "")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := s.want(t, acme, "GET", keysPath, "", 200, "")
		if got.json(t)["status"] == "active" {
			if !strings.Contains(got.String(), "data_keys_once_wrapped_elsewhere") {
				t.Errorf("the key: %s", got)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("still %s", got)
		}
	}
	s.fake.Account("777788889999").Key(platform.ID()).Disable()
	if got := s.want(t, acme, "GET", note, "", 200, ""); string(got.body) != "mine" {
		t.Errorf("the record: %s", got)
	}
}
