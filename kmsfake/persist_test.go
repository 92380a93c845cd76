package kmsfake

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Whatever was answered is still true in the next process, which here opens the
// file without the first one having been told to stop.
func TestFileSurvivesAKill(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.json")
	now := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	open := func() *KMS { return New(&Options{TB: t, File: file, Now: func() time.Time { return now }}) }
	ctx, ec := context.Background(), map[string]string{"tenant": "t1"}

	a := open()
	key := a.Account(customer).CreateKey("")
	c := a.Client(customer)
	enc, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(key.ID()), Plaintext: []byte("x"), EncryptionContext: ec})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: aws.String(key.ID())}); err != nil {
		t.Fatal(err)
	}
	key.Rotate()
	a.RegisterAccessKey("AKIAX", appRole)
	a.Account(customer).PutIdentityPolicy(appRole, `{"Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}`)
	off := a.Account(customer).CreateKey("")
	off.Disable()
	gone := a.Account(customer).CreateKey("")
	gone.Delete()

	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want mode 0600", info.Mode(), err)
	}
	a.killed()
	b := open()
	in := &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, EncryptionContext: ec, KeyId: aws.String("alias/a")}
	for _, who := range []string{customer, appRole} {
		if dec, err := b.Client(who).Decrypt(ctx, in); err != nil || string(dec.Plaintext) != "x" {
			t.Errorf("Decrypt by %s after a restart: %v, %v", who, dec, err)
		}
	}
	if again := b.Account(customer).Key(key.ARN()); again.MaterialID() != key.MaterialID() || again.Policy() != key.Policy() {
		t.Error("the key is not the same")
	}
	if b.Account(customer).Key(off.ID()).State() != types.KeyStateDisabled {
		t.Error("a disabled key came back enabled")
	}
	_, err = b.Client(customer).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(gone.ID())})
	wantCode(t, err, "NotFoundException")
	if b.st.AccessKeys["AKIAX"].Principal != appRole {
		t.Error("the access key is gone")
	}

	// A rotation that time made is saved before anything is sealed under it.
	if _, err := b.Client(customer).EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: aws.String(key.ID())}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(366 * day)
	enc, err = b.Client(customer).Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(key.ID()), Plaintext: []byte("y")})
	if err != nil {
		t.Fatal(err)
	}
	b.killed()
	if _, err := open().Client(customer).Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob}); err != nil {
		t.Errorf("sealed after an automatic rotation, opened after a restart: %v", err)
	}
}

// killed does what the kernel does for a process that is killed: the lock ends.
func (f *KMS) killed() { _ = f.lock.Close() }

// killedWriter is the child of TestKillInTheMiddle: it makes keys and tells of
// each one that it was given, until somebody kills it.
func killedWriter(file string) {
	fake := New(&Options{File: file})
	for {
		key := fake.Account(customer).CreateKey("")
		key.Disable()
		fmt.Println(key.ARN())
	}
}

