package byok

import "time"

// Status is what a tenant's key is, in one word: the projection of its
// lifecycle (durable, moved by commands) and of access to it (observed).
type Status string

// The statuses.
const (
	StatusPendingWaiver Status = "pending_waiver" // registered and validated; no waiver acknowledged yet
	StatusActive        Status = "active"         // in use
	StatusDisabled      Status = "disabled"       // KMS denies us, or the platform suspended the tenant; Reason says which
	StatusRevoked       Status = "revoked"        // removed by the tenant; the record and the audit trail remain

	// StatusPlatform: in use, but the tenant has no key: its data keys are wrapped by the platform's CMK
	// (Options.PlatformKeys). The tenant can stop nothing.
	StatusPlatform Status = "platform"
)

// Access is what this process last saw of the CMK.
type Access string

// The accesses.
const (
	AccessUnknown    Access = "unknown"    // not asked since the process started
	AccessAccessible Access = "accessible" // the newest answer was a success
	AccessDegraded   Access = "degraded"   // no authoritative answer: outage, throttling, our own credentials
	AccessBlocked    Access = "blocked"    // the newest authoritative answer was a denial
)

// Warnings that a KeyStatus and a Health can carry.
const (
	WarnPolicyNotTenantBound = "policy_not_tenant_bound" // the key policy lets us in for other tenants too
	WarnPolicyBindingUnknown = "policy_binding_unknown"  // could not be told at registration
	WarnWaiverOutdated       = "waiver_outdated"         // activated under an earlier waiver text
	WarnPendingDeletion      = "cmk_pending_deletion"    // Health, if DescribeKey is granted
	WarnDescribeNotGranted   = "describe_key_not_granted"
	// WarnDataKeysOnceElsewhere: KeyStatus.OnceElsewhere data keys, or such as envelopes carry, were wrapped by the platform's CMK
	// before the tenant had a key. Whoever has a copy of that wrapping and may use the platform's CMK opens what they sealed.
	WarnDataKeysOnceElsewhere = "data_keys_once_wrapped_elsewhere"
	WarnDataKeysRemain        = "data_keys_remain" // the key was removed, and KeyStatus.DataKeys data keys need it: what they sealed does not open
)

// KeyStatus is the state of a tenant's key.
type KeyStatus struct {
	Tenant             string
	Key                KeyID
	PlatformKey        bool        // Key is the platform's, and the tenant never had one: in whatever Status
	MovingTo           KeyID       // a move to this CMK is under way, and has not switched; zero: none
	Job                string      // id of the rotation or move that is under way; "": none
	Policy             Policy      // of several keys; "" if the tenant has one
	Keys               []KeyAccess // to each of several keys, Key first; nil if the tenant has one
	Alias              string      // as the tenant named it; never used to find the key
	Description        string
	Status             Status
	Reason             string // why Status is disabled or revoked; "" otherwise
	Access             Access
	AccessClass        Class     // why Access is degraded or blocked: of the newest refusal; zero otherwise
	AccessSince        time.Time // when this process began to see Access; zero: it is unknown
	LastProof          time.Time // when the newest GenerateDataKey or Decrypt of this process that succeeded was issued; zero: none
	LastProofRequestID string    // its KMS request id, as in the tenant's CloudTrail
	DeletionAt         time.Time // of the CMK, as DescribeKey told this process last; zero: none pending, or not told
	KeyMaterialID      string    // key material of the CMK that encrypted last, if KMS tells; "" otherwise
	KeyMaterialSince   time.Time // when it was first seen
	CreatedAt          time.Time
	LastValidatedAt    time.Time // zero: never
	LastRotationAt     time.Time // zero: never
	DEKVersion         uint64    // the generation of data keys that seals; 1 at registration
	DataKeys           uint64    // data keys that this tenant's CMKs have wrapped, of all generations
	OnceElsewhere      uint64    // of DataKeys: were wrapped by the platform's CMK before the tenant had a key; see WarnDataKeysOnceElsewhere
	WaiverAcknowledged bool      // the current waiver
	Drillable          bool      // drills may block this tenant; see Tenant.SetDrillable
	Warnings           []string
}

// KeyAccess is what this process knows of one key of several.
type KeyAccess struct {
	Key                KeyID
	Access             Access
	AccessClass        Class
	AccessSince        time.Time
	LastProof          time.Time
	LastProofRequestID string
	DeletionAt         time.Time
}

// Health is the answer to "is the key usable now", found out by using it.
type Health struct {
	Status          HealthStatus
	KeyStatus       KeyStatus
	LastEncryption  time.Time // last Seal in this process; zero: none
	LastDecryption  time.Time // last Open in this process; zero: none
	CMKAccessible   bool
	Latency         time.Duration // of the slowest KMS call made for this
	Checks          []Check
	RevocationBound time.Duration // Options.MaxAge; 0 in per-operation mode
	BudgetUsed      float64       // of the tenant's budget of KMS requests for data, in this process: 0 to 1
	DeletionAt      time.Time     // zero: none pending, or DescribeKey is not granted
	Warnings        []string
}

// HealthStatus sums up the checks.
type HealthStatus string

// The health statuses.
const (
	Healthy   HealthStatus = "healthy"
	Degraded  HealthStatus = "degraded"  // KMS does not answer for now; a lease may still serve
	Unhealthy HealthStatus = "unhealthy" // data operations are refused
)

// Check is one thing that Health tried.
type Check struct {
	Key       KeyID         // which of several keys; zero if the tenant has one, and for what asks no KMS
	Name      string        // "store", "waiver", "generate_data_key", "encrypt", "decrypt", "describe_key"
	Status    string        // "pass", "fail" or "warn"
	Code      string        // BYOK_..., when it failed
	RequestID string        // of the KMS call, if it was one
	Took      time.Duration // zero when it was not a call
}

// Registration asks for a CMK to be a tenant's key.
type Registration struct {
	Key         KeyID
	Others      []KeyID // further CMKs, at most 7; what for is for Policy to say
	Policy      Policy  // required with Others: PolicyAll, or PolicyAny with Options.AllowAnyKeyToOpenAlone
	Alias       string  // at most 256 bytes, for people
	Description string  // at most 1024 bytes, for people

	// AbandonExistingData registers another CMK than the one that wraps the
	// tenant's data keys, and gives up opening what they sealed. Nothing is deleted: registering
	// the old CMK again opens it again. That does not work if it is the platform's. What is given up has to be stopped
	// first, by Revoke; and since processes that do not Run seal with the old data keys for MaxAge after it, wait that long.
	AbandonExistingData bool

	// Drillable lets a revocation drill block this tenant; see Tenant.SetDrillable.
	Drillable bool
}

// Rotation asks for new data keys for new data.
type Rotation struct {
	Type   string // RotateDEK or RotateFull; "" is ErrArgument
	Reason string // at most 1024 bytes, for the audit log
}

// RotateDEK starts a new generation of data keys; older ones go on opening what
// they sealed.
const RotateDEK = "dek"

// RotateFull does the same, and wraps every older data key anew under the CMK's current key material, in the background: a job.
const RotateFull = "full"

// RotationResult is what a rotation did.
type RotationResult struct {
	ID              string // of its audit event
	Type            string
	PreviousVersion uint64
	NewVersion      uint64
	StartedAt       time.Time
	CompletedAt     time.Time // of RotateFull: when its job had been begun
	Reason          string
	Job             Job // its ID is ID; of RotateDEK, it is done
}
