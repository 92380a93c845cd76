package awskms

import (
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/kmsfake"
)

func TestPolicyGolden(t *testing.T) {
	p := KeyPolicy(tenantAccount, role, context4("acme"))
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	golden(t, "policy.json.golden", p.JSON()+"\n")
	golden(t, "policy.tf.golden", p.Terraform())
	nasty := context4(`a"b\c${aws:username}%{if}$${x}*?<>&'$`)
	p = KeyPolicy(tenantAccount, "arn:aws-us-gov:iam::"+platformAccount+":role/team/a+b=c,d.e@f-g_h", nasty)
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	golden(t, "policy-nasty.json.golden", p.JSON()+"\n")
	golden(t, "policy-nasty.tf.golden", p.Terraform())
}

// The fake evaluates the policy as AWS would: who is let in, and who is not.
func TestPolicyIsBoundToTheTenant(t *testing.T) {
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	key := fake.Account(tenantAccount).CreateKey(KeyPolicy(tenantAccount, role, context4("acme")).JSON())
	k := newFrom(t, fake.Client(role), nil)
	use := func(k *Keyring, ec byok.EncryptionContext) error {
		dek, w, err := k.GenerateDataKey(t.Context(), Key(key.ARN()), ec)
		if err != nil {
			return err
		}
		if _, err := k.WrapDataKey(t.Context(), Key(key.ARN()), dek, ec); err != nil {
			return err
		}
		_, _, err = k.UnwrapDataKey(t.Context(), Key(key.ARN()), w.Bytes, ec)
		return err
	}
	other := context4("acme")
	other[byok.ContextService] = "other-saas"
	purpose := context4("acme")
	purpose[byok.ContextPurpose], purpose[byok.ContextDataKey] = "audit", "ffeeddccbbaa99887766554433221100"
	if err := errors.Join(use(k, context4("acme")), use(k, purpose)); err != nil {
		t.Errorf("the tenant itself: %v", err)
	}
	stranger := newFrom(t, fake.Client("arn:aws:iam::"+platformAccount+":role/other"), nil)
	for name, err := range map[string]error{
		"another tenant":  use(k, context4("initech")),
		"a probe":         use(k, context4("probe-0011")),
		"case":            use(k, context4("Acme")),
		"another service": use(k, other),
		"no context":      use(k, nil),
		"another role":    use(stranger, context4("acme")),
	} {
		if !errors.Is(err, byok.ErrKeyDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := k.DescribeKey(t.Context(), Key(key.ARN())); err != nil {
		t.Errorf("DescribeKey: %v", err)
	}
	if _, err := stranger.DescribeKey(t.Context(), Key(key.ARN())); !errors.Is(err, byok.ErrKeyDenied) {
		t.Errorf("DescribeKey by another role: %v", err)
	}
}

// A mistake never becomes a policy: not one that KMS takes, nor HCL.
func TestPolicyRefuses(t *testing.T) {
	without := func(name string) byok.EncryptionContext {
		ec := context4("acme")
		delete(ec, name)
		return ec
	}
	ok := context4("acme")
	for name, p := range map[string]Policy{
		"zero":                  {},
		"account, empty":        KeyPolicy("", role, ok),
		"account, short":        KeyPolicy("11112222333", role, ok),
		"account, dashes":       KeyPolicy("1111-2222-3333", role, ok),
		"account, quote":        KeyPolicy(`11112222333"`, role, ok),
		"account, line":         KeyPolicy(tenantAccount+"\n", role, ok),
		"principal, empty":      KeyPolicy(tenantAccount, "", ok),
		"principal, any":        KeyPolicy(tenantAccount, "*", ok),
		"principal, account":    KeyPolicy(tenantAccount, platformAccount, ok),
		"principal, root":       KeyPolicy(tenantAccount, "arn:aws:iam::"+platformAccount+":root", ok),
		"principal, wildcard":   KeyPolicy(tenantAccount, "arn:aws:iam::"+platformAccount+":role/*", ok),
		"principal, session":    KeyPolicy(tenantAccount, "arn:aws:sts::"+platformAccount+":assumed-role/x/y", ok),
		"principal, group":      KeyPolicy(tenantAccount, "arn:aws:iam::"+platformAccount+":group/x", ok),
		"principal, quote":      KeyPolicy(tenantAccount, role+`"`, ok),
		"principal, variable":   KeyPolicy(tenantAccount, role+`${x}`, ok),
		"principal, line":       KeyPolicy(tenantAccount, role+"\n", ok),
		"principal, no name":    KeyPolicy(tenantAccount, "arn:aws:iam::"+platformAccount+":role/", ok),
		"principal, long":       KeyPolicy(tenantAccount, role+strings.Repeat("x", 64), ok),
		"no context":            KeyPolicy(tenantAccount, role, nil),
		"no tenant":             KeyPolicy(tenantAccount, role, without(byok.ContextTenant)),
		"no service":            KeyPolicy(tenantAccount, role, without(byok.ContextService)),
		"tenant, empty":         KeyPolicy(tenantAccount, role, context4("")),
		"tenant, line":          KeyPolicy(tenantAccount, role, context4("a\nb")),
		"tenant, space":         KeyPolicy(tenantAccount, role, context4("a b")),
		"tenant, not ASCII":     KeyPolicy(tenantAccount, role, context4("é")),
		"tenant, not even text": KeyPolicy(tenantAccount, role, context4("\xff")),
	} {
		if p.Err() == nil {
			t.Errorf("%s: no error", name)
		}
		for _, out := range []string{p.JSON(), p.Terraform()} {
			if json.Valid([]byte(out)) || strings.ContainsAny(out, "{}=") || !strings.HasPrefix(out, "awskms: no policy: ") {
				t.Errorf("%s: printed %q", name, out)
			}
		}
	}
}

// Any tenant is read back from a document, as AWS and Terraform read it.
func TestPolicyEscapes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tenant := rapid.OneOf(
			rapid.StringMatching(`[!-~]{1,128}`),
			rapid.StringMatching(`[${}%*?"\\]{1,12}`),
		).Draw(t, "tenant")
		p := KeyPolicy(tenantAccount, role, context4(tenant))
		if err := p.Err(); err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Statement []struct {
				Condition map[string]map[string]string
			}
		}
		if err := json.Unmarshal([]byte(p.JSON()), &doc); err != nil {
			t.Fatal(err)
		}
		condition := doc.Statement[1].Condition["StringEquals"]
		if got := expand(t, condition["kms:EncryptionContext:tenant_id"]); got != tenant || len(condition) != 2 {
			t.Fatalf("%q became %q in JSON", tenant, got)
		}
		m := regexp.MustCompile(`(?m)^ *"kms:EncryptionContext:tenant_id" += (".*")$`).FindStringSubmatch(p.Terraform())
		if m == nil {
			t.Fatalf("no tenant in\n%s", p.Terraform())
		}
		// No template in it, and otherwise the escapes of HCL are Go's.
		if strings.ContainsAny(m[1], "$%") {
			t.Fatalf("a template in %s", m[1])
		}
		s, err := strconv.Unquote(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if got := expand(t, s); got != tenant {
			t.Fatalf("%q became %q in Terraform", tenant, got)
		}
	})
}

// expand does what AWS does to a policy value: "${$}" is a dollar sign, and any
// other variable would be replaced by something else.
func expand(t *rapid.T, s string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "${")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, rest, ok := strings.Cut(after, "}")
		if !ok || name != "$" {
			t.Fatalf("a policy variable ${%s}", name)
		}
		b.WriteString("$")
		s = rest
	}
}
