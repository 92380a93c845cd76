package kmsfake

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// mrk is a multi-Region key, by its owner's clients.
type mrk struct {
	t     testing.TB
	fake  *KMS
	clock *at
	id    string
}

func newMRK(t testing.TB, in kms.CreateKeyInput) *mrk {
	t.Helper()
	clock := newClock()
	fake := New(&Options{TB: t, Now: clock.Now})
	in.MultiRegion = aws.Bool(true)
	out, err := fake.Client(customer).CreateKey(context.Background(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return &mrk{t, fake, clock, *out.KeyMetadata.KeyId}
}

func (m *mrk) in(region string) *Client { return m.fake.Client(customer).Region(region) }
func (m *mrk) key(region string) *Key   { return m.fake.Account(customer).Region(region).Key(m.id) }

func (m *mrk) replicate(region string) {
	m.t.Helper()
	if _, err := m.in(DefaultRegion).ReplicateKey(context.Background(), &kms.ReplicateKeyInput{KeyId: &m.id, ReplicaRegion: &region}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mrk) describe(region string) *types.KeyMetadata {
	m.t.Helper()
	out, err := m.in(region).DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: &m.id})
	if err != nil {
		m.t.Fatal(err)
	}
	return out.KeyMetadata
}

func (m *mrk) encrypt(region string) []byte {
	m.t.Helper()
	out, err := m.in(region).Encrypt(context.Background(), &kms.EncryptInput{KeyId: &m.id, Plaintext: []byte(region),
		EncryptionContext: map[string]string{"tenant": "t1"}})
	if err != nil {
		m.t.Fatal(err)
	}
	return out.CiphertextBlob
}

func (m *mrk) decrypt(region string, blob []byte, withKey bool) error {
	in := &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{"tenant": "t1"}}
	if withKey {
		in.KeyId = aws.String(m.key(region).ARN())
	}
	return second2(m.in(region).Decrypt(context.Background(), in))
}

