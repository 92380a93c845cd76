package kmsfake

import (
	"regexp"
	"strings"
)

// aim is what a call wants to do with which key, before the key is known.
type aim struct {
	action string // "kms:Encrypt"
	id     string // key id, key ARN, alias name or alias ARN, as the caller wrote it
	ec     map[string]string
	alg    string
	extra  map[string][]string // more condition keys, lower case

	creating *grantState // of CreateGrant: the grant that it would make
}

var shortID = regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)

// authorized finds the key of an aim and decides whether the caller may. A key
// of another account that does not exist is denied in the very words in which an
// existing one is: strangers learn nothing about which keys there are.
func (r *request) authorized(a aim) (*keyState, error) {
	k, alias, err := r.find(a.id)
	if err != nil {
		return nil, err
	}
	if _, err := r.presented(); err != nil {
		return nil, err
	}
	if k == nil {
		return nil, r.denied(a.action, "on resource: "+a.id, r.unseen(a.action, a.id))
	}
	r.about(k)
	resource := k.ARN()
	if k.Account != r.who.account {
		resource = a.id // a stranger's alias must not tell which key is behind it
	}
	if v := r.judge(k, a, alias); v != allowed {
		return nil, r.denied(a.action, "on resource: "+resource, v)
	}
	return k, nil
}

func (r *request) judge(k *keyState, a aim, alias string) verdict {
	q := r.ask(k, &a, alias)
	return r.decided(q, q.decide())
}

// own decides about a resource that has no key policy.
func (r *request) own(action, resource string) error { return r.ownWith(action, resource, nil) }

// ownWith is own for a call that carries condition keys, in lower case.
func (r *request) ownWith(action, resource string, extra map[string][]string) error {
	q := r.askOwn(&aim{action: action, extra: extra}, resource, nil)
	if v := r.decided(q, q.decide()); v != allowed {
		return r.denied(action, "on resource: "+resource, v)
	}
	return nil
}

func (r *request) denied(action, on string, v verdict) error {
	return fail("AccessDeniedException", "User: %s is not authorized to perform: %s %s %s",
		r.who.caller(), action, on, v.because(action))
}

// find looks a key up by any of its four names. A key that does not exist is a
// NotFoundException at home, and nil without an error in another account.
func (r *request) find(id string) (k *keyState, alias string, err error) {
	switch {
	case strings.HasPrefix(id, "arn:"):
		return r.findARN(id)
	case strings.HasPrefix(id, "alias/"):
		return r.findAlias(aliasARN(r.region, r.who.account, id))
	case shortID.MatchString(id):
		arn := keyARN(r.region, r.who.account, id)
		if k = r.live(arn); k == nil {
			return nil, "", fail("NotFoundException", "Key '%s' does not exist", arn)
		}
		return k, "", nil
	}
	return nil, "", fail("NotFoundException", "Invalid keyId '%s'", id)
}

func (r *request) findARN(arn string) (k *keyState, alias string, err error) {
	region, account, resource, ok := splitARN(arn)
	if !ok {
		if invalidArn[r.op] {
			return nil, "", fail("InvalidArnException", "Invalid arn %s", arn)
		}
		return nil, "", fail("NotFoundException", "Invalid arn %s", arn)
	}
	home := account == r.who.account
	if region != r.region {
		if !home {
			return nil, "", nil
		}
		return nil, "", fail("NotFoundException", "Invalid arn %s", region)
	}
	if strings.HasPrefix(resource, "alias/") {
		k, alias, err = r.findAlias(arn)
		if err != nil && !home {
			return nil, "", nil
		}
		return k, alias, err
	}
	if k = r.live(arn); k == nil && home {
		return nil, "", fail("NotFoundException", "Key '%s' does not exist", arn)
	}
	return k, "", nil
}

func (r *request) findAlias(arn string) (*keyState, string, error) {
	a := r.st.Aliases[arn]
	if a != nil {
		if k := r.live(keyARN(a.Region, a.Account, a.Target)); k != nil {
			return k, a.Name, nil
		}
	}
	return nil, "", fail("NotFoundException", "Alias %s is not found.", arn)
}

func (r *request) live(arn string) *keyState { return r.f.live(arn) }

// invalidArn are the operations whose model has InvalidArnException.
var invalidArn = map[string]bool{
	"CancelKeyDeletion": true, "CreateGrant": true, "DeleteImportedKeyMaterial": true, "DescribeKey": true, "DisableKey": true,
	"DisableKeyRotation": true, "EnableKey": true, "EnableKeyRotation": true, "GetKeyLastUsage": true, "GetKeyPolicy": true,
	"GetKeyRotationStatus": true, "GetParametersForImport": true, "GetPublicKey": true, "ImportKeyMaterial": true,
	"ListAliases": true, "ListGrants": true, "ListKeyPolicies": true, "ListKeyRotations": true, "ListResourceTags": true,
	"ListRetirableGrants": true, "PutKeyPolicy": true, "ReplicateKey": true, "RetireGrant": true, "RevokeGrant": true,
	"RotateKeyOnDemand": true, "ScheduleKeyDeletion": true, "TagResource": true, "UntagResource": true,
	"UpdateKeyDescription": true, "UpdatePrimaryRegion": true,
}

func splitARN(arn string) (region, account, resource string, ok bool) {
	part := strings.SplitN(arn, ":", 6)
	if len(part) != 6 || part[0] != "arn" || part[2] != "kms" || !isRegion(part[3]) ||
		part[1] != partitionOf(part[3]) || !isAccount(part[4]) {
		return "", "", "", false
	}
	if !strings.HasPrefix(part[5], "key/") && !strings.HasPrefix(part[5], "alias/") {
		return "", "", "", false
	}
	return part[3], part[4], part[5], true
}

func splitKeyARN(arn string) (region, account, id string, ok bool) {
	region, account, resource, ok := splitARN(arn)
	id, isKey := strings.CutPrefix(resource, "key/")
	return region, account, id, ok && isKey
}
