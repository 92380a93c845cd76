package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/drill"
)

// demoAccessKey is who the platform is in examples/server, on its fake KMS.
const demoAccessKey = "AKIABYOKEXAMPLE00001"

const drillUsage = `usage: byok drill revoke -store STORE -service NAME -tenant ID [flags]

Shows that a tenant's stop is a stop: worker processes seal and open canary
records on the platform's own Store while access to the tenant's CMK is taken
away and given back. Meanwhile THE TENANT IS BLOCKED, for -max-age and at most a
minute: it must be marked drillable, or -yes-block-this-tenant be given.

The platform's credentials for AWS come from where the AWS SDK looks for them; use
its role, and not the customer's. With kmsfake, -kms-endpoint says where it is.

Either -by-hand, and somebody else takes access away and gives it back when asked
to, or, with kmsfake only, -customer-access-key, and the command does it.

The report goes to standard output. Exit status: 0 the promise was kept, 1 it was
broken, 2 the drill could not be run, or showed nothing.

`

type drillFlags struct {
	platform
	workers       int
	json          string
	block, byHand bool
	customer      string
}

func parseDrill(args []string, errs io.Writer) (*drillFlags, error) {
	var f drillFlags
	flags := flag.NewFlagSet("byok drill revoke", flag.ContinueOnError)
	flags.StringVar(&f.Store, "store", "", "the platform's Store: sqlite:`PATH`, or postgres://USER@HOST/DATABASE, with the password in PGPASSWORD or ~/.pgpass")
	flags.StringVar(&f.Service, "service", "", "the platform's `name`, the first argument of byok.New")
	flags.StringVar(&f.Tenant, "tenant", "", "the tenant's `id`")
	flags.DurationVar(&f.MaxAge, "max-age", byok.DefaultMaxAge, "MaxAge of the platform's Keepers: the bound that is promised")
	flags.IntVar(&f.workers, "workers", 3, "worker processes, 1 to 32")
	flags.StringVar(&f.json, "json", "", "write the report as JSON to a `file`, too")
	flags.BoolVar(&f.block, "yes-block-this-tenant", false, "block the tenant although it is not marked drillable")
	flags.BoolVar(&f.byHand, "by-hand", false, "ask for access to be taken away and given back")
	flags.StringVar(&f.Endpoint, "kms-endpoint", "", "`URL` of a kmsfake, such as http://127.0.0.1:4599; default: AWS")
	flags.StringVar(&f.AccessKey, "platform-access-key", "", "with -kms-endpoint: the platform's access key `id` there (default "+demoAccessKey+", as in examples/server)")
	flags.StringVar(&f.customer, "customer-access-key", "", "with -kms-endpoint: access key `id` of the key's owner, on whose behalf the key is disabled and enabled")
	if err := parse(flags, args, drillUsage, errs); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() != 0:
		return nil, fmt.Errorf("drill revoke: unexpected %q", flags.Arg(0))
	case f.Store == "" || f.Service == "" || f.Tenant == "":
		return nil, errors.New("drill revoke: -store, -service and -tenant are required; -h lists all flags")
	case f.Endpoint == "" && (f.customer != "" || f.AccessKey != ""):
		return nil, errors.New("drill revoke: -customer-access-key and -platform-access-key are for kmsfake, with -kms-endpoint; on AWS use -by-hand")
	case f.byHand == (f.customer != ""):
		return nil, errors.New("drill revoke: give either -by-hand or, with kmsfake, -customer-access-key")
	}
	if f.Endpoint != "" && f.AccessKey == "" {
		f.AccessKey = demoAccessKey
	}
	return &f, nil
}

