package kmsfake

import (
	"crypto"
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
	Ahead      time.Duration             // of the service's clock, see Advance

	Organizations map[string]string // organization id by account id
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
	Secret    string   // "" if signatures are not verified
	Session   *Session `json:",omitempty"` // Keys in lower case
}

// keyState is one customer managed key in one Region: a single-Region key, or
// one member of a multi-Region key.
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
	Grants              []*grantState         // in the order of their creation
	PastPolicies        []was[policyText]     // see Propagation
	PastStates          []was[types.KeyState] // the same

	// Files of the first version have none of these; complete fills them in.
	Spec     types.KeySpec
	Usage    types.KeyUsageType
	Origin   types.OriginType
	OnDemand int            // rotations on demand so far
	Primary  string         // Region of the primary; "" is a single-Region key
	Regions  []string       // of the primary and its replicas, sorted
	Settles  time.Time      // when Creating or Updating ends; zero: never by itself
	Then     types.KeyState // what comes then
	LastUse  lastUse

	policy    *policy // by which is decided
	seen      seen
	byGrantee map[string][]*grantState // by principal.identity; nil until needed
}

// material is one generation of key material. Of those that are not pending the
// last one encrypts. What it is depends on the spec: 32 bytes of AES key, an HMAC
// key, a PKCS #8 private key.
type material struct {
	ID      string // 64 hex digits
	Key     []byte // nil: imported material that expired or was deleted, and may come back
	Created time.Time

	Rotated     types.RotationType // how it came; "" for the first
	Pending     bool               // imported, for the next rotation on demand
	Description string             // these four only if imported
	Expires     time.Time          // zero: never

	private crypto.Signer // the parsed private key, once it was needed
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

		Organizations: make(map[string]string),
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

// put adds a key to the state. Keys begin enabled, or waiting for an import.
func (st *state) put(k *keyState) {
	k.complete()
	if k.State == "" {
		k.State = k.wholeState(types.KeyStateEnabled)
	}
	st.Keys[k.ARN()] = k
}

// complete gives a key what files of the first version do not say about it.
func (k *keyState) complete() {
	if k.Spec == "" {
		k.Spec = types.KeySpecSymmetricDefault
	}
	if k.Usage == "" {
		k.Usage = types.KeyUsageTypeEncryptDecrypt
	}
	if k.Origin == "" {
		k.Origin = types.OriginTypeAwsKms
	}
}

func (k *keyState) symmetric() bool { return k.Spec == types.KeySpecSymmetricDefault }
func (k *keyState) imported() bool  { return k.Origin == types.OriginTypeExternal }

// rotate adds new material. What the older ones sealed still opens: KMS keeps
// every generation until the key itself is deleted.
func (k *keyState) rotate(now time.Time, how types.RotationType) {
	k.add(randomMaterial(materialLen), now, how)
}

func (k *keyState) add(raw []byte, now time.Time, how types.RotationType) {
	k.Materials = append(k.Materials, material{ID: k.materialID(raw), Key: raw, Created: now, Rotated: how})
}

func randomMaterial(n int) []byte {
	raw := make([]byte, n)
	rand.Read(raw)
	return raw
}

// materialID is the same for the same bytes in the same key, which is how the
// reimport of other material is noticed, and another one in any other key.
func (k *keyState) materialID(raw []byte) string {
	mac := hmac.New(sha256.New, pad(raw))
	if k.Primary != "" { // one id in all Regions of the key
		mac.Write([]byte(k.Account + ":" + k.ID))
	} else {
		mac.Write([]byte(k.ARN()))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// pad makes any bytes an HMAC key that FIPS mode accepts (112 bits or more).
func pad(raw []byte) []byte {
	if len(raw) < materialLen {
		sum := sha256.Sum256(raw)
		return sum[:]
	}
	return raw
}

// current is the material that encrypts. It is nil if none was ever imported.
func (k *keyState) current() *material {
	for i := len(k.Materials) - 1; i >= 0; i-- {
		if !k.Materials[i].Pending {
			return &k.Materials[i]
		}
	}
	return nil
}

func (k *keyState) material(id string) *material {
	for i := range k.Materials {
		if k.Materials[i].ID == id {
			return &k.Materials[i]
		}
	}
	return nil
}

// whole reports whether all material is there: a key that lacks one of its
// generations is unusable altogether, not only for what that one sealed.
func (k *keyState) whole() bool {
	for i := range k.Materials {
		if m := &k.Materials[i]; !m.Pending && m.Key == nil {
			return false
		}
	}
	return len(k.Materials) > 0
}

// wholeState is s for a key with all of its material, else PendingImport.
func (k *keyState) wholeState(s types.KeyState) types.KeyState {
	if k.whole() {
		return s
	}
	return types.KeyStatePendingImport
}

// sound reports whether a key that was read from a file can be worked with.
func (k *keyState) sound() bool {
	k.complete()
	_, known := stateColumns[k.State]
	if !known || k.kind() == nil || !k.imported() && !k.whole() {
		return false
	}
	for i := range k.Materials {
		if m := &k.Materials[i]; m.Key != nil && !k.fits(m.Key) {
			return false
		}
	}
	return true
}