// kill -9 in the middle of writing, again and again on the same file: every
// change that was answered is there, disabled keys are disabled.
func TestKillInTheMiddle(t *testing.T) {
	if file := os.Getenv("KMSFAKE_KILLED_WRITER"); file != "" {
		killedWriter(file)
	}
	file := filepath.Join(t.TempDir(), "kms.json")
	var answered []string
	for round := range 8 {
		child := exec.Command(os.Args[0], "-test.run=^TestKillInTheMiddle$")
		child.Env = append(os.Environ(), "KMSFAKE_KILLED_WRITER="+file)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 3 + round {
			if !lines.Scan() {
				t.Fatal("the child ended by itself")
			}
			answered = append(answered, lines.Text())
		}
		time.Sleep(time.Duration(round) * 300 * time.Microsecond) // into the middle of the next one
		child.Process.Kill()
		for lines.Scan() { // answered before the kill, read after it
			if strings.HasPrefix(lines.Text(), "arn:") {
				answered = append(answered, lines.Text())
			}
		}
		child.Wait()
		fake := New(&Options{TB: t, File: file})
		for _, arn := range answered {
			if len(arn) != len(answered[0]) {
				continue // its line was cut by the kill
			}
			if s := fake.Account(customer).Key(arn).State(); s != types.KeyStateDisabled {
				t.Errorf("%s is %s", arn, s)
			}
		}
		if err := fake.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("8 kills, %d keys", len(answered))
}

// A temporary file that a killed process left is no state, whole or torn.
func TestTornTemporaryFileIsIgnored(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.json")
	first := New(&Options{TB: t, File: file})
	key := first.Account(customer).CreateKey("")
	first.killed()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".tmp123", whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	New(&Options{TB: t, File: file}).Account(customer).Key(key.ARN()).Disable()
}

// A file that is not understood is never overwritten, nor started without.
func TestDamagedFileIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.json")
	first := New(&Options{TB: t, File: file})
	first.Account(customer).CreateKey("")
	newKeyOf(t, first, types.KeySpecHmac384, usageMac)
	first.killed()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty": nil, "torn": whole[:len(whole)-10], "other JSON": []byte(`{"a":1}`), "null": []byte("null"),
		"later version":  bytes.Replace(whole, []byte(`"KMSFake":1`), []byte(`"KMSFake":2`), 1),
		"unknown spec":   bytes.Replace(whole, []byte(`"HMAC_384"`), []byte(`"ROT_13"`), 1),
		"other spec":     bytes.Replace(whole, []byte(`"HMAC_384"`), []byte(`"HMAC_512"`), 1),
		"no private key": bytes.Replace(whole, []byte(`"HMAC_384"`), []byte(`"RSA_2048"`), 1),
		"unknown state":  bytes.Replace(whole, []byte(`"State":"Enabled"`), []byte(`"State":"Asleep"`), 1),
		"no materials":   bytes.Replace(whole, []byte(`"Materials":[`), []byte(`"Materials":[],"X":[`), 1),
		"no secret":      bytes.Replace(whole, []byte(`"Secret":"`), []byte(`"Secret":"AAAA","X":"`), 1),
		"bad policy":     bytes.Replace(whole, []byte(`Statement`), []byte(`Stutement`), 1),
		"no state":       []byte(`{"KMSFake":1,"State":null}`),
		"renamed key":    bytes.Replace(whole, []byte(`:key/`), []byte(`:key/0`), 1),
	} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := Open(&Options{File: file}); err == nil || errors.Is(err, ErrInUse) {
			t.Errorf("%s: opened %v, %v", name, f, err) // ErrInUse: the refusal before kept the lock
		}
		if after, _ := os.ReadFile(file); !bytes.Equal(after, data) {
			t.Errorf("%s: Open changed the file", name)
		}
	}
	if _, err := Open(&Options{File: filepath.Join(file, "x")}); err == nil {
		t.Error("a file in a place that is no directory")
	}
}

// What cannot be saved did not happen, in memory neither.
func TestFailedSaveIsUndone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fake := New(&Options{TB: t, File: filepath.Join(dir, "kms.json")})
	key := fake.Account(customer).CreateKey("")
	moved := dir + ".away"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	ctx, c := context.Background(), fake.Client(customer)
	_, err := c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: aws.String(key.ID())})
	wantCode(t, err, "KMSInternalException")
	if key.State() != types.KeyStateEnabled {
		t.Error("the key is disabled, though its caller was told that this failed")
	}
	if _, err := c.CreateKey(ctx, nil); code(err) != "KMSInternalException" || len(fake.st.Keys) != 1 {
		t.Errorf("%d keys, %v", len(fake.st.Keys), err)
	}
	if calls := fake.Calls(); calls[len(calls)-1].Code != "KMSInternalException" {
		t.Errorf("the log says %q", calls[len(calls)-1].Code)
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: aws.String(key.ID())}); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 || left[1].Name() != "kms.json.lock" {
		t.Errorf("%v left behind, %v", left, err)
	}
	if _, err := os.Stat(moved); !errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(dir, ".away") {
		t.Error(err)
	}
}

// A file of the first version, which knew one kind of key and no usage, opens
// with all that was in it. Its ciphertexts were made by that version, too.
func TestFileOfTheFirstVersion(t *testing.T) {
	old, err := os.ReadFile("testdata/state_v1.json")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kms.json")
	if err := os.WriteFile(file, old, 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)
	fake := New(&Options{TB: t, File: file, Now: func() time.Time { return now }})
	defer fake.Close()
	ctx, c := context.Background(), fake.Client(customer)
	data, err := os.ReadFile("testdata/state_v1_blobs.json")
	if err != nil {
		t.Fatal(err)
	}
	blobs := make(map[string][]byte)
	if err := json.Unmarshal(data, &blobs); err != nil || len(blobs) != 2 {
		t.Fatal(len(blobs), err)
	}
	for plaintext, blob := range blobs {
		for _, who := range []string{customer, appRole} {
			out, err := fake.Client(who).Decrypt(ctx, &kms.DecryptInput{KeyId: aws.String("alias/old"), CiphertextBlob: blob,
				EncryptionContext: map[string]string{"tenant": "t1"}})
			if err != nil || string(out.Plaintext) != plaintext {
				t.Errorf("%s, %s: %v", who, plaintext, err)
			}
		}
	}
	out, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/old")})
	if err != nil {
		t.Fatal(err)
	}
	md := out.KeyMetadata
	if md.KeySpec != types.KeySpecSymmetricDefault || md.KeyUsage != usageEncrypt || md.Origin != types.OriginTypeAwsKms ||
		aws.ToBool(md.MultiRegion) || aws.ToString(md.Description) != "old" || md.KeyState != types.KeyStateEnabled {
		t.Errorf("%+v", md)
	}
	tags, err := c.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: md.KeyId})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].TagKey != "team" {
		t.Errorf("%+v, %v", tags, err)
	}
	status, err := c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: md.KeyId})
	if err != nil || !status.KeyRotationEnabled || *status.RotationPeriodInDays != 365 {
		t.Errorf("%+v, %v", status, err)
	}
	keys, err := c.ListKeys(ctx, nil)
	if err != nil || len(keys.Keys) != 2 {
		t.Errorf("%+v, %v", keys, err)
	}
	// The other key was to be deleted, and is, later.
	now = now.AddDate(0, 0, 30)
	if keys, err = c.ListKeys(ctx, nil); err != nil || len(keys.Keys) != 1 {
		t.Errorf("after the waiting period: %+v, %v", keys, err)
	}
}

