package kmsfake

import (
	"fmt"
	"strings"
)

type principalKind uint8

const (
	kindRoot principalKind = iota + 1
	kindUser
	kindRole // a role, or a session of it
	kindFederated
)

// principal is who calls, or whom a policy names.
type principal struct {
	arn       string // as it was written
	partition string
	account   string
	kind      principalKind
	path      string // "/" or "/team/": kept for aws:PrincipalArn, ignored when matching
	name      string
	session   string // of an assumed role
}

// defaultSession names the session of a caller that was given as a bare role:
// nobody calls AWS as a role, only as a session of one.
const defaultSession = "kmsfake"

// parsePrincipal accepts the ARNs of accounts, users, roles, assumed-role
// sessions and federated users, and a bare account id for the account's root.
func parsePrincipal(s string) (principal, error) {
	if isAccount(s) {
		return principal{arn: "arn:aws:iam::" + s + ":root", partition: "aws", account: s, kind: kindRoot}, nil
	}
	bad := func() (principal, error) { return principal{}, fmt.Errorf("%q is not the ARN of a principal", s) }
	part := strings.SplitN(s, ":", 6)
	if len(part) != 6 || part[0] != "arn" || !isPartition(part[1]) || part[3] != "" || !isAccount(part[4]) {
		return bad()
	}
	p := principal{arn: s, partition: part[1], account: part[4]}
	kind, rest, _ := strings.Cut(part[5], "/")
	switch part[2] + ":" + kind {
	case "iam:root":
		if part[5] != "root" {
			return bad()
		}
		p.kind = kindRoot
		return p, nil
	case "iam:user", "iam:role":
		p.kind = kindUser
		if kind == "role" {
			p.kind = kindRole
		}
		cut := strings.LastIndexByte(rest, '/')
		p.path, p.name = "/"+rest[:cut+1], rest[cut+1:]
	case "sts:assumed-role":
		var ok bool
		if p.name, p.session, ok = strings.Cut(rest, "/"); !ok || !isPrincipalName(p.session) {
			return bad()
		}
		p.kind, p.path = kindRole, "/"
	case "sts:federated-user":
		p.kind, p.name = kindFederated, rest
	default:
		return bad()
	}
	if !isPrincipalName(p.name) {
		return bad()
	}
	return p, nil
}

// caller is the ARN that AWS writes into messages and CloudTrail: of a session,
// never of the role itself.
func (p *principal) caller() string {
	if p.kind == kindRole {
		return "arn:" + p.partition + ":sts::" + p.account + ":assumed-role/" + p.name + "/" + p.sessionName()
	}
	return p.arn
}

// policyARN is the value of aws:PrincipalArn: of a session, its role.
func (p *principal) policyARN() string {
	if p.kind == kindRole {
		return "arn:" + p.partition + ":iam::" + p.account + ":role" + p.path + p.name
	}
	return p.arn
}

// identity is the key under which identity policies are kept: sessions share
// their role's.
func (p *principal) identity() string {
	return p.account + "/" + string('0'+rune(p.kind)) + "/" + p.name
}

// rootIdentity is the identity of an account's root.
func rootIdentity(account string) string {
	return (&principal{account: account, kind: kindRoot}).identity()
}

// is reports whether the caller p is the principal that ref names: a role covers
// its sessions, a session ARN only itself. Names are unique in an account, so
// paths are not compared (session ARNs have none). The root ARN is not handled
// here: in policies it means the account, see match.
func (p *principal) is(ref *principal) bool {
	if p.account != ref.account || p.kind != ref.kind || p.name != ref.name {
		return false
	}
	if ref.session == "" {
		return true
	}
	return p.sessionName() == ref.session
}

func (p *principal) sessionName() string {
	if p.session == "" {
		return defaultSession
	}
	return p.session
}

func isAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func isPartition(s string) bool { return s == "aws" || strings.HasPrefix(s, "aws-") }

func isPrincipalName(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_+=,.@-", c) >= 0) {
			return false
		}
	}
	return true
}

// partitionOf is the partition that a Region belongs to.
func partitionOf(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// isRegion checks the shape only: new Regions need no new fake.
func isRegion(s string) bool {
	if len(s) < 3 || len(s) > 32 || strings.IndexByte(s, '-') <= 0 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}
