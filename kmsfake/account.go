package kmsfake

import (
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Account is one AWS account in one Region, as its owner's hand: what it does
// is not authorized, is not in Calls, and meets no fault or latency.
type Account struct {
	f          *KMS
	id, region string
}

// Account returns an account by its 12 digits. Accounts need no creation.
func (f *KMS) Account(id string) *Account {
	f.helper()
	if !isAccount(id) {
		f.misuse("%q is not an account id", id)
	}
	return &Account{f: f, id: id, region: DefaultRegion}
}

// Region returns the same account in another Region.
func (a *Account) Region(region string) *Account {
	a.f.helper()
	if !isRegion(region) {
		a.f.misuse("%q is not a Region", region)
	}
	return &Account{f: a.f, id: a.id, region: region}
}

// ID is the account's 12 digits.
func (a *Account) ID() string { return a.id }

// Root is the ARN of the account's root user.
func (a *Account) Root() string { return "arn:" + partitionOf(a.region) + ":iam::" + a.id + ":root" }

// CreateKey creates an enabled symmetric key. An empty policy is AWS's default,
// which leaves everything to the account's IAM. A policy that KMS would refuse as
// malformed fails the test (see Options.TB); the lockout safety check is not
// made, so that a test can have a key which nobody may manage.
func (a *Account) CreateKey(policy string) *Key {
	a.f.helper()
	if policy == "" {
		policy = defaultPolicy(a.region, a.id)
	}
	p, err := parsePolicy(policy, true)
	if err != nil {
		a.f.misuse("CreateKey: %v: %.200q", err, policy)
	}
	var k *keyState
	a.f.change("CreateKey", func() bool {
		k = &keyState{ID: newUUID(), Account: a.id, Region: a.region, Created: a.f.now(), Policy: policy, policy: p}
		k.rotate(k.Created, "")
		a.f.st.put(k)
		return true
	})
	return &Key{f: a.f, account: a.id, region: a.region, id: k.ID}
}

// Key returns the key with an ARN or, in this account and Region, an id: one
// that was made over the wire, say, or before a restart.
func (a *Account) Key(id string) *Key {
	a.f.helper()
	k := &Key{f: a.f, account: a.id, region: a.region, id: id}
	if region, account, short, ok := splitKeyARN(id); ok {
		k = &Key{f: a.f, account: account, region: region, id: short}
	}
	k.view("Key", func(*keyState) {})
	return k
}

// PutIdentityPolicy attaches one more identity policy (no Principal element) to
// a user, a role, or a session's role, of any account. From then on the
// principal may do what its policies say, see Options.StrictIAM.
func (a *Account) PutIdentityPolicy(principalARN, policy string) {
	a.f.helper()
	if a.f.mustPrincipal(principalARN).account != a.id {
		a.f.misuse("PutIdentityPolicy: %s is not of account %s", principalARN, a.id)
	}
	if err := a.f.putIdentityPolicy(principalARN, policy); err != nil {
		a.f.misuse("PutIdentityPolicy: %v", err)
	}
}

func (f *KMS) putIdentityPolicy(principalARN, policy string) error {
	who, err := parsePrincipal(principalARN)
	if err != nil {
		return err
	}
	p, err := parsePolicy(policy, false)
	if err != nil {
		return err
	}
	return f.apply(func() bool {
		id := who.identity()
		f.st.Identities[id] = append(f.st.Identities[id], &identityDoc{Document: policy, policy: p})
		return true
	})
}

// DeleteIdentityPolicies detaches all identity policies of a principal, which
// then counts as one for which none was ever put.
func (a *Account) DeleteIdentityPolicies(principalARN string) {
	a.f.helper()
	a.f.mustPrincipal(principalARN)
	if err := a.f.deleteIdentityPolicies(principalARN); err != nil {
		a.f.misuse("DeleteIdentityPolicies: %v", err)
	}
}

func (f *KMS) deleteIdentityPolicies(principalARN string) error {
	who, err := parsePrincipal(principalARN)
	if err != nil {
		return err
	}
	return f.apply(func() bool {
		delete(f.st.Identities, who.identity())
		return true
	})
}

// change is apply for the test's hand.
func (f *KMS) change(name string, do func() (changed bool)) {
	f.helper()
	if err := f.apply(do); err != nil {
		f.misuse("%s: %v", name, err)
	}
}

// apply runs a control under the lock and makes it durable.
func (f *KMS) apply(do func() (changed bool)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if do() {
		f.dirty = true
		f.propagate()
	}
	return f.save()
}

// Key is a handle on one key, as its owner's hand. Its methods take effect at
// once (but see Propagation), need no permission, and fail the test if the key is gone.
type Key struct {
	f                   *KMS
	account, region, id string
}

// ARN is the key's Amazon Resource Name.
func (k *Key) ARN() string { return keyARN(k.region, k.account, k.id) }

// ID is the key id alone.
func (k *Key) ID() string { return k.id }

// view runs do under the lock on the key's present state.
func (k *Key) view(name string, do func(*keyState)) { k.f.helper(); k.with(name, false, do) }

// edit is view for what changes the key.
func (k *Key) edit(name string, do func(*keyState)) { k.f.helper(); k.with(name, true, do) }

func (k *Key) with(name string, changes bool, do func(*keyState)) {
	k.f.helper()
	gone := false
	k.f.change(name, func() bool {
		ks := k.f.live(k.ARN())
		if gone = ks == nil; !gone {
			do(ks)
		}
		return changes && !gone
	})
	if gone {
		k.f.misuse("%s: key %s does not exist", name, k.ARN())
	}
}

// State is the key's state: Enabled, Disabled, PendingDeletion, PendingImport ...
func (k *Key) State() (s types.KeyState) {
	k.f.helper()
	k.view("State", func(ks *keyState) { s = ks.State })
	return s
}

// Enable lets the key be used again, also one whose deletion was scheduled. A key
// without its imported material is then pending import.
func (k *Key) Enable() { k.f.helper(); k.set("Enable", types.KeyStateEnabled) }

// Disable stops all cryptographic use of the key.
func (k *Key) Disable() { k.f.helper(); k.set("Disable", types.KeyStateDisabled) }

// CancelDeletion ends the waiting period; the key is then disabled, as in AWS.
func (k *Key) CancelDeletion() { k.f.helper(); k.set("CancelDeletion", types.KeyStateDisabled) }

// SetState puts the key into a state in which it stays: also into those that in
// KMS end by themselves (Creating, Updating) or that only keys of custom key
// stores have (Unavailable). For a deletion there is ScheduleDeletion, and
// PendingImport is for keys whose material can be imported.
func (k *Key) SetState(s types.KeyState) {
	k.f.helper()
	column, known := stateColumns[s]
	if !known || column == stateColumns[types.KeyStatePendingDeletion] {
		k.f.misuse("SetState: not %q", s)
	}
	k.view("SetState", func(ks *keyState) { known = ks.imported() || s != types.KeyStatePendingImport })
	if !known {
		k.f.misuse("SetState: material that KMS made cannot be imported again")
	}
	k.set("SetState", s)
}

func (k *Key) set(name string, s types.KeyState) {
	k.f.helper()
	k.edit(name, func(ks *keyState) {
		ks.Window, ks.DeletionDate = 0, time.Time{}
		switch s {
		case types.KeyStateEnabled, types.KeyStateDisabled:
			s = ks.wholeState(s)
		case types.KeyStatePendingImport:
			for i := range ks.Materials {
				ks.Materials[i].drop()
			}
		}
		ks.become(s)
	})
}

// ScheduleDeletion starts the waiting period; KMS has 7 to 30 days, a test any.
// That of a multi-Region primary begins when its last replica is gone.
func (k *Key) ScheduleDeletion(days int) {
	k.f.helper()
	k.edit("ScheduleDeletion", func(ks *keyState) { k.f.st.schedule(ks, int32(days), k.f.now()) })
}

// Delete destroys the key as if its waiting period had passed. What it sealed
// is lost, and callers of other accounts are denied as by a policy.
func (k *Key) Delete() {
	k.f.helper()
	replicas := false
	k.edit("Delete", func(ks *keyState) {
		if replicas = ks.isPrimary() && len(ks.Regions) > 1; !replicas {
			k.f.st.remove(ks, k.f.now())
		}
	})
	if replicas {
		k.f.misuse("Delete: %s has replicas; a primary is deleted after them", k.ARN())
	}
}

// Rotate gives the key new material. Older ciphertexts still open.
func (k *Key) Rotate() {
	k.f.helper()
	k.edit("Rotate", func(ks *keyState) {
		ks.rotate(k.f.now(), types.RotationTypeOnDemand)
		k.f.st.share(ks)
	})
}

// MaterialID is the id of the material that encrypts now.
//
// It is empty for a key into which none was imported yet.
func (k *Key) MaterialID() (id string) {
	k.f.helper()
	k.view("MaterialID", func(ks *keyState) {
		if m := ks.current(); m != nil {
			id = m.ID
		}
	})
	return id
}

// Policy is the key policy, as it was put.
func (k *Key) Policy() (document string) {
	k.f.helper()
	k.view("Policy", func(ks *keyState) { document = ks.Policy })
	return document
}

// SetPolicy replaces the key policy, without the lockout safety check.
func (k *Key) SetPolicy(document string) {
	k.f.helper()
	p, err := parsePolicy(document, true)
	if err != nil {
		k.f.misuse("SetPolicy: %v: %.200q", err, document)
	}
	k.edit("SetPolicy", func(ks *keyState) { ks.Policy, ks.policy = document, p })
}

// DenyTo adds an explicit Deny of kms:* for a principal to the key policy: the
// quickest way of a customer to stop one vendor.
func (k *Key) DenyTo(principalARN string) { k.f.helper(); k.deny(principalARN, true) }

// AllowTo takes back DenyTo. It grants nothing that the policy does not.
func (k *Key) AllowTo(principalARN string) { k.f.helper(); k.deny(principalARN, false) }

func (k *Key) deny(principalARN string, deny bool) {
	k.f.helper()
	k.f.mustPrincipal(principalARN)
	sid := "kmsfake DenyTo " + principalARN
	var err error
	k.edit("DenyTo", func(ks *keyState) {
		var document []byte
		if document, err = json.Marshal(withDeny(ks.Policy, sid, principalARN, deny)); err != nil {
			return
		}
		var p *policy
		if p, err = parsePolicy(string(document), true); err == nil {
			ks.Policy, ks.policy = string(document), p
		}
	})
	if err != nil { // too large now, or nothing left without the deny
		k.f.misuse("DenyTo, AllowTo: %v", err)
	}
}

// withDeny is a policy document without, and perhaps again with, the statement sid.
func withDeny(document, sid, principalARN string, deny bool) map[string]json.RawMessage {
	doc, _ := members([]byte(document))
	old, _ := oneOrMany(doc["Statement"])
	var statements []json.RawMessage
	for _, raw := range old {
		s, _ := members(raw)
		if name, _ := text(s["Sid"]); name != sid {
			statements = append(statements, raw)
		}
	}
	if deny {
		raw, _ := json.Marshal(map[string]any{
			"Sid": sid, "Effect": "Deny", "Principal": map[string]string{"AWS": principalARN},
			"Action": "kms:*", "Resource": "*",
		})
		statements = append(statements, raw)
	}
	doc["Statement"], _ = json.Marshal(statements)
	return doc
}
