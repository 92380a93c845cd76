package kmsfake

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// state is all that the service remembers; what Options.File holds.
type state struct {
	Secret     []byte                    // authenticates blob headers
	Keys       map[string]*keyState      // by key ARN
	Aliases    map[string]*aliasState    // by alias ARN
	Identities map[string][]*identityDoc // by principal.identity
	AccessKeys map[string]accessKey      // by access key id
}

type identityDoc struct {
	Document string
	policy   *policy
}

type aliasState struct {
	Name, Account, Region, Target string // Target is a key id
	Created, Updated              time.Time
}

type accessKey struct {
	Principal string
	Secret    string // "" if signatures are not verified
}

// keyState is one customer managed key in one Region.
type keyState struct {
	ID, Account, Region string
	Description         string
	State               types.KeyState
	Created             time.Time
	DeletionDate        time.Time // zero unless pending deletion
	Window              int32     // days, while pending deletion
	Policy              string    // the document as it was put
	Materials           []material
	Rotation            rotation
	Tags                []tag
	Grants              []*grantState // in the order of their creation

	policy    *policy
	byGrantee map[string][]*grantState // by principal.identity; nil until needed
}

// material is one generation of key material; the last one encrypts.
type material struct {
	ID      string // 64 hex digits
	Key     []byte
	Created time.Time
}

type rotation struct {
	Enabled bool
	Days    int32
	Next    time.Time
}

type tag struct{ Key, Value string }

func newState() *state {
	secret := make([]byte, 32)
	rand.Read(secret)
	return &state{
		Secret:     secret,
		Keys:       make(map[string]*keyState),
		Aliases:    make(map[string]*aliasState),
		Identities: make(map[string][]*identityDoc),
		AccessKeys: make(map[string]accessKey),
	}
}

func keyARN(region, account, id string) string {
	return "arn:" + partitionOf(region) + ":kms:" + region + ":" + account + ":key/" + id
}

func aliasARN(region, account, name string) string {
	return "arn:" + partitionOf(region) + ":kms:" + region + ":" + account + ":" + name
}

// ARN is the key's.
func (k *keyState) ARN() string { return keyARN(k.Region, k.Account, k.ID) }

// newKey makes an enabled key and puts it into the state.
func (st *state) newKey(account, region, document string, p *policy, now time.Time) *keyState {
	k := &keyState{
		ID: newUUID(), Account: account, Region: region, Created: now,
		State: types.KeyStateEnabled, Policy: document, policy: p,
	}
	k.rotate(now)
	st.Keys[k.ARN()] = k
	return k
}

// rotate adds new material. What the older ones sealed still opens: KMS keeps
// every generation until the key itself is deleted.
func (k *keyState) rotate(now time.Time) {
	raw := make([]byte, materialLen)
	rand.Read(raw)
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte(k.ARN()))
	k.Materials = append(k.Materials, material{ID: hex.EncodeToString(mac.Sum(nil)), Key: raw, Created: now})
}

func (k *keyState) current() *material { return &k.Materials[len(k.Materials)-1] }

func (k *keyState) material(id string) *material {
	for i := range k.Materials {
		if k.Materials[i].ID == id {
			return &k.Materials[i]
		}
	}
	return nil
}

// advance brings a key to the present: it reports false if its deletion window
// has passed, and makes the automatic rotations that are due. There is no
// background goroutine; time passes when somebody looks.
func (k *keyState) advance(now time.Time) (alive, changed bool) {
	if k.State == types.KeyStatePendingDeletion && !now.Before(k.DeletionDate) {
		return false, true
	}
	if k.Rotation.Enabled && k.State == types.KeyStateEnabled && !now.Before(k.Rotation.Next) {
		// However long nobody looked, one new material serves as well as ten.
		k.rotate(k.Rotation.Next)
		period := time.Duration(k.Rotation.Days) * 24 * time.Hour
		behind := now.Sub(k.Rotation.Next) / period
		k.Rotation.Next = k.Rotation.Next.Add((behind + 1) * period)
		return true, true
	}
	return true, false
}

// remove deletes a key as AWS does at the end of the window: the material is
// gone, and so are the aliases.
func (st *state) remove(k *keyState) {
	for i := range k.Materials {
		clear(k.Materials[i].Key)
	}
	delete(st.Keys, k.ARN())
	for arn, a := range st.Aliases {
		if a.Account == k.Account && a.Region == k.Region && a.Target == k.ID {
			delete(st.Aliases, arn)
		}
	}
}
