package kmsfake

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base32"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// CloudTrailEvent is what AWS CloudTrail tells one account of one call, with the
// names, the order and the format of its records (version 1.11). CloudTrail's
// own documentation says what the fields mean.
//
// Three things are this fake's: encryption contexts are in the events of denied
// calls too; an owner's event tells of a call under its key also if that failed,
// after it was permitted (DisabledException, InvalidCiphertextException ...);
// and calls of the test's hand ([Account], [Key]) are in none.
type CloudTrailEvent struct {
	EventVersion        string               `json:"eventVersion"`
	UserIdentity        CloudTrailIdentity   `json:"userIdentity"`
	EventTime           time.Time            `json:"eventTime"` // UTC, to the second
	EventSource         string               `json:"eventSource"`
	EventName           string               `json:"eventName"`
	AWSRegion           string               `json:"awsRegion"`
	SourceIPAddress     string               `json:"sourceIPAddress"`
	UserAgent           string               `json:"userAgent"`
	ErrorCode           string               `json:"errorCode,omitempty"`
	ErrorMessage        string               `json:"errorMessage,omitempty"`
	RequestParameters   map[string]any       `json:"requestParameters"` // never plaintext, ciphertext or grant tokens
	ResponseElements    map[string]any       `json:"responseElements"`  // of what changes something
	AdditionalEventData map[string]string    `json:"additionalEventData,omitempty"`
	RequestID           string               `json:"requestID"`
	EventID             string               `json:"eventID"`
	ReadOnly            bool                 `json:"readOnly"`
	Resources           []CloudTrailResource `json:"resources,omitempty"`
	EventType           string               `json:"eventType"`
	ManagementEvent     bool                 `json:"managementEvent"`
	RecipientAccountID  string               `json:"recipientAccountId"`
	SharedEventID       string               `json:"sharedEventID,omitempty"` // the same in each account that has the event
	EventCategory       string               `json:"eventCategory"`
	TLSDetails          *CloudTrailTLS       `json:"tlsDetails,omitempty"` // over HTTPS
}

// CloudTrailIdentity says who called. The owner of a key learns of callers from
// other accounts no more than PrincipalID and AccountID.
type CloudTrailIdentity struct {
	Type           string             `json:"type"` // Root, IAMUser, AssumedRole, FederatedUser, AWSAccount
	PrincipalID    string             `json:"principalId"`
	ARN            string             `json:"arn,omitempty"`
	AccountID      string             `json:"accountId"`
	AccessKeyID    string             `json:"accessKeyId,omitempty"`
	UserName       string             `json:"userName,omitempty"`
	SessionContext *CloudTrailSession `json:"sessionContext,omitempty"`
	InvokedBy      string             `json:"invokedBy,omitempty"` // of Session.ViaService
}

// CloudTrailSession is the role behind a session.
type CloudTrailSession struct {
	SessionIssuer CloudTrailIssuer `json:"sessionIssuer"`
}

// CloudTrailIssuer is the role that was assumed.
type CloudTrailIssuer struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	UserName    string `json:"userName"`
}

// CloudTrailResource is a key that a call was about.
type CloudTrailResource struct {
	AccountID string `json:"accountId"`
	Type      string `json:"type"`
	ARN       string `json:"ARN"`
}

// CloudTrailTLS is how the caller was connected.
type CloudTrailTLS struct {
	TLSVersion               string `json:"tlsVersion"`
	CipherSuite              string `json:"cipherSuite"`
	ClientProvidedHostHeader string `json:"clientProvidedHostHeader"`
}

// CloudTrail returns the account's events, of all Regions, oldest first: those
// among the last 16384 calls since the last ResetCalls. The caller owns them.
func (a *Account) CloudTrail() []CloudTrailEvent {
	a.f.mu.Lock()
	records := slices.Clone(a.f.trail.records)
	a.f.mu.Unlock()
	events := []CloudTrailEvent{} // none is [] in JSON
	for _, r := range records {
		if slices.Contains(r.recipients, a.id) {
			events = append(events, r.event(a.id))
		}
	}
	return events
}

// origin is where a call over HTTP came from.
type origin struct {
	address, agent string
	tls            *CloudTrailTLS
}

// inProcess is what events say of a [Client]'s calls.
var inProcess = &origin{address: "127.0.0.1", agent: "kmsfake in process"}

func originOf(req *http.Request) *origin {
	o := &origin{address: req.RemoteAddr, agent: req.UserAgent()}
	if peer, err := netip.ParseAddrPort(req.RemoteAddr); err == nil {
		o.address = peer.Addr().Unmap().String()
	}
	if s := req.TLS; s != nil {
		version := strings.Replace(tls.VersionName(s.Version), "TLS ", "TLSv", 1)
		o.tls = &CloudTrailTLS{version, tls.CipherSuiteName(s.CipherSuite), req.Host}
	}
	return o
}