func drillRevoke(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) (status int, err error) {
	f, err := parseDrill(args, errs)
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	k, done, err := f.keeper(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer done()
	tenant := k.Tenant(f.Tenant)
	st, err := tenant.Status(ctx)
	if err != nil {
		return 0, err
	}
	at := "AWS KMS"
	if f.Endpoint != "" {
		at = "kmsfake at " + f.Endpoint
	}
	c := drill.Config{
		Status: tenant.Status, MaxAge: f.MaxAge, Worker: process(self, &f.platform, errs), Workers: f.workers,
		BlockTenant: f.block, ByHand: f.byHand,
		Setting:  fmt.Sprintf("The workers are processes of one machine; Store `%s`, %s.", f.Store, at),
		Progress: func(s string) { fmt.Fprintln(errs, "byok drill:", s) },
	}
	if f.byHand {
		byHand(&c, f.aws(), st.Key, in, errs)
	} else if err := f.asCustomer(&c, st.Key, errs); err != nil {
		return 0, err
	}
	r, err := drill.Revoke(ctx, c)
	if r != nil {
		fmt.Fprint(out, r.Markdown())
		if f.json != "" {
			err = errors.Join(err, writeJSON(f.json, r))
		}
	}
	if errors.Is(err, drill.ErrNotDrillable) {
		return 0, fmt.Errorf("the tenant %s is not marked drillable (byok.Tenant.SetDrillable); if it may be blocked for a while, add -yes-block-this-tenant", f.Tenant)
	}
	return conclude(r, err, errs), nil
}

// conclude makes an exit status of what came of a drill.
func conclude(r *drill.Report, err error, errs io.Writer) int {
	if err != nil {
		fmt.Fprintln(errs, "byok:", err)
	}
	switch {
	case r != nil && r.Verdict == drill.Fail: // whatever else there was
		return exitBroken
	case err != nil || r.Verdict != drill.Pass:
		return exitFailed
	}
	return exitOK
}

func writeJSON(file string, r *drill.Report) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// aws is the AWS CLI, as a person calls it to reach the same KMS.
func (f *drillFlags) aws() string {
	if f.Endpoint == "" {
		return "aws"
	}
	return "aws --endpoint-url " + f.Endpoint
}

// asCustomer disables and enables the key as its owner does, over the wire.
func (f *drillFlags) asCustomer(c *drill.Config, key byok.KeyID, errs io.Writer) error {
	a, err := arn.Parse(key.ID)
	if err != nil {
		return fmt.Errorf("the tenant's key is none of AWS KMS: %w", err)
	}
	client := kms.NewFromConfig(aws.Config{Region: a.Region, BaseEndpoint: &f.Endpoint, Credentials: anySecret(f.customer)})
	c.Deny = func(ctx context.Context) error {
		fmt.Fprintf(errs, "byok drill: disabling the key. Should this command be killed before it says that access was given back:\n"+
			"    %s kms enable-key --key-id %s\n", f.aws(), key.ID)
		_, err := client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &key.ID})
		return err
	}
	c.Restore = func(ctx context.Context) error {
		_, err := client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &key.ID})
		return err
	}
	return nil
}

// byHand asks a person. Two different words are asked for, so that a late answer
// to the first question is none to the second; without a terminal, and without an
// answer, the workers notice by themselves.
func byHand(c *drill.Config, aws string, key byok.KeyID, in io.Reader, errs io.Writer) {
	lines := make(chan string)
	go func() {
		for s := bufio.NewScanner(in); s.Scan(); {
			lines <- s.Text()
		}
	}()
	ask := func(what, example, word string) func(context.Context) error {
		return func(ctx context.Context) error {
			fmt.Fprintf(errs, "\n>>> %s, as its owner. For example:\n\n      %s kms %s --key-id %s\n\n>>> Then type %q and Enter, or just wait until the workers see it.\n\n", what, aws, example, key.ID, word)
			for {
				select {
				case s := <-lines:
					if strings.TrimSpace(s) == word {
						return nil
					}
					fmt.Fprintf(errs, ">>> %q is what I wait for.\n", word)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
	}
	c.Deny = ask("Now take away our access to the key", "disable-key", "denied")
	c.Restore = ask("Now give access back", "enable-key", "restored")
}
