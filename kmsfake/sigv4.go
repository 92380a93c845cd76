package kmsfake

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultAccount owns what is called with an access key id that is neither
// registered nor 12 digits.
const DefaultAccount = "000000000000"

const (
	sigAlgorithm = "AWS4-HMAC-SHA256"
	sigTime      = "20060102T150405Z"
	sigSkew      = 5 * time.Minute
	minSecret    = 16 // of 40 in AWS; FIPS mode refuses HMAC keys under 14 bytes
)

// RegisterAccessKey says whose an access key id is. With a secret (one, of at
// least 16 characters), signatures made with it are verified, as is their date;
// without, any signature does. Registering an id again replaces it.
func (f *KMS) RegisterAccessKey(accessKeyID, principalARN string, secret ...string) {
	f.helper()
	f.mustPrincipal(principalARN)
	k := accessKey{Principal: principalARN}
	switch {
	case len(secret) > 1, len(secret) == 1 && secret[0] == "":
		f.misuse("RegisterAccessKey: one secret of at least %d characters, or none", minSecret)
	case len(secret) == 1:
		k.Secret = secret[0]
	}
	if err := f.registerAccessKey(accessKeyID, k); err != nil {
		f.misuse("RegisterAccessKey: %v", err)
	}
}

func (f *KMS) registerAccessKey(id string, k accessKey) error {
	if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/,=", r) }) {
		return fmt.Errorf("%q is not an access key id", id)
	}
	if k.Secret != "" && len(k.Secret) < minSecret {
		return fmt.Errorf("a secret has at least %d characters", minSecret)
	}
	if _, err := parsePrincipal(k.Principal); err != nil {
		return err
	}
	if k.Session != nil {
		if err := k.Session.check(); err != nil {
			return err
		}
		k.Session = k.Session.clone()
	}
	return f.apply(func() bool {
		f.st.AccessKeys[id] = k
		return true
	})
}

// signature is a parsed Authorization header.
type signature struct {
	accessKeyID, date, region, service string
	signed                             []string
	value                              string
}

// authenticate tells who sent a request. Its errors are *apiError.
func (f *KMS) authenticate(req *http.Request, body []byte) (caller, error) {
	s, err := parseAuthorization(req.Header.Get("Authorization"))
	if err != nil {
		return caller{}, err
	}
	f.mu.Lock()
	k, registered := f.st.AccessKeys[s.accessKeyID]
	f.mu.Unlock()
	switch {
	case registered:
	case isAccount(s.accessKeyID):
		k.Principal = s.accessKeyID
	default:
		k.Principal = DefaultAccount
	}
	if k.Secret != "" {
		if err := s.verify(req, body, k.Secret, f.wall()); err != nil {
			return caller{}, err
		}
	}
	who, parseErr := parsePrincipal(k.Principal)
	if parseErr != nil {
		return caller{}, fail("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	return caller{who: &who, region: s.region, accessKeyID: s.accessKeyID, session: fromPeer(k.Session, req.RemoteAddr), from: originOf(req)}, nil
}

// fromPeer is a session with the peer's address for a source, unless the session
// has one or a service calls on its behalf.
func fromPeer(s *Session, remoteAddr string) *Session {
	peer, err := netip.ParseAddrPort(remoteAddr)
	if err != nil || s != nil && (s.SourceIP != "" || s.ViaService != "") {
		return s
	}
	var with Session
	if s != nil {
		with = *s
	}
	with.SourceIP = peer.Addr().Unmap().String()
	return &with
}

func parseAuthorization(header string) (*signature, error) {
	if header == "" {
		return nil, fail("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	incomplete := func(what string) (*signature, error) {
		return nil, fail("IncompleteSignatureException", "Authorization header requires %s.", what)
	}
	rest, ok := strings.CutPrefix(header, sigAlgorithm+" ")
	if !ok {
		return incomplete(sigAlgorithm)
	}
	var s signature
	var scope []string
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			scope = strings.Split(value, "/")
		case "SignedHeaders":
			s.signed = strings.Split(value, ";")
		case "Signature":
			s.value = value
		}
	}
	switch {
	case len(scope) != 5 || scope[0] == "" || scope[4] != "aws4_request":
		return incomplete("a 'Credential' parameter")
	case len(s.signed) == 0:
		return incomplete("a 'SignedHeaders' parameter")
	case s.value == "":
		return incomplete("a 'Signature' parameter")
	case scope[3] != "kms":
		return nil, fail("InvalidSignatureException", "Credential should be scoped to correct service: 'kms'.")
	case !isRegion(scope[2]):
		return nil, fail("InvalidSignatureException", "Credential should be scoped to a valid region.")
	}
	s.accessKeyID, s.date, s.region, s.service = scope[0], scope[1], scope[2], scope[3]
	return &s, nil
}

// verify checks the signature of a request against the secret.
func (s *signature) verify(req *http.Request, body []byte, secret string, now time.Time) error {
	date := req.Header.Get("X-Amz-Date")
	at, err := time.Parse(sigTime, date)
	if err != nil || !strings.HasPrefix(date, s.date) {
		return fail("IncompleteSignatureException", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")
	}
	if !slices.Contains(s.signed, "host") || !slices.Contains(s.signed, "x-amz-date") {
		return fail("InvalidSignatureException", "'Host' and 'X-Amz-Date' must be signed.")
	}
	mac := func(key []byte, data string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(data))
		return h.Sum(nil)
	}
	key := mac([]byte("AWS4"+secret), s.date)
	for _, part := range []string{s.region, s.service, "aws4_request"} {
		key = mac(key, part)
	}
	canonical := sha256.Sum256([]byte(s.canonical(req, body)))
	scope := s.date + "/" + s.region + "/" + s.service + "/aws4_request"
	want := mac(key, sigAlgorithm+"\n"+date+"\n"+scope+"\n"+hex.EncodeToString(canonical[:]))
	got, err := hex.DecodeString(s.value)
	if err != nil || !hmac.Equal(got, want) {
		return fail("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. "+
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	// After the signature: an unsigned date proves nothing either way.
	if skew := now.Sub(at); skew > sigSkew || skew < -sigSkew {
		return fail("InvalidSignatureException", "Signature expired: %s is now outside of %s -/+ 5 min.",
			date, now.UTC().Format(sigTime))
	}
	return nil
}

func (s *signature) canonical(req *http.Request, body []byte) string {
	var b strings.Builder
	b.WriteString(req.Method + "\n/\n" + req.URL.RawQuery + "\n")
	for _, name := range s.signed {
		value := ""
		switch name {
		case "host": // net/http keeps these two apart from the other headers
			value = req.Host
		case "content-length":
			value = strconv.FormatInt(req.ContentLength, 10)
		default:
			value = strings.Join(req.Header.Values(name), ",")
		}
		b.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	hash := sha256.Sum256(body)
	b.WriteString("\n" + strings.Join(s.signed, ";") + "\n" + hex.EncodeToString(hash[:]))
	return b.String()
}
