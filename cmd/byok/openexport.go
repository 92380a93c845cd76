package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
)

const openExportUsage = `usage: byok open-export -key ARN (-out DIR | -ndjson) [flags] FILE
       byok open-export FILE

Opens an export that byok.Tenant.Export made, with your own access to your own
KMS keys, and with nothing of the platform. FILE may be - for standard input.
One kms:Decrypt is made for each data key, with the encryption context
tenant_id, service, purpose and data_key_id, and only under the keys that are
given with -key: names in the file are only compared with them.

Without -key nothing is opened: it checks the file, and says what is in it and
which keys it names. Nothing of that is authenticated.

-out DIR writes each record to DIR/records, and DIR/index.ndjson says which is
which. DIR must not exist, or be empty. -ndjson writes JSON lines to standard
output, with the data in base64.

Each record that does not open is named on standard error, with the reason, and
the others are opened. Exit status: 0 everything was there and has opened;
1 something has not, or is missing; 2 it could not be done, or was interrupted;
3 as 1, but only since KMS did not answer: run it again.

`

type openFlags struct {
	keys               []byok.KeyID
	out                string
	ndjson             bool
	endpoint, customer string
	file               string
}

func parseOpenExport(args []string, errs io.Writer) (*openFlags, error) {
	var f openFlags
	flags := flag.NewFlagSet("byok open-export", flag.ContinueOnError)
	flags.Func("key", "`ARN` of a KMS key of yours, which may be asked; may be given again", func(s string) error {
		if a, err := arn.Parse(s); err != nil || a.Service != "kms" || !strings.HasPrefix(a.Resource, "key/") {
			return errors.New("not the ARN of a KMS key (arn:aws:kms:REGION:ACCOUNT:key/ID)")
		}
		f.keys = append(f.keys, awskms.Key(s))
		return nil
	})
	flags.StringVar(&f.out, "out", "", "write the records to files in this `directory`, which must not exist or be empty")
	flags.BoolVar(&f.ndjson, "ndjson", false, "write the records to standard output as JSON lines")
	flags.StringVar(&f.endpoint, "kms-endpoint", "", "`URL` of a kmsfake, such as http://127.0.0.1:4599; default: AWS")
	flags.StringVar(&f.customer, "customer-access-key", "", "with -kms-endpoint: your access key `id` there")
	if err := parse(flags, args, openExportUsage, errs); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() != 1:
		return nil, errors.New("open-export: one FILE is needed, behind the flags; -h lists them")
	case (len(f.keys) > 0) != (f.out != "" || f.ndjson) || f.out != "" && f.ndjson:
		return nil, errors.New("open-export: with -key give either -out or -ndjson; without it, neither")
	case (f.endpoint != "") != (f.customer != ""):
		return nil, errors.New("open-export: -kms-endpoint and -customer-access-key go together")
	}
	f.file = flags.Arg(0)
	return &f, nil
}

