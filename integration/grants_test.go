package integration

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/byok-go/byok/kmsfake"
)

// Grants, with the real aws command: made, listed, used, retired and revoked; and
// why a call is denied when there is none.
func TestAWSCLIGrants(t *testing.T) {
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	wire := httptest.NewServer(fake.Handler())
	defer wire.Close()
	const owner, worker, role = acmeAccount, "AKIAWORKER", "arn:aws:iam::444455556666:role/worker"
	fake.RegisterAccessKey(worker, role)
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
	arn := run("create-key", "--query", "KeyMetadata.Arn")
	use := func(more ...string) []string {
		return append([]string{"generate-data-key-without-plaintext", "--key-id", arn, "--key-spec", "AES_256",
			"--encryption-context", "tenant_id=acme", "--query", "KeyId"}, more...)
	}
	fails(worker, "AccessDeniedException", use()...)
	calls := fake.Calls()
	if why := fake.Explain(calls[len(calls)-1].RequestID); why == nil || !strings.Contains(why.String(), "neither its policy nor a grant") {
		t.Errorf("%s", why)
	}

	made := strings.Fields(run("create-grant", "--key-id", arn, "--grantee-principal", role, "--retiring-principal", role,
		"--operations", "GenerateDataKeyWithoutPlaintext", "DescribeKey", "--name", "for-the-worker",
		"--constraints", "EncryptionContextSubset={tenant_id=acme}", "--query", "[GrantId,GrantToken]"))
	if len(made) != 2 {
		t.Fatalf("create-grant: %v", made)
	}
	id, token := made[0], made[1]
	equal(mustAWS(t, wire.URL, worker, use()...), arn)
	equal(mustAWS(t, wire.URL, worker, use("--grant-tokens", token)...), arn)
	fails(worker, "InvalidGrantTokenException", use("--grant-tokens", "bad")...)
	fails(worker, "AccessDeniedException", "generate-data-key-without-plaintext", "--key-id", arn, "--key-spec", "AES_256")
	fails(worker, "AccessDeniedException", "list-grants", "--key-id", arn)
	equal(run("list-grants", "--key-id", arn, "--query", "Grants[].[GrantId,Name,GranteePrincipal,RetiringPrincipal,Constraints.EncryptionContextSubset.tenant_id,length(Operations)]"),
		strings.Join([]string{id, "for-the-worker", role, role, "acme", "2"}, "\t"))
	equal(run("list-grants", "--key-id", arn, "--grantee-principal", "arn:aws:iam::444455556666:role/other", "--query", "length(Grants)"), "0")
	equal(mustAWS(t, wire.URL, worker, "list-retirable-grants", "--retiring-principal", role, "--query", "Grants[].GrantId"), id)

	mustAWS(t, wire.URL, worker, "retire-grant", "--grant-token", token)
	fails(worker, "AccessDeniedException", use()...)
	fails(owner, "NotFoundException", "revoke-grant", "--key-id", arn, "--grant-id", id)
	again := run("create-grant", "--key-id", arn, "--grantee-principal", role, "--operations", "GenerateDataKeyWithoutPlaintext", "--query", "GrantId")
	equal(mustAWS(t, wire.URL, worker, use()...), arn)
	run("revoke-grant", "--key-id", arn, "--grant-id", again)
	fails(worker, "AccessDeniedException", use()...)
}