// A ciphertext of one Region opens in every Region that has the key, and in no
// other; what the members do not share stays their own.
func TestReplicasAreInteroperable(t *testing.T) {
	m, ctx := newMRK(t, kms.CreateKeyInput{Description: aws.String("primary"), Tags: tagsOf("a", "b")}), context.Background()
	if !strings.HasPrefix(m.id, "mrk-") || len(m.id) != 36 {
		t.Error(m.id)
	}
	before := m.encrypt(DefaultRegion)
	wantCode(t, second2(m.in("eu-west-1").Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: before,
		EncryptionContext: map[string]string{"tenant": "t1"}})), "AccessDeniedException")
	out, err := m.in(DefaultRegion).ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: &m.id, ReplicaRegion: aws.String("eu-west-1"), Tags: tagsOf("c", "d")})
	if err != nil {
		t.Fatal(err)
	}
	if md := out.ReplicaKeyMetadata; md.KeyState != types.KeyStateCreating || md.Enabled || md.CurrentKeyMaterialId != nil || *md.Description != "" ||
		*out.ReplicaPolicy != defaultPolicy("eu-west-1", customer) || len(out.ReplicaTags) != 1 {
		t.Errorf("%+v", out)
	}
	primary, replica := m.describe(DefaultRegion), m.describe("eu-west-1")
	if replica.KeyState != types.KeyStateEnabled || *replica.KeyId != m.id || *replica.CurrentKeyMaterialId != *primary.CurrentKeyMaterialId ||
		*replica.Arn != keyARN("eu-west-1", customer, m.id) {
		t.Errorf("%+v", replica)
	}
	for _, md := range []*types.KeyMetadata{primary, replica} {
		c := md.MultiRegionConfiguration
		if !*md.MultiRegion || *c.PrimaryKey.Arn != *primary.Arn || *c.PrimaryKey.Region != DefaultRegion ||
			len(c.ReplicaKeys) != 1 || *c.ReplicaKeys[0].Arn != *replica.Arn || *c.ReplicaKeys[0].Region != "eu-west-1" {
			t.Errorf("%+v", c)
		}
	}
	if primary.MultiRegionConfiguration.MultiRegionKeyType != "PRIMARY" || replica.MultiRegionConfiguration.MultiRegionKeyType != "REPLICA" {
		t.Error("types of the members")
	}
	after := m.encrypt("eu-west-1")
	for _, region := range []string{DefaultRegion, "eu-west-1"} {
		for _, withKey := range []bool{false, true} {
			for i, blob := range [][]byte{before, after} {
				if err := m.decrypt(region, blob, withKey); err != nil {
					t.Errorf("blob %d in %s, key named: %v: %v", i, region, withKey, err)
				}
			}
		}
	}
	bad := append([]byte(nil), after...)
	for bit := range len(bad) * 8 {
		bad[bit/8] ^= 1 << (bit % 8)
		if err := m.decrypt(DefaultRegion, bad, false); code(err) != "InvalidCiphertextException" {
			t.Fatalf("bit %d: %v", bit, err)
		}
		bad[bit/8] ^= 1 << (bit % 8)
	}
	// State, policy, tags, aliases and description are each member's own.
	m.key("eu-west-1").Disable()
	if err := m.decrypt(DefaultRegion, after, true); err != nil {
		t.Error(err)
	}
	wantCode(t, m.decrypt("eu-west-1", before, true), "DisabledException")
	m.key("eu-west-1").Enable()
	m.key("eu-west-1").DenyTo("arn:aws:iam::" + customer + ":root")
	wantCode(t, m.decrypt("eu-west-1", before, true), "AccessDeniedException")
	if err := m.decrypt(DefaultRegion, before, true); err != nil {
		t.Error(err)
	}
	m.key("eu-west-1").AllowTo("arn:aws:iam::" + customer + ":root")
	tags, err := m.in("eu-west-1").ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: &m.id})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].TagKey != "c" {
		t.Errorf("%+v, %v", tags, err)
	}
	if _, err := m.in("eu-west-1").CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/m"), TargetKeyId: &m.id}); err != nil {
		t.Error(err)
	}
	wantCode(t, second2(m.in(DefaultRegion).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/m")})), "NotFoundException")
}

func TestReplicateKeyRefuses(t *testing.T) {
	m, ctx := newMRK(t, kms.CreateKeyInput{}), context.Background()
	m.replicate("eu-west-1")
	single := m.fake.Account(customer).CreateKey("")
	to := func(region, id, to string) error {
		return second2(m.in(region).ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: &id, ReplicaRegion: &to}))
	}
	wantCode(t, to(DefaultRegion, m.id, "eu-west-1"), "AlreadyExistsException")
	wantCode(t, to(DefaultRegion, m.id, DefaultRegion), "AlreadyExistsException")
	wantCode(t, to(DefaultRegion, m.id, "cn-north-1"), "ValidationException")
	wantCode(t, to(DefaultRegion, m.id, "nowhere"), "ValidationException")
	wantText(t, to("eu-west-1", m.id, "us-west-2"), keyARN("eu-west-1", customer, m.id)+" is not a multi-region primary key.")
	wantText(t, to(DefaultRegion, single.ID(), "us-west-2"), single.ARN()+" is not a multi-region primary key.")
	_, err := m.in(DefaultRegion).ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: &m.id, ReplicaRegion: aws.String("us-west-2"),
		Policy: aws.String(defaultPolicy(DefaultRegion, vendor))})
	wantCode(t, err, "MalformedPolicyDocumentException")
	_, err = m.in(DefaultRegion).ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: &m.id, ReplicaRegion: aws.String("us-west-2"), Tags: tagsOf("aws:a", "")})
	wantCode(t, err, "TagException")
	if got := m.describe(DefaultRegion).MultiRegionConfiguration.ReplicaKeys; len(got) != 1 {
		t.Errorf("a refused replication left %d replicas", len(got))
	}
	// Both permissions are needed: on the primary, and to create keys over there.
	m.fake.Account(customer).PutIdentityPolicy(appRole, `{"Statement":[{"Effect":"Allow","Action":"kms:ReplicateKey","Resource":"*",
		"Condition":{"StringEquals":{"kms:ReplicaRegion":"us-west-2"}}}]}`)
	app := m.fake.Client(appRole)
	in := &kms.ReplicateKeyInput{KeyId: &m.id, ReplicaRegion: aws.String("us-west-2"), BypassPolicyLockoutSafetyCheck: true}
	wantCode(t, second2(app.ReplicateKey(ctx, in)), "AccessDeniedException")
	m.fake.Account(customer).PutIdentityPolicy(appRole, `{"Statement":[{"Effect":"Allow","Action":"kms:CreateKey","Resource":"*",
		"Condition":{"StringEquals":{"aws:RequestedRegion":"us-west-2","kms:MultiRegionKeyType":"REPLICA"}}}]}`)
	if err := second2(app.ReplicateKey(ctx, in)); err != nil {
		t.Error(err)
	}
	in.ReplicaRegion = aws.String("us-east-2")
	wantCode(t, second2(app.ReplicateKey(ctx, in)), "AccessDeniedException")
}

