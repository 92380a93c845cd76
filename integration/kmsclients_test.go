package integration

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestBoto3 runs testdata/boto3_cases.py, with Debian's boto3, against cmd/kmsfake.
func TestBoto3(t *testing.T) {
	p := startKMSFake(t)
	cmd := exec.Command(*python, "testdata/boto3_cases.py", p.url)
	cmd.Env = cleanEnv("AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent", "AWS_EC2_METADATA_DISABLED=true")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	m := regexp.MustCompile(`(?m)^(\d+) cases, 0 failures$`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no count of cases:\n%s", out)
	}
	if n, _ := strconv.Atoi(string(m[1])); n < 200 {
		t.Errorf("only %d cases", n)
	}
	t.Logf("boto3: %s cases", m[1])
}

// TestAWSCLIOnKMSFake is what TestAWSCLI leaves out, on the process: grants, tags,
// imported material, asymmetric and HMAC keys, multi-Region keys, faults.
func TestAWSCLIOnKMSFake(t *testing.T) {
	p := startKMSFake(t, "-controls")
	const owner, stranger = acmeAccount, "444455556666"
	cases := 0
	run := func(args ...string) string { t.Helper(); cases++; return mustAWS(t, p.url, owner, args...) }
	equal := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	fails := func(who, code string, args ...string) {
		t.Helper()
		cases++
		out, err := aws(p.url, who, args...)
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
	key := run("create-key", "--query", "KeyMetadata.Arn")
	message := file("message", []byte("message"))

	// Tags and the description.
	run("tag-resource", "--key-id", key, "--tags", "TagKey=a,TagValue=b")
	equal(run("list-resource-tags", "--key-id", key, "--query", "Tags[].[TagKey,TagValue]"), "a\tb")
	run("untag-resource", "--key-id", key, "--tag-keys", "a")
	equal(run("list-resource-tags", "--key-id", key, "--query", "length(Tags)"), "0")
	run("update-key-description", "--key-id", key, "--description", "new")
	equal(run("describe-key", "--key-id", key, "--query", "KeyMetadata.Description"), "new")

	// Grants.
	blob := file("blob", decode(run("encrypt", "--key-id", key, "--plaintext", message, "--encryption-context", "tenant=acme", "--query", "CiphertextBlob")))
	decrypt := []string{"decrypt", "--key-id", key, "--ciphertext-blob", blob, "--encryption-context", "tenant=acme", "--query", "Plaintext"}
	fails(stranger, "AccessDeniedException", decrypt...)
	grant := run("create-grant", "--key-id", key, "--grantee-principal", "arn:aws:iam::"+stranger+":root", "--operations", "Decrypt",
		"--constraints", "EncryptionContextEquals={tenant=acme}", "--query", "GrantId")
	if out, err := aws(p.url, stranger, decrypt...); err != nil || string(decode(out)) != "message" {
		t.Errorf("a grantee: %q, %v", out, err)
	}
	equal(run("list-grants", "--key-id", key, "--query", "Grants[].GrantId"), grant)
	run("revoke-grant", "--key-id", key, "--grant-id", grant)
	fails(stranger, "AccessDeniedException", decrypt...)
	fails(owner, "NotFoundException", "revoke-grant", "--key-id", key, "--grant-id", grant)

	// Imported material.
	external := run("create-key", "--origin", "EXTERNAL", "--query", "KeyMetadata.Arn")
	fails(owner, "KMSInvalidStateException", "encrypt", "--key-id", external, "--plaintext", message)
	parameters := strings.Fields(run("get-parameters-for-import", "--key-id", external, "--wrapping-algorithm", "RSAES_OAEP_SHA_256",
		"--wrapping-key-spec", "RSA_2048", "--query", "[ImportToken,PublicKey]"))
	public, err := x509.ParsePKIXPublicKey(decode(parameters[1]))
	if err != nil {
		t.Fatal(err)
	}
	material := sha256.Sum256([]byte("the customer's own"))
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	run("import-key-material", "--key-id", external, "--import-token", file("token", decode(parameters[0])),
		"--encrypted-key-material", file("wrapped", wrapped), "--expiration-model", "KEY_MATERIAL_EXPIRES", "--valid-to", time.Now().AddDate(0, 0, 30).UTC().Format(time.RFC3339))
	own := file("own", decode(run("encrypt", "--key-id", external, "--plaintext", message, "--query", "CiphertextBlob")))
	run("delete-imported-key-material", "--key-id", external)
	equal(run("describe-key", "--key-id", external, "--query", "KeyMetadata.KeyState"), "PendingImport")
	fails(owner, "KMSInvalidStateException", "decrypt", "--ciphertext-blob", own)

	// Signatures, MACs, pairs, random bytes.
	signer := run("create-key", "--key-spec", "ECC_NIST_P256", "--key-usage", "SIGN_VERIFY", "--query", "KeyMetadata.Arn")
	public, err = x509.ParsePKIXPublicKey(decode(run("get-public-key", "--key-id", signer, "--query", "PublicKey")))
	if err != nil {
		t.Fatal(err)
	}
	signature := decode(run("sign", "--key-id", signer, "--message", message, "--signing-algorithm", "ECDSA_SHA_256", "--query", "Signature"))
	digest := sha256.Sum256([]byte("message"))
	if !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], signature) {
		t.Error("sign: not a signature")
	}
	equal(run("verify", "--key-id", signer, "--message", message, "--signing-algorithm", "ECDSA_SHA_256", "--signature", file("signature", signature), "--query", "SignatureValid"), "True")
	fails(owner, "KMSInvalidSignatureException", "verify", "--key-id", signer, "--message", file("other", []byte("other")),
		"--signing-algorithm", "ECDSA_SHA_256", "--signature", "fileb://"+filepath.Join(dir, "signature"))
	macKey := run("create-key", "--key-spec", "HMAC_256", "--key-usage", "GENERATE_VERIFY_MAC", "--query", "KeyMetadata.Arn")
	mac := file("mac", decode(run("generate-mac", "--key-id", macKey, "--message", message, "--mac-algorithm", "HMAC_SHA_256", "--query", "Mac")))
	equal(run("verify-mac", "--key-id", macKey, "--message", message, "--mac-algorithm", "HMAC_SHA_256", "--mac", mac, "--query", "MacValid"), "True")
	pair := strings.Fields(run("generate-data-key-pair", "--key-id", key, "--key-pair-spec", "ECC_NIST_P256", "--query", "[PrivateKeyPlaintext,PublicKey]"))
	private, err := x509.ParsePKCS8PrivateKey(decode(pair[0]))
	if err != nil {
		t.Fatal(err)
	}
	if der, _ := x509.MarshalPKIXPublicKey(private.(*ecdsa.PrivateKey).Public()); base64.StdEncoding.EncodeToString(der) != pair[1] {
		t.Error("generate-data-key-pair: not a pair")
	}
	if n := len(decode(run("generate-random", "--number-of-bytes", "33", "--query", "Plaintext"))); n != 33 {
		t.Errorf("generate-random: %d bytes", n)
	}
	fails(owner, "UnsupportedOperationException", "describe-custom-key-stores")

	// Multi-Region keys.
	mrk := run("create-key", "--multi-region", "--query", "KeyMetadata.KeyId")
	run("replicate-key", "--key-id", mrk, "--replica-region", "eu-west-1")
	equal(run("describe-key", "--key-id", mrk, "--query", "KeyMetadata.MultiRegionConfiguration.ReplicaKeys[0].Region"), "eu-west-1")

	// What AWS does to a client on a bad day.
	fault := func(body string) {
		t.Helper()
		resp, err := http.Post(p.url+"/_kmsfake/faults", "application/json", strings.NewReader(body))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", resp, err)
		}
		resp.Body.Close()
	}
	fault(`{"Operation":"ListKeys","Code":"ThrottlingException","Count":1}`)
	fails(owner, "ThrottlingException", "list-keys")
	fault(`{"Operation":"ListKeys","Effect":"reset","Count":1}`)
	cases++
	var e *awsError
	if out, err := aws(p.url, owner, "list-keys"); !errors.As(err, &e) || e.status != 255 {
		t.Errorf("reset: %q, %v; want status 255", out, err)
	}
	// This version takes half of a JSON document for an empty answer, and succeeds.
	fault(`{"Operation":"ListKeys","Effect":"truncated-answer","Count":1}`)
	equal(run("list-keys", "--query", "Keys"), "None")
	equal(run("list-keys", "--query", "length(Keys)"), "5")
	t.Logf("aws: %d commands", cases)
}