// trailRecord is what is kept of a call; it never changes. Events are made of it
// when somebody asks.
type trailRecord struct {
	call       Call
	who        *principal
	from       *origin
	invokedBy  string
	parameters json.RawMessage // nil: none
	elements   json.RawMessage
	material   []labelled
	resources  []CloudTrailResource
	recipients []string // accounts
}

// labelled is a value with its name.
type labelled struct{ name, value string }

// event is the record as one of its recipients sees it.
func (r *trailRecord) event(account string) CloudTrailEvent {
	c := &r.call
	e := CloudTrailEvent{
		EventVersion: "1.11", UserIdentity: r.identity(account), EventTime: c.Time.UTC().Truncate(time.Second),
		EventSource: "kms.amazonaws.com", EventName: c.Operation, AWSRegion: c.Region,
		SourceIPAddress: r.from.address, UserAgent: r.from.agent,
		ErrorCode: c.Code, ErrorMessage: c.Message,
		RequestParameters: object(r.parameters), ResponseElements: object(r.elements),
		RequestID: c.RequestID, EventID: uuidOf(c.RequestID, "event", account), ReadOnly: readOnly(c.Operation),
		Resources: slices.Clone(r.resources), EventType: "AwsApiCall", ManagementEvent: true,
		RecipientAccountID: account, EventCategory: "Management",
	}
	if len(r.recipients) > 1 {
		e.SharedEventID = uuidOf(c.RequestID, "shared", "")
	}
	for _, m := range r.material {
		if e.AdditionalEventData == nil {
			e.AdditionalEventData = make(map[string]string)
		}
		e.AdditionalEventData[m.name] = m.value
	}
	if c.Code == "AccessDeniedException" {
		e.ErrorCode = "AccessDenied" // CloudTrail has a word of its own for it
	}
	if r.invokedBy != "" {
		e.SourceIPAddress, e.UserAgent = r.invokedBy, r.invokedBy
	}
	if r.from.tls != nil {
		details := *r.from.tls
		e.TLSDetails = &details
	}
	return e
}

// uuidOf is a UUID that belongs to a request, and always the same for one.
func uuidOf(requestID, what, account string) string {
	sum := sha256.Sum256([]byte(requestID + " " + what + " " + account))
	id := [16]byte(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return formatUUID(id)
}

// object decodes what encodeTrail wrote.
func object(raw json.RawMessage) (m map[string]any) {
	if raw != nil {
		if err := json.Unmarshal(raw, &m); err != nil {
			panic("kmsfake: internal error: " + err.Error())
		}
	}
	return m
}

func (r *trailRecord) identity(recipient string) CloudTrailIdentity {
	who := r.who
	id := CloudTrailIdentity{AccountID: who.account, InvokedBy: r.invokedBy}
	role := "arn:" + who.partition + ":iam::" + who.account + ":role" + who.path + who.name
	switch who.kind {
	case kindRoot:
		id.Type, id.PrincipalID = "Root", who.account
	case kindUser:
		id.Type, id.PrincipalID, id.UserName = "IAMUser", uniqueID("AIDA", who.arn), who.name
	case kindFederated:
		id.Type, id.PrincipalID = "FederatedUser", who.account+":"+who.name
	case kindRole:
		issuer := CloudTrailIssuer{"Role", uniqueID("AROA", who.identity()), role, who.account, who.name}
		session := who.session
		if session == "" {
			session = defaultSession
		}
		id.Type, id.PrincipalID = "AssumedRole", issuer.PrincipalID+":"+session
		id.SessionContext = &CloudTrailSession{issuer}
	}
	if recipient != who.account {
		return CloudTrailIdentity{Type: "AWSAccount", PrincipalID: id.PrincipalID, AccountID: who.account, InvokedBy: r.invokedBy}
	}
	id.ARN, id.AccessKeyID = who.caller(), r.call.AccessKeyID
	return id
}

// uniqueID is an id like those that IAM gives to users (AIDA) and roles (AROA),
// and always the same for one.
func uniqueID(prefix, of string) string {
	sum := sha256.Sum256([]byte(of))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

// readOnly is what CloudTrail says of an operation. That cryptographic ones are
// read-only is AWS's view: they do not change the key.
func readOnly(operation string) bool {
	return cryptographic[operation] || operation == "GenerateRandom" ||
		strings.HasPrefix(operation, "Get") || strings.HasPrefix(operation, "List") || strings.HasPrefix(operation, "Describe")
}