// Rotation belongs to the primary and happens to all, at the same instant.
func TestMembersRotateTogether(t *testing.T) {
	m, ctx := newMRK(t, kms.CreateKeyInput{}), context.Background()
	if _, err := m.in(DefaultRegion).EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &m.id}); err != nil {
		t.Fatal(err)
	}
	old := m.encrypt(DefaultRegion)
	m.replicate("eu-west-1")
	first := m.key("eu-west-1").MaterialID()
	status, err := m.in("eu-west-1").GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &m.id})
	if err != nil || !status.KeyRotationEnabled {
		t.Errorf("%+v, %v", status, err)
	}
	for _, err := range []error{
		second2(m.in("eu-west-1").EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &m.id})),
		second2(m.in("eu-west-1").DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: &m.id})),
		second2(m.in("eu-west-1").RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &m.id})),
	} {
		wantText(t, err, " is not a multi-region primary key.")
	}
	m.clock.pass(365 * day)
	rotated := m.key("eu-west-1").MaterialID() // the replica is looked at first
	if rotated == first || rotated != m.key(DefaultRegion).MaterialID() {
		t.Error("the members have different material")
	}
	if _, err := m.in(DefaultRegion).RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &m.id}); err != nil {
		t.Fatal(err)
	}
	again := m.key("eu-west-1").MaterialID()
	if again == rotated || again != m.key(DefaultRegion).MaterialID() {
		t.Error("the members have different material")
	}
	for _, region := range []string{DefaultRegion, "eu-west-1"} {
		if err := m.decrypt(region, old, false); err != nil {
			t.Errorf("%s: %v", region, err)
		}
	}
	m.replicate("us-west-2") // a late member has all generations
	if err := m.decrypt("us-west-2", old, false); err != nil {
		t.Error(err)
	}
	if _, err := m.in(DefaultRegion).DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: &m.id}); err != nil {
		t.Fatal(err)
	}
	m.clock.pass(3 * 365 * day)
	if m.key("us-west-2").MaterialID() != again {
		t.Error("rotation goes on")
	}
}

// UpdatePrimaryRegion swaps the roles; both members pass through Updating.
func TestUpdatePrimaryRegion(t *testing.T) {
	m, ctx := newMRK(t, kms.CreateKeyInput{}), context.Background()
	m.replicate("eu-west-1")
	move := func(from, to string) error {
		return second2(m.in(from).UpdatePrimaryRegion(ctx, &kms.UpdatePrimaryRegionInput{KeyId: &m.id, PrimaryRegion: &to}))
	}
	wantCode(t, move(DefaultRegion, "us-west-2"), "NotFoundException")
	wantText(t, move("eu-west-1", DefaultRegion), " is not a multi-region primary key.")
	wantCode(t, move(DefaultRegion, DefaultRegion), "UnsupportedOperationException")
	m.key("eu-west-1").Disable()
	wantText(t, move(DefaultRegion, "eu-west-1"), keyARN("eu-west-1", customer, m.id)+" is disabled.")
	m.key("eu-west-1").Enable()
	if err := move(DefaultRegion, "eu-west-1"); err != nil {
		t.Fatal(err)
	}
	for region, want := range map[string]types.MultiRegionKeyType{DefaultRegion: "REPLICA", "eu-west-1": "PRIMARY"} {
		md := m.describe(region)
		if c := md.MultiRegionConfiguration; c.MultiRegionKeyType != want || *c.PrimaryKey.Region != "eu-west-1" || len(c.ReplicaKeys) != 1 ||
			md.KeyState != types.KeyStateEnabled {
			t.Errorf("%s: %+v", region, md)
		}
	}
	wantText(t, second2(m.in(DefaultRegion).RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &m.id})), " is not a multi-region primary key.")
	if _, err := m.in("eu-west-1").RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &m.id}); err != nil {
		t.Error(err)
	}
	if err := m.decrypt(DefaultRegion, m.encrypt("eu-west-1"), true); err != nil {
		t.Error(err)
	}
	// The permission is asked for on both keys.
	m.fake.Account(customer).PutIdentityPolicy(appRole, `{"Statement":{"Effect":"Allow","Action":"kms:UpdatePrimaryRegion","Resource":"arn:aws:kms:eu-west-1:*"}}`)
	app := m.fake.Client(appRole).Region("eu-west-1")
	in := &kms.UpdatePrimaryRegionInput{KeyId: &m.id, PrimaryRegion: aws.String(DefaultRegion)}
	wantCode(t, second2(app.UpdatePrimaryRegion(ctx, in)), "AccessDeniedException")
	m.fake.Account(customer).PutIdentityPolicy(appRole, `{"Statement":{"Effect":"Allow","Action":"kms:UpdatePrimaryRegion","Resource":"arn:aws:kms:us-east-1:*"}}`)
	if err := second2(app.UpdatePrimaryRegion(ctx, in)); err != nil {
		t.Error(err)
	}
}

