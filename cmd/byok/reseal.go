package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/byok-go/byok"
	filetree "github.com/byok-go/byok/files"
	"github.com/byok-go/byok/sqlstore/sqltable"
)

const resealUsage = `usage: byok reseal -store STORE -service NAME -tenant ID (-table NAME -key COLUMN -value COLUMN | -files DIR) [flags]

Replaces the data keys of a tenant's records: begins a job and works at it, or, with
-job, goes on with one. Any number of these may work at the same job, on any
machines. -dry-run counts what is due and what it costs, and changes nothing.

Rotate the tenant's data keys before (POST /keys/rotate, or Tenant.Rotate): what the
data keys of today have sealed is left as it is. With "-reason compromise" it rotates
by itself, and then everything is re-sealed.

-purpose and -aad must be what the platform seals these records with. Records that do
not open are named, left as they are, and tried again in each pass.

An interrupt stops it, and it says how to go on. Exit status: 0 nothing is left and
nothing has failed, 1 some records could not be re-sealed, and each is named, 2 it could
not be done, 130 interrupted.

`

// reseal is the command.
type reseal struct {
	work
	db          string
	table       sqltable.Table
	name        string // of the table, with its schema
	aad         string // with {key} in it
	dir, suffix string
	begin       byok.Resealing
	shards      int
	dryRun      bool
	options     byok.ResealOptions
}

func parseReseal(args []string, errs io.Writer) (*reseal, error) {
	r := &reseal{work: work{command: "reseal", begins: []string{"generation", "adopt", "complete", "reason", "shards", "dry-run"}}}
	f := flag.NewFlagSet("byok reseal", flag.ContinueOnError)
	r.work.flags = f
	r.platform.flags(f)
	f.StringVar(&r.job, "job", "", "go on with this job (`id`)")
	f.StringVar(&r.name, "table", "", "the `name` of the table, or schema.name")
	f.StringVar(&r.table.Key, "key", "", "its `column` of keys: unique integers, texts, UUIDs or bytes")
	f.StringVar(&r.table.Value, "value", "", "its `column` of envelopes")
	f.StringVar(&r.table.Tenant, "tenant-column", "", "its `column` that says whose a row is")
	f.StringVar(&r.table.TenantID, "tenant-value", "", "what that column says of this tenant (default: -tenant)")
	f.StringVar(&r.table.Clear, "clear-column", "", "its `column` of values that are in clear, NULL once they are sealed")
	f.StringVar(&r.table.Sealed, "sealed-column", "", "its boolean `column` that is false where -value is in clear")
	f.StringVar(&r.db, "db", "", "the database of the table, as -store (default: that)")
	f.StringVar(&r.dir, "files", "", "the `directory` of files, with all below it")
	f.StringVar(&r.suffix, "suffix", "", "of the names of sealed files; all others are in clear (default: all are sealed)")
	f.StringVar(&r.table.Purpose, "purpose", "", "the purpose that they are sealed with")
	f.StringVar(&r.aad, "aad", "", "the AAD that they are sealed with; {key} stands for the record's key, or the file's path below -files")
	f.Uint64Var(&r.begin.Generation, "generation", 0, "the oldest generation that is to be left (default: today's)")
	f.BoolVar(&r.begin.Adopt, "adopt", false, "seal records that are in clear; while the job is under way, whoever can mark a record so can have it vouched for")
	f.BoolVar(&r.begin.Complete, "complete", false, "these are all records of the tenant that there are")
	f.StringVar(&r.begin.Reason, "reason", "", "why, for the audit log; the word compromise alone rotates first")
	f.IntVar(&r.shards, "shards", 16, "into how many parts it is shared out, 1 to 256")
	f.IntVar(&r.options.PerSecond, "rate", 1000, "records a second, at most, in this process")
	f.IntVar(&r.options.Page, "page", 100, "records at once, 1 to 1000")
	f.BoolVar(&r.dryRun, "dry-run", false, "count what is due, and change nothing")
	if err := parse(f, args, resealUsage, errs); err != nil {
		return nil, err
	}
	return r, r.check()
}

func (r *reseal) check() error {
	if err := r.complete(r.command); err != nil {
		return err
	}
	given := map[string]bool{}
	r.work.flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case r.work.flags.NArg() != 0:
		return fmt.Errorf("reseal: unexpected %q", r.work.flags.Arg(0))
	case (r.name == "") == (r.dir == ""):
		return errors.New("reseal: give either -table, with -key and -value, or -files")
	case r.dir != "" && (r.table.Key+r.table.Value+r.table.Tenant+r.table.TenantID+r.table.Clear+r.table.Sealed+r.db != ""):
		return errors.New("reseal: -files goes with -suffix, and not with what is about a table")
	case r.name != "" && r.suffix != "":
		return errors.New("reseal: -suffix is about files")
	case r.begin.Adopt && !given["aad"]:
		return errors.New("reseal: with -adopt, say which -aad the platform will open the records with, and be it -aad ''")
	case otherPlace(r.aad) != "":
		return fmt.Errorf("reseal: -aad has %s in it, and only {key} is replaced", otherPlace(r.aad))
	case r.shards < 1 || r.shards > byok.MaxShards:
		return fmt.Errorf("reseal: -shards must be 1 to %d", byok.MaxShards)
	case r.job != "" && r.dryRun:
		return errors.New("reseal: a -dry-run is of a job that has not begun")
	}
	if r.table.Tenant != "" && r.table.TenantID == "" {
		r.table.TenantID = r.Tenant
	}
	r.table.AAD = r.aadOf
	r.table.Name = r.name
	if schema, name, ok := strings.Cut(r.name, "."); ok {
		r.table.Schema, r.table.Name = schema, name
	}
	return r.onlyToBegin()
}

