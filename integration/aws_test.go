package integration

import (
	"encoding/base64"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/byok-go/byok/kmsfake"
)

// The real aws command against the fake: what it prints, and how it fails.
func TestAWSCLI(t *testing.T) {
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	wire := httptest.NewServer(fake.Handler())
	defer wire.Close()
	const owner, stranger = acmeAccount, "444455556666" // access key ids: the root users
	run := func(args ...string) string { t.Helper(); return mustAWS(t, wire.URL, owner, args...) }
	equal := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	fails := func(who, code string, args ...string) {
		t.Helper()
		out, err := aws(wire.URL, who, args...)
		var e *awsError
		if !errors.As(err, &e) || e.status != 254 || !strings.Contains(e.text, "An error occurred ("+code+") when calling the ") {
			t.Errorf("aws kms %v: %q, %v; want status 254 and %s", args, out, err, code)
		}
	}
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return "fileb://" + name
	}
	decode := func(s string) []byte {
		t.Helper()
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(b) == 0 {
			t.Fatalf("%q is not base64: %v", s, err)
		}
		return b
	}

	arn := run("create-key", "--description", "a key", "--tags", "TagKey=a,TagValue=b", "--query", "KeyMetadata.Arn")
	id := arn[strings.LastIndexByte(arn, '/')+1:]
	equal(run("describe-key", "--key-id", id, "--query", "KeyMetadata.[Arn,KeyState,Description,KeyUsage,Enabled]"),
		strings.Join([]string{arn, "Enabled", "a key", "ENCRYPT_DECRYPT", "True"}, "\t"))
	other := run("create-key", "--query", "KeyMetadata.Arn")
	if list := run("list-keys", "--query", "Keys[].KeyArn"); !strings.Contains(list, arn) || !strings.Contains(list, other) {
		t.Errorf("list-keys: %s", list)
	}
	fails(stranger, "AccessDeniedException", "describe-key", "--key-id", arn)
	fails(owner, "NotFoundException", "describe-key", "--key-id", "11111111-2222-3333-4444-555555555555")

	run("create-alias", "--alias-name", "alias/a", "--target-key-id", id)
	fails(owner, "AlreadyExistsException", "create-alias", "--alias-name", "alias/a", "--target-key-id", id)
	equal(run("list-aliases", "--key-id", id, "--query", "Aliases[].AliasName"), "alias/a")
	run("update-alias", "--alias-name", "alias/a", "--target-key-id", other)
	equal(run("describe-key", "--key-id", "alias/a", "--query", "KeyMetadata.Arn"), other)
	run("delete-alias", "--alias-name", "alias/a")
	fails(owner, "NotFoundException", "describe-key", "--key-id", "alias/a")

	const ec = "--encryption-context"
	blob := file("blob", decode(run("encrypt", "--key-id", arn, "--plaintext", file("plain", []byte("hello")), ec, "tenant_id=acme", "--query", "CiphertextBlob")))
	equal(string(decode(run("decrypt", "--key-id", arn, "--ciphertext-blob", blob, ec, "tenant_id=acme", "--query", "Plaintext"))), "hello")
	fails(owner, "InvalidCiphertextException", "decrypt", "--ciphertext-blob", blob, ec, "tenant_id=globex")
	fails(owner, "InvalidCiphertextException", "decrypt", "--ciphertext-blob", blob)
	fails(owner, "IncorrectKeyException", "decrypt", "--key-id", other, "--ciphertext-blob", blob, ec, "tenant_id=acme")
	fails(stranger, "AccessDeniedException", "decrypt", "--key-id", arn, "--ciphertext-blob", blob, ec, "tenant_id=acme")
	moved := file("moved", decode(run("re-encrypt", "--ciphertext-blob", blob, "--source-encryption-context", "tenant_id=acme",
		"--destination-key-id", other, "--destination-encryption-context", "tenant_id=acme", "--query", "CiphertextBlob")))
	equal(string(decode(run("decrypt", "--key-id", other, "--ciphertext-blob", moved, ec, "tenant_id=acme", "--query", "Plaintext"))), "hello")
	made := strings.Fields(run("generate-data-key", "--key-id", arn, "--key-spec", "AES_256", ec, "tenant_id=acme", "--query", "[Plaintext,CiphertextBlob]"))
	if len(made) != 2 || len(decode(made[0])) != 32 {
		t.Fatalf("generate-data-key: %v", made)
	}
	equal(run("decrypt", "--ciphertext-blob", file("key", decode(made[1])), ec, "tenant_id=acme", "--query", "Plaintext"), made[0])
	decode(run("generate-data-key-without-plaintext", "--key-id", arn, "--number-of-bytes", "64", "--query", "CiphertextBlob"))

	equal(run("get-key-rotation-status", "--key-id", arn, "--query", "KeyRotationEnabled"), "False")
	run("enable-key-rotation", "--key-id", arn)
	equal(run("get-key-rotation-status", "--key-id", arn, "--query", "KeyRotationEnabled"), "True")
	run("disable-key-rotation", "--key-id", arn)

	run("disable-key", "--key-id", arn)
	equal(run("describe-key", "--key-id", arn, "--query", "KeyMetadata.KeyState"), "Disabled")
	fails(owner, "DisabledException", "decrypt", "--ciphertext-blob", blob, ec, "tenant_id=acme")
	fails(owner, "DisabledException", "generate-data-key", "--key-id", arn, "--key-spec", "AES_256")
	run("enable-key", "--key-id", arn)
	run("schedule-key-deletion", "--key-id", arn, "--pending-window-in-days", "7")
	equal(run("describe-key", "--key-id", arn, "--query", "KeyMetadata.KeyState"), "PendingDeletion")
	fails(owner, "KMSInvalidStateException", "decrypt", "--ciphertext-blob", blob, ec, "tenant_id=acme")
	fails(owner, "KMSInvalidStateException", "schedule-key-deletion", "--key-id", arn)
	run("cancel-key-deletion", "--key-id", arn)
	run("enable-key", "--key-id", arn)

	// A policy that lets the stranger in for one tenant only.
	policy := run("get-key-policy", "--key-id", arn, "--policy-name", "default", "--query", "Policy")
	if !strings.Contains(policy, "arn:aws:iam::"+owner+":root") {
		t.Errorf("get-key-policy: %s", policy)
	}
	equal(run("list-key-policies", "--key-id", arn, "--query", "PolicyNames"), "default")
	run("put-key-policy", "--key-id", arn, "--policy-name", "default", "--policy", `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::`+owner+`:root"}, "Action": "kms:*", "Resource": "*"},
		{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::`+stranger+`:root"}, "Action": "kms:Decrypt", "Resource": "*",
		 "Condition": {"StringEquals": {"kms:EncryptionContext:tenant_id": "acme"}}}]}`)
	if out, err := aws(wire.URL, stranger, "decrypt", "--key-id", arn, "--ciphertext-blob", blob, ec, "tenant_id=acme", "--query", "Plaintext"); err != nil || string(decode(out)) != "hello" {
		t.Errorf("the policy lets the stranger in, but: %s, %v", out, err)
	}
	fails(stranger, "AccessDeniedException", "decrypt", "--key-id", arn, "--ciphertext-blob", blob, ec, "tenant_id=globex")
	fails(stranger, "AccessDeniedException", "encrypt", "--key-id", arn, "--plaintext", file("plain", []byte("hello")))
	fails(owner, "MalformedPolicyDocumentException", "put-key-policy", "--key-id", arn, "--policy-name", "default", "--policy", `{"Version": "2012-10-17"}`)

	var e *awsError
	if out, err := aws("http://127.0.0.1:1", owner, "list-keys"); !errors.As(err, &e) || e.status != 255 {
		t.Errorf("nobody listens: %q, %v; want status 255", out, err)
	}
}
