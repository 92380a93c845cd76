package integration

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok/kmsfake"
)

// Kinds of key, with the real aws command and OpenSSL: imported material and its
// loss, multi-Region keys, MACs, signatures, tags, rotation.
func TestAWSCLIKeys(t *testing.T) {
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	wire := httptest.NewServer(fake.Handler())
	defer wire.Close()
	dir := t.TempDir()
	run := func(args ...string) string { t.Helper(); return mustAWS(t, wire.URL, acmeAccount, args...) }
	fails := func(code, says string, args ...string) {
		t.Helper()
		out, err := aws(wire.URL, acmeAccount, args...)
		var e *awsError
		if !errors.As(err, &e) || e.status != 254 || !strings.Contains(e.text, "An error occurred ("+code+")") || !strings.Contains(e.text, says) {
			t.Errorf("aws kms %v: %q, %v; want status 254, %s and %q", args, out, err, code, says)
		}
	}
	equal := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	file := func(name string, data []byte) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return "fileb://" + filepath.Join(dir, name)
	}
	decoded := func(s string) []byte {
		t.Helper()
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	openssl := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}

	// Imported material, wrapped as the guide says: with OpenSSL.
	arn := run("create-key", "--origin", "EXTERNAL", "--query", "KeyMetadata.Arn")
	state := func() string {
		return run("describe-key", "--key-id", arn, "--query", "KeyMetadata.[KeyState,ExpirationModel]")
	}
	equal(state(), "PendingImport\tNone")
	material := bytes.Repeat([]byte("k"), 32)
	importArgs := func(material []byte, more ...string) []string {
		t.Helper()
		got := strings.Fields(run("get-parameters-for-import", "--key-id", arn, "--wrapping-algorithm", "RSAES_OAEP_SHA_256",
			"--wrapping-key-spec", "RSA_2048", "--query", "[PublicKey,ImportToken]"))
		file("public.der", decoded(got[0]))
		file("material", material)
		openssl("pkeyutl", "-encrypt", "-in", "material", "-out", "wrapped", "-inkey", "public.der", "-keyform", "DER", "-pubin",
			"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256")
		return append([]string{"import-key-material", "--key-id", arn, "--encrypted-key-material", "fileb://" + filepath.Join(dir, "wrapped"),
			"--import-token", file("token", decoded(got[1]))}, more...)
	}
	run(importArgs(material, "--expiration-model", "KEY_MATERIAL_EXPIRES", "--valid-to", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))...)
	equal(state(), "Enabled\tKEY_MATERIAL_EXPIRES")
	blob := file("blob", decoded(run("encrypt", "--key-id", arn, "--plaintext", file("plaintext", []byte("hello")), "--query", "CiphertextBlob")))
	open := []string{"decrypt", "--ciphertext-blob", blob, "--query", "Plaintext"}
	equal(run(open...), base64.StdEncoding.EncodeToString([]byte("hello")))
	run("delete-imported-key-material", "--key-id", arn)
	fails("KMSInvalidStateException", arn+" is pending import.", open...)
	fails("IncorrectKeyMaterialException", "", importArgs(bytes.Repeat([]byte("x"), 32), "--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE")...)
	run(importArgs(material, "--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE")...)
	equal(state(), "Enabled\tKEY_MATERIAL_DOES_NOT_EXPIRE")
	equal(run(open...), base64.StdEncoding.EncodeToString([]byte("hello")))

	// A multi-Region key: what one Region seals, the other opens.
	id := run("create-key", "--multi-region", "--query", "KeyMetadata.KeyId")
	there := []string{"--region", "eu-west-1"}
	equal(run("replicate-key", "--key-id", id, "--replica-region", "eu-west-1", "--query", "ReplicaKeyMetadata.[KeyState,MultiRegionConfiguration.MultiRegionKeyType]"),
		"Creating\tREPLICA")
	blob = file("blob", decoded(run("encrypt", "--key-id", id, "--plaintext", file("plaintext", []byte("mrk")), "--query", "CiphertextBlob")))
	equal(run(append([]string{"decrypt", "--ciphertext-blob", blob, "--query", "Plaintext"}, there...)...), base64.StdEncoding.EncodeToString([]byte("mrk")))
	fails("AccessDeniedException", "does not exist in this Region", "decrypt", "--ciphertext-blob", blob, "--region", "us-west-2")
	equal(run("schedule-key-deletion", "--key-id", id, "--query", "KeyState"), "PendingReplicaDeletion")
	equal(run(append([]string{"describe-key", "--key-id", id, "--query", "KeyMetadata.KeyState"}, there...)...), "Enabled")

	// A signature that OpenSSL verifies, and a MAC that only the key's owner can make.
	id = run("create-key", "--key-spec", "ECC_NIST_P256", "--key-usage", "SIGN_VERIFY", "--query", "KeyMetadata.KeyId")
	message := file("message", []byte("a message"))
	signature := file("signature", decoded(run("sign", "--key-id", id, "--message", message, "--signing-algorithm", "ECDSA_SHA_256", "--query", "Signature")))
	file("public.der", decoded(run("get-public-key", "--key-id", id, "--query", "PublicKey")))
	equal(openssl("dgst", "-sha256", "-verify", "public.der", "-keyform", "DER", "-signature", "signature", "message"), "Verified OK")
	verify := func(message string) []string {
		return []string{"verify", "--key-id", id, "--message", message, "--signature", signature, "--signing-algorithm", "ECDSA_SHA_256", "--query", "SignatureValid"}
	}
	equal(run(verify(message)...), "True")
	fails("KMSInvalidSignatureException", "", verify(file("other", []byte("another message")))...)

	id = run("create-key", "--key-spec", "HMAC_256", "--key-usage", "GENERATE_VERIFY_MAC", "--origin", "EXTERNAL", "--query", "KeyMetadata.KeyId")
	arn = run("describe-key", "--key-id", id, "--query", "KeyMetadata.Arn")
	run(importArgs(material, "--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE")...)
	mac := hmac.New(sha256.New, material)
	mac.Write([]byte("a message"))
	equal(run("generate-mac", "--key-id", id, "--message", message, "--mac-algorithm", "HMAC_SHA_256", "--query", "Mac"),
		base64.StdEncoding.EncodeToString(mac.Sum(nil)))

	// Tags, description, rotation, random bytes.
	id = run("create-key", "--tags", "TagKey=team,TagValue=red", "--query", "KeyMetadata.KeyId")
	run("tag-resource", "--key-id", id, "--tags", "TagKey=cost,TagValue=1")
	run("untag-resource", "--key-id", id, "--tag-keys", "team")
	equal(run("list-resource-tags", "--key-id", id, "--query", "Tags[].[TagKey,TagValue]"), "cost\t1")
	fails("TagException", "Tags beginning with aws: are reserved", "tag-resource", "--key-id", id, "--tags", "TagKey=aws:x,TagValue=1")
	run("update-key-description", "--key-id", id, "--description", "of the CLI")
	equal(run("describe-key", "--key-id", id, "--query", "KeyMetadata.Description"), "of the CLI")
	run("enable-key-rotation", "--key-id", id)
	equal(run("get-key-rotation-status", "--key-id", id, "--query", "KeyRotationEnabled"), "True")
	if got := decoded(run("generate-random", "--number-of-bytes", "24", "--query", "Plaintext")); len(got) != 24 {
		t.Errorf("%d random bytes", len(got))
	}
}