// All that a key can be and have is there after a restart.
func TestFileHoldsEveryKindOfKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kms.json")
	clock := newClock()
	open := func() *KMS { return New(&Options{TB: t, File: file, Now: clock.Now}) }
	a := open()
	ctx, c := context.Background(), a.Client(customer)
	sym := a.Account(customer).CreateKey("")
	id := aws.String(sym.ARN())
	mac, sign := newKeyOf(t, a, types.KeySpecHmac256, usageMac), newKeyOf(t, a, types.KeySpecEccNistP256, usageSign)
	agree := newKeyOf(t, a, types.KeySpecEccNistP384, usageAgree)
	im := externalKey(t, a, kms.CreateKeyInput{MultiRegion: aws.Bool(true)})
	raw, next := randomMaterial(32), randomMaterial(32)
	a.Account(customer).Key(im.key).ImportMaterial(raw, clock.now.Add(time.Hour))
	if err := im.do(next, func(in *kms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeNewKeyMaterial }); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		second2(c.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: &im.key, ReplicaRegion: aws.String("eu-west-1")})),
		second2(c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})),
		second2(c.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: tagsOf("a", "b")})),
		second2(c.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: id, Description: aws.String("d")})),
		second2(c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})),
		second2(c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: id})),
		second2(c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &im.key})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	parameters, err := c.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
		KeyId: &externalKey(t, a, kms.CreateKeyInput{}).key, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048})
	if err != nil {
		t.Fatal(err)
	}
	tag, err := c.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: mac.Arn, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Message: []byte("m")})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := c.Sign(ctx, &kms.SignInput{KeyId: sign.Arn, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256, Message: []byte("m")})
	if err != nil {
		t.Fatal(err)
	}
	// Everything that can be asked about the keys, as JSON.
	ask := func(f *KMS) string {
		var all []byte
		note := func(out any, err error) {
			if err != nil {
				t.Error(err)
				return
			}
			all = append(append(all, encodeOutput(out)...), '\n')
		}
		c := f.Client(customer)
		for _, key := range []*string{id, mac.Arn, sign.Arn, agree.Arn, &im.key} {
			out, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key})
			note(out, err)
			tags, err := c.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: key})
			note(tags, err)
			use, err := c.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: key})
			note(use, err)
			if key == sign.Arn || key == agree.Arn {
				public, err := c.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: key})
				note(public, err)
			}
			if key == id || key == &im.key {
				rotations, err := c.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: key, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial})
				note(rotations, err)
			}
		}
		replica, err := c.Region("eu-west-1").DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(keyIDOf(im.key))})
		note(replica, err)
		return string(all)
	}
	before := ask(a)
	a.Account(customer).Key(sym.ARN()).Disable() // which saves the last usage, too
	a.Account(customer).Key(sym.ARN()).Enable()
	a.killed()
	b := open()
	defer b.Close()
	if after := ask(b); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	c = b.Client(customer)
	if _, err := c.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: mac.Arn, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Message: []byte("m"), Mac: tag.Mac}); err != nil {
		t.Error(err)
	}
	if _, err := c.Verify(ctx, &kms.VerifyInput{KeyId: sign.Arn, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256, Message: []byte("m"), Signature: sig.Signature}); err != nil {
		t.Error(err)
	}
	public, err := x509.ParsePKIXPublicKey(parameters.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ImportKeyMaterial(ctx, &kms.ImportKeyMaterialInput{KeyId: parameters.KeyId, ImportToken: parameters.ImportToken,
		EncryptedKeyMaterial: wrapOAEP(public.(*rsa.PublicKey), raw), ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire})
	if err != nil {
		t.Errorf("an import that was begun before the restart: %v", err)
	}
	clock.pass(time.Hour)
	b.Account(customer).Key(im.key).CancelDeletion()
	if s := b.Account(customer).Key(im.key).State(); s != types.KeyStatePendingImport {
		t.Errorf("the expiry was lost: %s", s)
	}
}

func keyIDOf(arn string) string {
	_, _, id, _ := splitKeyARN(arn)
	return id
}