// braced is what looks as if something were put in its place. The braces of JSON do not.
var braced = regexp.MustCompile(`\{[\w.-]+\}`)

// otherPlace returns what in the AAD looks like {key}, and is not: all records would be sealed with it as it stands.
func otherPlace(aad string) string { return braced.FindString(strings.ReplaceAll(aad, "{key}", "")) }

// aadOf is the AAD of a record.
func (r *reseal) aadOf(key string) []byte {
	if r.aad == "" {
		return nil
	}
	return []byte(strings.ReplaceAll(r.aad, "{key}", key))
}

// where is where the records are: one of the two.
type where struct {
	source  byok.Source
	objects byok.Objects
	name    string // in the job: so that no job goes on with other records
	close   func()
}

func (r *reseal) open(ctx context.Context) (*where, error) {
	if r.dir != "" {
		dir, err := filepath.Abs(r.dir)
		if err != nil {
			return nil, err
		}
		d, err := filetree.Open(dir, &filetree.Options{Suffix: r.suffix, AAD: r.aadOf, Purpose: func(string) string { return r.table.Purpose }})
		if err != nil {
			return nil, err
		}
		return &where{objects: d, name: r.sourceName("files in " + dir), close: func() { _ = d.Close() }}, nil
	}
	name, flag := r.db, "-db"
	if name == "" {
		name, flag = r.Store, "-store"
	}
	db, dialect, err := openDB(flag, name)
	if err != nil {
		return nil, err
	}
	t, err := sqltable.New(ctx, db, dialect, r.table)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &where{source: t, name: r.sourceName("table " + r.name + ", " + r.table.Value), close: func() { _ = db.Close() }}, nil
}

// sourceName is the name of the records in the job: what they are, and a fingerprint of all that says which they are and how they are sealed. With
// another AAD or purpose one job would seal records in clear in two ways, of which the platform opens one; without -clear-column
// it would find none in clear, and end. The fingerprint is for mistakes, and shows nothing of the AAD.
func (r *reseal) sourceName(what string) string {
	h := sha256.New()
	for _, s := range []string{what, r.table.Key, r.table.Tenant, r.table.TenantID, r.table.Clear, r.table.Sealed, r.suffix, r.table.Purpose, r.aad} {
		fmt.Fprintf(h, "%d %s", len(s), s)
	}
	const most = 200 - len(" (12345678)") // what a job may have
	return fmt.Sprintf("%s (%x)", strings.ToValidUTF8(what[:min(len(what), most)], ""), h.Sum(nil)[:4])
}

func (p *where) resealer(ctx context.Context, t *byok.Tenant, job string, o *byok.ResealOptions) (*byok.Resealer, error) {
	if p.objects != nil {
		return t.ObjectResealer(ctx, job, p.objects, o)
	}
	return t.Resealer(ctx, job, p.source, o)
}

func (p *where) any() any {
	if p.objects != nil {
		return p.objects
	}
	return p.source
}

func runReseal(ctx context.Context, args []string, out, errs io.Writer) (status int, err error) {
	r, err := parseReseal(args, errs)
	if err != nil {
		return 0, err
	}
	d := newDisplay(out)
	k, done, err := r.keeperFor(ctx, d, errs)
	if err != nil {
		return 0, err
	}
	defer done()
	p, err := r.open(ctx)
	if err != nil {
		return 0, err
	}
	defer p.close()
	t := k.Tenant(r.Tenant)
	r.begin.Source = p.name
	if r.dryRun {
		return exitOK, r.count(ctx, t, p, out)
	}
	if err := r.start(ctx, t, p, out); err != nil {
		return 0, err
	}
	names := &failures{d: d, out: out, seen: map[string]bool{}}
	r.options.OnFailure = names.tell
	w, err := p.resealer(ctx, t, r.job, &r.options)
	if err != nil {
		return 0, err
	}
	stop := watch(ctx, t, r.job, d, redrawEvery)
	err = w.Run(ctx)
	j, jerr := stop()
	switch {
	case isInterrupted(ctx, err):
		return r.interrupted(out), nil
	case err != nil && !errors.Is(err, byok.ErrRecordsFailed):
		return 0, err
	case jerr != nil:
		return 0, jerr
	}
	for _, f := range j.Failures {
		names.tell(f)
	}
	return conclusion(j, names, out), nil
}

