package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byokhttp"
	"github.com/byok-go/byok/kmsfake"
)

// demo is <data>/demo.json: the demo's organizations, with their tokens in
// clear. It exists so that scripts can find them.
type demo struct {
	Organizations []organization `json:"organizations"`
}

type organization struct {
	OrganizationID string `json:"organization_id"`
	Token          string `json:"token"`
	CMKARN         string `json:"cmk_arn"`
	AccountID      string `json:"account_id"`
	AccessKeyID    string `json:"aws_access_key_id"` // the fake takes any secret with it
}

// loadDemo reads the demo's organizations, and makes them on the first start:
// each with an AWS account and a CMK whose policy lets the platform in for this
// organization only.
func loadDemo(dir string, fake *kmsfake.KMS, keeper *byok.Keeper) (*demo, error) {
	file := filepath.Join(dir, "demo.json")
	data, err := os.ReadFile(file)
	if err == nil {
		var d demo
		if err := json.Unmarshal(data, &d); err != nil || len(d.Organizations) == 0 {
			return nil, fmt.Errorf("%s is damaged", file)
		}
		return &d, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if fake == nil {
		return nil, fmt.Errorf("%s is not there: start the server that runs the fake KMS on this data first", file)
	}
	d := &demo{}
	for _, o := range []organization{{OrganizationID: "acme", AccountID: "111122223333"}, {OrganizationID: "globex", AccountID: "444455556666"}} {
		policy := awskms.KeyPolicy(o.AccountID, platformRole, keeper.Tenant(o.OrganizationID).EncryptionContext())
		if err := policy.Err(); err != nil {
			return nil, err
		}
		o.CMKARN = fake.Account(o.AccountID).CreateKey(policy.JSON()).ARN()
		o.AccessKeyID = o.AccountID // on the fake: that account's root
		o.Token = rand.Text() + rand.Text()
		d.Organizations = append(d.Organizations, o)
	}
	if data, err = json.MarshalIndent(d, "", "  "); err != nil {
		return nil, err
	}
	return d, writeFile(file, append(data, '\n'))
}

// writeFile leaves the whole file or none, readable by its owner.
func writeFile(name string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func (d *demo) tokens() []knownToken {
	var known []knownToken
	for _, o := range d.Organizations {
		known = append(known, knownToken{sha256.Sum256([]byte(o.Token)), byokhttp.Identity{Tenant: o.OrganizationID, Actor: "admin@" + o.OrganizationID + ".example"}})
	}
	return known
}

// banner says what is running, and in the demo what to try.
func (a *app) banner(out io.Writer, api, kms string) {
	fmt.Fprintf(out, "API         %s/api/v1\n", api)
	if a.cloud != "" {
		fmt.Fprintf(out, "KMS         %s\n", a.cloud)
	}
	if kms != "" {
		fmt.Fprintf(out, "KMS (fake)  %s\n", kms)
	}
	fmt.Fprintf(out, "data        %s\n", a.config.data)
	fmt.Fprintf(out, "MaxAge      %v: no read succeeds this long after its CMK became unusable (the library's default is %v)\n", a.config.maxAge, byok.DefaultMaxAge)
	if a.config.unbound {
		fmt.Fprintln(out, "policies    CMKs that are not bound to one organization are accepted, with a warning (-allow-unbound-policy; the library refuses them)")
	}
	if a.demo == nil {
		return
	}
	for _, o := range a.demo.Organizations {
		fmt.Fprintf(out, "\n%s\n  token     %s\n  account   %s\n  CMK       %s\n", o.OrganizationID, o.Token, o.AccountID, o.CMKARN)
	}
	if kms == "" {
		return
	}
	o := a.demo.Organizations[0]
	fmt.Fprintln(out, "\nPaste this into another terminal (README.md has the long form; aws is the AWS CLI):\n\n"+strings.NewReplacer(
		"{api}", api, "{kms}", kms, "{token}", o.Token, "{cmk}", o.CMKARN, "{account}", o.AccessKeyID).Replace(session))
}

const session = `  export AWS_ACCESS_KEY_ID={account} AWS_SECRET_ACCESS_KEY=anything AWS_DEFAULT_REGION=us-east-1
  call() { curl -sS -H "Authorization: Bearer {token}" "$@"; echo; }
  json='Content-Type: application/json'
  call {api}/api/v1/byok/keys -H "$json" -d '{"cmk_arn": "{cmk}"}'
  call {api}/api/v1/byok/legal-waiver/acknowledge -H "$json" -d '{"acknowledge_data_loss_risk": true,
    "acknowledge_key_management_responsibility": true, "acknowledge_no_liability": true}'
  call {api}/api/v1/records/notes/1 -X PUT --data-binary 'hello'
  call {api}/api/v1/records/notes/1
  aws --endpoint-url {kms} kms disable-key --key-id {cmk}
  sleep 5; call {api}/api/v1/records/notes/1
  aws --endpoint-url {kms} kms enable-key --key-id {cmk}
  sleep 5; call {api}/api/v1/records/notes/1
`