// keyring is the customer's own. The keys were named in full by whoever may use them, so
// every partition and multi-Region keys will do.
func (f *openFlags) keyring(ctx context.Context) (byok.Keyring, error) {
	if len(f.keys) == 0 {
		return nil, nil
	}
	o := &awskms.Options{Partitions: []string{"aws", "aws-cn", "aws-us-gov"}, AllowMultiRegion: true, Endpoint: f.endpoint}
	if f.endpoint != "" {
		return awskms.New(aws.Config{Credentials: anySecret(f.customer)}, o)
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	return awskms.New(cfg, o)
}

// destination is where records go. A record that does not open leaves nothing there.
type destination interface {
	put(*byok.ExportedRecord) error // its own errors are *outError
	close() error
}

// outError is one of the place where the records go: nothing else will fare better there.
type outError struct{ error }

func (e *outError) Unwrap() error { return e.error }

func openExport(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) (status int, err error) {
	f, err := parseOpenExport(args, errs)
	if err != nil {
		return 0, err
	}
	keys, err := f.keyring(ctx)
	if err != nil {
		return 0, err
	}
	if f.file != "-" {
		file, err := os.Open(f.file)
		if err != nil {
			return 0, err
		}
		defer file.Close()
		in = file
	} else {
		in = &interruptible{ctx: ctx, src: in}
	}
	var to destination
	switch {
	case f.ndjson:
		to = newLines(out)
	case f.out != "":
		if to, err = newDirectory(f.out); err != nil {
			return 0, err
		}
	}
	t := tally{errs: errs}
	r := byok.OpenExport(keys, f.keys, in)
	for rec, err := range r.Records(ctx) {
		if rec != nil && err == nil && to != nil {
			err = to.put(rec)
		}
		if err = t.count(rec, err); err != nil {
			if to != nil {
				_ = to.close()
			}
			return 0, err
		}
	}
	if to != nil {
		if err := to.close(); err != nil {
			return 0, err
		}
	}
	info := r.Info()
	if to == nil {
		describe(out, info)
	}
	return t.conclude(info, f.keys), nil
}

// interruptible lets go of a read when ctx ends: one of a pipe that nobody writes to does not
// end by itself. The goroutine that it then leaves ends with the process.
type interruptible struct {
	ctx context.Context
	src io.Reader
	buf []byte // once ctx has ended, of the read that was let go
}

func (r *interruptible) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.buf == nil {
		r.buf = make([]byte, 128<<10)
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := r.src.Read(r.buf[:min(len(p), len(r.buf))])
		done <- result{n, err}
	}()
	select {
	case x := <-done:
		return copy(p, r.buf[:x.n]), x.err
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}

// tally counts what came of each record.
type tally struct {
	errs                     io.Writer
	opened, failed, silenced int // of those that failed, silenced did for want of an answer
}

// count takes the outcome of one record, or of what is no record. An error that it returns
// ends everything.
func (t *tally) count(rec *byok.ExportedRecord, err error) error {
	var bad *byok.ExportError
	var out *outError
	switch {
	case err == nil:
		t.opened++
		return nil
	case errors.As(err, &out), !errors.As(err, &bad):
		return err
	case errors.Is(err, byok.ErrPlatform):
		return fmt.Errorf("your own access to AWS does not work: %w%s", bad.Err, cause(bad.Err))
	case bad.Harmless():
		fmt.Fprintln(t.errs, "byok: warning:", strings.TrimPrefix(err.Error(), "byok: "))
		return nil
	}
	fmt.Fprintf(t.errs, "%v%s\n", err, cause(bad.Err))
	n := 1
	if bad.Record != 0 && bad.Count > 1 {
		n = int(min(bad.Count, 1<<40))
	}
	t.failed += n
	if errors.Is(err, byok.ErrKeyUnavailable) {
		t.silenced += n
	}
	return nil
}

// cause is what stood in the way to KMS, for who has to see to it.
func cause(err error) string {
	var ke *byok.KeyError
	if !errors.As(err, &ke) || ke.Err == nil || ke.Class != byok.ClassPlatform && ke.Class != byok.ClassOutage {
		return ""
	}
	return fmt.Sprintf(" (%s: %v)", ke.Key.ID, ke.Err)
}

// conclude sums up, and makes an exit status of it.
func (t *tally) conclude(info byok.ExportInfo, named []byok.KeyID) int {
	if len(named) > 0 {
		fmt.Fprintf(t.errs, "byok: tenant %s of %s: %d records opened, %d problems\n", info.Tenant, info.Service, t.opened, t.failed)
		for _, c := range info.CMKs {
			if !slices.Contains(named, c.Key) {
				fmt.Fprintf(t.errs, "byok: not asked, since it was not given with -key: %s (%d data keys). If it is yours, give it\n", c.Key.ID, c.DataKeys)
			}
		}
	}
	switch {
	case t.failed == 0:
		return exitOK
	case t.failed == t.silenced:
		return exitAgain
	}
	return exitBroken
}

// describe prints what a file says of itself.
func describe(out io.Writer, info byok.ExportInfo) {
	// Names are of printable characters only: the parser refuses others.
	fmt.Fprintf(out, "not authenticated: whoever wrote this file wrote whatever it says\n"+
		"tenant     %s\nservice    %s\nmade       %s\ndata keys  %d\nrecords    %d\n", info.Tenant, info.Service, info.CreatedAt.Format("2006-01-02 15:04:05 MST"), info.DataKeys, info.Records)
	if !info.Complete {
		fmt.Fprintln(out, "complete   no")
	}
	for _, c := range info.CMKs {
		fmt.Fprintf(out, "key        %s %s (%d data keys)\n", c.Key.Provider, c.Key.ID, c.DataKeys)
	}
	fmt.Fprintln(out, "nothing was opened: give the keys that are yours with -key, and -out or -ndjson")
}