// start begins the job, or looks whether the one to go on with is about these records.
func (r *reseal) start(ctx context.Context, t *byok.Tenant, p *where, out io.Writer) error {
	if r.job != "" {
		j, err := t.Job(ctx, r.job)
		switch {
		case err != nil:
			return err
		case j.Type != byok.JobReseal:
			return fmt.Errorf("reseal: %s is a %s", r.job, j.Type)
		case j.Source != p.name:
			return fmt.Errorf("reseal: the job is about %q, and these are %q: -purpose, -aad and all that says which records they are must be as when it was begun", j.Source, p.name)
		}
		fmt.Fprintf(out, "going on with %s: %s of %s\n", j.ID, j.Source, r.Tenant)
		return nil
	}
	// What cannot be read at all begins no job, and after a compromise no generation.
	var err error
	if p.objects != nil {
		_, err = p.objects.Objects(ctx, "", "", 1)
	} else {
		_, err = p.source.Records(ctx, "", "", 1)
	}
	if err != nil {
		return err
	}
	if s, ok := p.any().(byok.Splitter); ok && r.shards > 1 {
		if r.begin.Shards, err = s.Split(ctx, r.shards); err != nil {
			return err
		}
	}
	if c, ok := p.any().(byok.Counter); ok {
		if r.begin.Total, err = c.Count(ctx); err != nil {
			return err
		}
	}
	j, err := t.Reseal(ctx, r.begin)
	if j.ID == "" {
		return err
	}
	r.job = j.ID
	fmt.Fprintf(out, "begun: %s of %s, nothing older than generation %d is to be left. Go on with it, here or elsewhere, by:\n  %s\n", j.Source, r.Tenant, j.Generation, r.again())
	return nil // ErrNotAudited comes beside a job that has begun: its event waits
}

// failures names each bad record once.
type failures struct {
	d    *display
	out  io.Writer
	mu   sync.Mutex
	seen map[string]bool
	more bool
}

// maxFailures is how many are remembered as named; behind that, some are named again.
const maxFailures = 100_000

func (f *failures) tell(r byok.RecordFailure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen[r.Key] {
		return
	}
	if len(f.seen) < maxFailures {
		f.seen[r.Key] = true
	} else {
		f.more = true
	}
	// Keys are the platform's data: nothing in them is for the terminal.
	f.d.above(func() {
		fmt.Fprintf(f.out, "failed: %s %s: %s\n", strconv.QuoteToASCII(r.Key), r.Code, strconv.QuoteToASCII(r.Why))
	})
}

// conclusion says what came of a job that has ended, and makes an exit status of it.
func conclusion(j byok.Job, f *failures, out io.Writer) int {
	s := style{ascii: true}
	if j.Failed == 0 {
		fmt.Fprintf(out, "done: of %s records none is sealed by a generation before %d, and none has failed\n", number(j.Total, s), j.Generation)
		return exitOK
	}
	fmt.Fprintf(out, "done, but for %s of %s records: none of the others is sealed by a generation before %d\n", number(j.Failed, s), number(j.Total, s), j.Generation)
	if named := int64(len(f.seen)); named < j.Failed && !f.more {
		fmt.Fprintf(out, "%s of them were named by a process before this one\n", number(j.Failed-named, s))
	}
	return exitBroken
}

// count prints the census of a job that has not begun.
func (r *reseal) count(ctx context.Context, t *byok.Tenant, p *where, out io.Writer) error {
	var c byok.Census
	var err error
	if p.objects != nil {
		c, err = t.ObjectCensus(ctx, r.begin, p.objects, &r.options)
	} else {
		c, err = t.Census(ctx, r.begin, p.source, &r.options)
	}
	if err != nil {
		return err
	}
	s := style{ascii: true}
	fmt.Fprintf(out, "dry run: %s of %s. Nothing was changed.\n\n", p.name, r.Tenant)
	row := func(what string, n int64, note string) {
		fmt.Fprintf(out, "%-22s %15s  %s\n", what, number(n, s), note)
	}
	row("records", c.Records, "")
	row("due", c.Due, "would be re-sealed")
	adopts := "and fail: -adopt seals them"
	if r.begin.Adopt {
		adopts = "would be sealed"
	}
	if c.Clear > 0 {
		row("in clear", c.Clear, adopts)
	}
	if c.Carried > 0 {
		row("carry their data key", c.Carried, "")
	}
	if c.Malformed > 0 {
		row("malformed", c.Malformed, "no envelopes of this tenant: they will fail")
	}
	for _, k := range c.DataKeys {
		note := fmt.Sprintf("generation %d", k.Generation)
		if k.Generation == 0 {
			note = "not in the Store, or not of this purpose: they will fail"
		}
		row("data key "+k.DataKey.String()[:12], k.Records, note)
	}
	fmt.Fprintf(out, "\nat %d records a second in one process: %s, and the pass that proves it\nKMS requests: %s at most, USD %.4f\n", r.options.PerSecond, duration(c.Time), number(c.KMSRequests, s), c.Dollars)
	return nil
}