// A primary is deleted after its replicas: until the last of them is gone its
// waiting period does not even begin.
func TestPrimaryOutlivesItsReplicas(t *testing.T) {
	m, ctx := newMRK(t, kms.CreateKeyInput{}), context.Background()
	m.replicate("eu-west-1")
	m.replicate("us-west-2")
	blob := m.encrypt(DefaultRegion)
	schedule := func(region string, days int32) *kms.ScheduleKeyDeletionOutput {
		out, err := m.in(region).ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &m.id, PendingWindowInDays: &days})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	out := schedule(DefaultRegion, 10)
	if out.KeyState != types.KeyStatePendingReplicaDeletion || out.DeletionDate != nil || *out.PendingWindowInDays != 10 {
		t.Errorf("%+v", out)
	}
	if md := m.describe(DefaultRegion); md.KeyState != types.KeyStatePendingReplicaDeletion || *md.PendingDeletionWindowInDays != 10 || md.DeletionDate != nil {
		t.Errorf("%+v", md)
	}
	wantText(t, m.decrypt(DefaultRegion, blob, true), " is pending replica deletion.")
	m.clock.pass(100 * day)
	if m.key(DefaultRegion).State() != types.KeyStatePendingReplicaDeletion {
		t.Error("the primary did not wait")
	}
	if err := m.decrypt("eu-west-1", blob, false); err != nil {
		t.Errorf("the replica does not work on: %v", err)
	}
	if out := schedule("eu-west-1", 7); out.KeyState != types.KeyStatePendingDeletion || !out.DeletionDate.Equal(m.clock.now.Add(7*day)) {
		t.Errorf("%+v", out)
	}
	schedule("us-west-2", 20)
	last := m.clock.now.Add(20 * day)
	m.clock.pass(8 * day)
	md := m.describe(DefaultRegion)
	if md.KeyState != types.KeyStatePendingReplicaDeletion || len(md.MultiRegionConfiguration.ReplicaKeys) != 1 {
		t.Errorf("one replica left: %+v", md)
	}
	// Nobody looks until long after the last replica is gone; its date counts.
	m.clock.now = last.Add(9 * day)
	md = m.describe(DefaultRegion)
	if md.KeyState != types.KeyStatePendingDeletion || !md.DeletionDate.Equal(last.Add(10*day)) || len(md.MultiRegionConfiguration.ReplicaKeys) != 0 {
		t.Errorf("no replica left: %+v", md)
	}
	if _, err := m.in(DefaultRegion).CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &m.id}); err != nil {
		t.Fatal(err)
	}
	m.key(DefaultRegion).Enable()
	if err := m.decrypt(DefaultRegion, blob, false); err != nil {
		t.Error(err)
	}
	m.replicate("eu-west-1") // and the Region is free again
	schedule(DefaultRegion, 7)
	m.key("eu-west-1").Delete() // by hand: the last replica goes now, and the window begins now
	if md := m.describe(DefaultRegion); md.KeyState != types.KeyStatePendingDeletion || !md.DeletionDate.Equal(m.clock.now.Add(7*day)) {
		t.Errorf("%+v", md)
	}
	m.key(DefaultRegion).Enable()
	m.replicate("eu-west-1")
	schedule("eu-west-1", 7)
	schedule(DefaultRegion, 7)
	m.clock.pass(14 * day)
	for _, region := range []string{"eu-west-1", DefaultRegion} {
		wantCode(t, second2(m.in(region).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &m.id})), "NotFoundException")
	}
}

