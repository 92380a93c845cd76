package kmsfake

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Session is what policies can learn about a caller beside its ARN. The zero
// value says nothing: a direct call of an untagged principal.
type Session struct {
	// Tags are aws:PrincipalTag/KEY: of the user or role, or of its session.
	Tags map[string]string `json:",omitempty"`

	// ViaService is kms:ViaService, such as "s3.us-east-1.amazonaws.com": the
	// service that calls on behalf of the principal.
	ViaService string `json:",omitempty"`

	// SourceIP is aws:SourceIp. Over HTTP it defaults to the peer's address; in
	// process, and with ViaService, the request has none unless it is set here.
	SourceIP string `json:",omitempty"`

	// Keys are any other condition keys by name, as "aws:MultiFactorAuthPresent" or
	// "aws:SourceArn". They go before what the fake would say of itself.
	Keys map[string][]string `json:",omitempty"`
}

// check returns what is wrong with a session.
func (s *Session) check() error {
	for k, v := range s.Tags {
		if k == "" || len(k) > 128 || len(v) > 256 || !utf8.ValidString(k+v) {
			return fmt.Errorf("session tag %q is no tag", k)
		}
	}
	for k := range s.Keys {
		if strings.IndexByte(k, ':') <= 0 {
			return fmt.Errorf("%q is not a condition key", k)
		}
	}
	if s.SourceIP != "" {
		if _, err := netip.ParseAddr(s.SourceIP); err != nil {
			return fmt.Errorf("%q is not an IP address", s.SourceIP)
		}
	}
	return nil
}

func (s *Session) clone() *Session {
	c := *s
	c.Tags = cloneContext(s.Tags)
	c.Keys = make(map[string][]string, len(s.Keys))
	for k, v := range s.Keys {
		c.Keys[strings.ToLower(k)] = append([]string(nil), v...)
	}
	return &c
}

// With returns a client of the same principal in a session that policies can tell
// more about: tags, a service that calls on its behalf, a source address.
func (c *Client) With(s Session) *Client {
	c.f.helper()
	if err := s.check(); err != nil {
		c.f.misuse("With: %v", err)
	}
	return &Client{f: c.f, who: c.who, region: c.region, session: s.clone()}
}

// SetSession is [Client.With] for calls over HTTP with a registered access key.
// It lasts until the key is registered again.
func (f *KMS) SetSession(accessKeyID string, s Session) {
	f.helper()
	if err := s.check(); err != nil {
		f.misuse("SetSession: %v", err)
	}
	known := false
	f.change("SetSession", func() bool {
		var k accessKey
		if k, known = f.st.AccessKeys[accessKeyID]; known {
			k.Session = s.clone()
			f.st.AccessKeys[accessKeyID] = k
		}
		return known
	})
	if !known {
		f.misuse("SetSession: access key %q is not registered", accessKeyID)
	}
}

// SetOrganization says of which AWS organization ("o-abc123") the account is a
// member: aws:PrincipalOrgID of its principals, aws:ResourceOrgID of its keys.
// "" takes it out.
func (a *Account) SetOrganization(id string) {
	a.f.helper()
	if id != "" && !strings.HasPrefix(id, "o-") {
		a.f.misuse("SetOrganization: %q is not the id of an organization", id)
	}
	a.f.change("SetOrganization", func() bool {
		a.f.st.Organizations[a.id] = id
		return true
	})
}