// Imported material is imported into each member, first into the primary; it can
// be rotated to when all of them have it.
func TestImportedMaterialOfMembers(t *testing.T) {
	m, ctx := newMRK(t, kms.CreateKeyInput{Origin: types.OriginTypeExternal}), context.Background()
	raw, next := randomMaterial(32), randomMaterial(32)
	at := func(region string, raw []byte, kind types.ImportType) error {
		im := &importer{t: t, c: m.in(region), key: keyARN(region, customer, m.id), alg: types.AlgorithmSpecRsaesOaepSha256}
		return im.do(raw, func(in *kms.ImportKeyMaterialInput) { in.ImportType = kind })
	}
	if err := at(DefaultRegion, raw, ""); err != nil {
		t.Fatal(err)
	}
	blob := m.encrypt(DefaultRegion)
	m.replicate("eu-west-1")
	if s := m.key("eu-west-1").State(); s != types.KeyStatePendingImport {
		t.Errorf("a replica without material is %s", s)
	}
	wantCode(t, at("eu-west-1", next, ""), "IncorrectKeyMaterialException")
	wantText(t, at("eu-west-1", next, types.ImportTypeNewKeyMaterial), " is not a multi-region primary key.")
	if err := at("eu-west-1", raw, ""); err != nil {
		t.Fatal(err)
	}
	if err := m.decrypt("eu-west-1", blob, true); err != nil {
		t.Error(err)
	}
	state := func(region string) types.KeyMaterialState {
		out, err := m.in(region).ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: &m.id, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial})
		if err != nil {
			t.Fatal(err)
		}
		return out.Rotations[len(out.Rotations)-1].KeyMaterialState
	}
	rotate := func() error {
		return second2(m.in(DefaultRegion).RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &m.id}))
	}
	if err := at(DefaultRegion, next, types.ImportTypeNewKeyMaterial); err != nil {
		t.Fatal(err)
	}
	if s := state(DefaultRegion); s != types.KeyMaterialStatePendingMultiRegionImportAndRotation {
		t.Error(s)
	}
	wantCode(t, rotate(), "KMSInvalidStateException")
	if err := at("eu-west-1", next, types.ImportTypeExistingKeyMaterial); err != nil {
		t.Fatal(err)
	}
	if s := state("eu-west-1"); s != types.KeyMaterialStatePendingRotation {
		t.Error(s)
	}
	if err := rotate(); err != nil || state(DefaultRegion) != types.KeyMaterialStateCurrent || state("eu-west-1") != types.KeyMaterialStateCurrent {
		t.Error(err)
	}
	if err := m.decrypt(DefaultRegion, m.encrypt("eu-west-1"), false); err != nil {
		t.Error(err)
	}
	// Deletion is for one member only.
	m.key("eu-west-1").DeleteMaterial()
	if err := m.decrypt(DefaultRegion, blob, false); err != nil {
		t.Error(err)
	}
	wantText(t, m.decrypt("eu-west-1", blob, true), " is pending import.")
}

// While a replica is being made or roles change, the states are those of the
// guide, and end by themselves.
func TestTransientStatesEnd(t *testing.T) {
	m := newMRK(t, kms.CreateKeyInput{})
	m.replicate("eu-west-1")
	if s := m.fake.st.Keys[keyARN("eu-west-1", customer, m.id)].State; s != types.KeyStateCreating {
		t.Errorf("right after the call: %s", s)
	}
	if s := m.key("eu-west-1").State(); s != types.KeyStateEnabled {
		t.Errorf("when somebody looks: %s", s)
	}
	m.fake.Propagation(time.Minute)
	m.replicate("us-west-2")
	m.clock.pass(time.Minute - 1)
	wantText(t, m.decrypt("us-west-2", m.encrypt(DefaultRegion), true), " is creating.")
	m.clock.pass(1)
	if err := m.decrypt("us-west-2", m.encrypt(DefaultRegion), true); err != nil {
		t.Error(err)
	}
	if _, err := m.in(DefaultRegion).UpdatePrimaryRegion(context.Background(), &kms.UpdatePrimaryRegionInput{KeyId: &m.id, PrimaryRegion: aws.String("eu-west-1")}); err != nil {
		t.Fatal(err)
	}
	for _, region := range []string{DefaultRegion, "eu-west-1"} {
		wantText(t, second2(m.in(region).DisableKey(context.Background(), &kms.DisableKeyInput{KeyId: &m.id})), " is updating.")
		if err := m.decrypt(region, m.encrypt(region), true); err != nil { // which goes on meanwhile
			t.Error(err)
		}
	}
	m.clock.pass(time.Minute)
	if s := m.key(DefaultRegion).State(); s != types.KeyStateEnabled {
		t.Error(s)
	}
	m.fake.Propagation(0)
	m.key("eu-west-1").SetState(types.KeyStateCreating)
	m.clock.pass(time.Hour)
	if s := m.key("eu-west-1").State(); s != types.KeyStateCreating {
		t.Errorf("a state that was set by hand ended: %s", s)
	}
}
