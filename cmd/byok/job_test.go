package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
)

// records puts a table of n sealed records into the place's database, of which each hundredth may be damaged, and each tenth of the rest is in clear.
func (p *place) records(n int, damaged bool) (k *byok.Keeper, db *sql.DB) {
	p.t.Helper()
	pl := &platform{Store: p.store, Service: "test", MaxAge: time.Second, Endpoint: p.url, AccessKey: demoAccessKey}
	k, done, err := pl.keeper(p.t.Context(), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(done)
	db, _, err = openDB("-store", p.store)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Exec(`CREATE TABLE invoices (id INTEGER PRIMARY KEY, sealed BLOB, clear TEXT)`); err != nil {
		p.t.Fatal(err)
	}
	rows := make([][]any, n)
	for i := range n {
		text := fmt.Sprint("invoice number ", i)
		sealed, err := k.Seal(p.t.Context(), byok.Scope{Tenant: "acme", Purpose: "invoices"}, []byte(text), fmt.Append(nil, "invoices/", i))
		if err != nil {
			p.t.Fatal(err)
		}
		switch {
		case damaged && i%100 == 99:
			sealed[len(sealed)-1] ^= 1
		case i%10 == 7:
			rows[i] = []any{i, nil, text}
			continue
		}
		rows[i] = []any{i, sealed, nil}
	}
	tx, err := db.Begin() // the Store is in the same file: nothing may be sealed meanwhile
	if err != nil {
		p.t.Fatal(err)
	}
	defer tx.Rollback()
	for _, r := range rows {
		if _, err := tx.Exec(`INSERT INTO invoices VALUES (?, ?, ?)`, r...); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		p.t.Fatal(err)
	}
	if _, err := k.Tenant("acme").Rotate(p.t.Context(), byok.Rotation{Type: byok.RotateDEK}); err != nil {
		p.t.Fatal(err)
	}
	return k, db
}

func (p *place) job(command string, more ...string) []string {
	return append([]string{command, "-store", p.store, "-service", "test", "-tenant", "acme", "-max-age", "1s", "-kms-endpoint", p.url}, more...)
}

var ofInvoices = []string{"-table", "invoices", "-key", "id", "-value", "sealed", "-clear-column", "clear", "-purpose", "invoices", "-aad", "invoices/{key}"}

// check opens every record of the table, and looks that none is due.
func check(t *testing.T, k *byok.Keeper, db *sql.DB, n int, bad func(i int) bool) {
	t.Helper()
	rows, err := db.Query(`SELECT id, sealed, clear IS NULL FROM invoices`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	seen := 0
	for ; rows.Next(); seen++ {
		var i int
		var sealed []byte
		var clean bool
		if err := rows.Scan(&i, &sealed, &clean); err != nil {
			t.Fatal(err)
		}
		plain, err := k.Open(t.Context(), byok.Scope{Tenant: "acme", Purpose: "invoices"}, sealed, fmt.Append(nil, "invoices/", i))
		if bad(i) {
			if err == nil {
				t.Errorf("%d opens", i)
			}
			continue
		}
		if err != nil || string(plain) != fmt.Sprint("invoice number ", i) || !clean {
			t.Errorf("%d: %q, %v, nothing in clear: %t", i, plain, err, clean)
		}
		if due, err := k.Due(t.Context(), byok.Scope{Tenant: "acme", Purpose: "invoices"}, sealed); err != nil || due {
			t.Errorf("%d is due: %t, %v", i, due, err)
		}
	}
	if seen != n {
		t.Errorf("%d records of %d", seen, n)
	}
}

// The whole way: a dry run that changes nothing, a job, its bad records by name, and going on with what has ended.
func TestReseal(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const n = 500
	k, db := p.records(n, true)
	bad := func(i int) bool { return i%100 == 99 }
	var out, errs buffer
	args := p.job("reseal", append(slices.Clone(ofInvoices), "-adopt", "-shards", "3")...)
	if status := run(t.Context(), append(slices.Clone(args), "-dry-run"), nil, &out, &errs); status != exitOK {
		t.Fatalf("status %d\n%s\n%s", status, &out, &errs)
	}
	for _, says := range []string{`records +500 `, `due +500 `, `in clear +50 +would be sealed`, `data key \S+ +450 +generation 1`, `Nothing was changed`, `USD 0\.00`} {
		if !regexp.MustCompile(says).MatchString(out.String()) {
			t.Errorf("the dry run does not say %q:\n%s", says, &out)
		}
	}
	for j, err := range p.acme.Jobs(t.Context()) {
		if err != nil || j.Type == byok.JobReseal {
			t.Fatalf("the dry run began %+v, %v", j, err)
		}
	}
	t.Logf("a dry run:\n%s", &out)
	var told, toldAgain, ignored buffer
	if status := run(t.Context(), args, nil, &told, &errs); status != exitBroken {
		t.Fatalf("status %d\n%s\n%s", status, &told, &errs)
	}
	t.Logf("not on a terminal:\n%s", &told)
	check(t, k, db, n, bad)
	named := regexp.MustCompile(`(?m)^failed: "(\d+)" BYOK_008: `).FindAllStringSubmatch(told.String(), -1)
	if len(named) != n/100 {
		t.Errorf("%d bad records are named", len(named))
	}
	for _, m := range named {
		var i int
		if _, err := fmt.Sscan(m[1], &i); err != nil || !bad(i) {
			t.Errorf("%q is named", m[1])
		}
	}
	if !strings.Contains(told.String(), "done, but for 5 of 500 records") || strings.Count(told.String(), "re-seal  done  100.0%  500/500  5 failed\n") != 1 || strings.ContainsAny(told.String(), "\x1b\r") {
		t.Errorf("%s", &told)
	}
	again := regexp.MustCompile(`(?m)^  byok (reseal .* -job [0-9a-f]+)$`).FindStringSubmatch(told.String())
	if again == nil {
		t.Fatalf("it does not say how to go on:\n%s", &told)
	}
	if j, err := p.acme.Job(t.Context(), again[1][strings.LastIndex(again[1], " ")+1:]); err != nil || j.Actor != "byok reseal" {
		t.Errorf("%+v, %v", j, err)
	}
	if status := run(t.Context(), unquote(again[1]), nil, &toldAgain, &errs); status != exitBroken || strings.Count(toldAgain.String(), "failed: ") != 5 {
		t.Errorf("going on with what has ended: status %d\n%s\n%s", status, &toldAgain, &errs)
	}
	// No job goes on with other records, or with the same ones told otherwise: those in clear would be sealed in two ways, or passed over.
	if _, err := db.Exec(`CREATE TABLE events (id INTEGER PRIMARY KEY, sealed BLOB, other BLOB)`); err != nil {
		t.Fatal(err)
	}
	id := again[1][strings.LastIndex(again[1], " ")+1:]
	for _, other := range [][]string{
		{"-table", "events", "-key", "id", "-value", "sealed"}, {"-table", "events", "-key", "id", "-value", "other"}, {"-files", "."},
		slices.Concat(ofInvoices, []string{"-aad", "invoice/{key}"}), slices.Concat(ofInvoices, []string{"-purpose", "invoice"}),
		slices.Concat(ofInvoices, []string{"-clear-column", ""}), ofInvoices[:len(ofInvoices)-2],
	} {
		var errs buffer
		if status := run(t.Context(), p.job("reseal", slices.Concat(other, []string{"-job", id})...), nil, &ignored, &errs); status != exitFailed || !strings.Contains(errs.String(), "the job is about") {
			t.Errorf("%s: status %d\n%s", other, status, &errs)
		}
	}
}

// A table that cannot be read begins no job and no generation; a row that contradicts itself is named with the reason.
func TestResealOddTables(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, db := p.records(10, false) // 7 is in clear
	for _, statement := range []string{
		`CREATE TABLE odd (id TEXT PRIMARY KEY, sealed BLOB)`, `INSERT INTO odd VALUES (NULL, x'00')`, `UPDATE invoices SET clear = 'x' WHERE id = 3`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs buffer
	odd := p.job("reseal", "-table", "odd", "-key", "id", "-value", "sealed", "-reason", "compromise")
	if status := run(t.Context(), odd, nil, &out, &errs); status != exitFailed || !strings.Contains(errs.String(), "NULL") || strings.Contains(out.String(), "begun") {
		t.Errorf("status %d\n%s\n%s", status, &out, &errs)
	}
	st, err := p.acme.Status(t.Context())
	if err != nil || st.DEKVersion != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	for j, err := range p.acme.Jobs(t.Context()) {
		if err != nil || j.Type == byok.JobReseal {
			t.Errorf("%+v, %v", j, err)
		}
	}
	status := run(t.Context(), p.job("reseal", append(slices.Clone(ofInvoices), "-adopt")...), nil, &out, &errs)
	if status != exitBroken || !strings.Contains(out.String(), `failed: "3" BYOK_008: `) || !strings.Contains(out.String(), "the source gives no value for it") {
		t.Errorf("status %d\n%s\n%s", status, &out, &errs)
	}
}

// JSON has braces too, and is no mistake.
func TestOtherPlace(t *testing.T) {
	for aad, want := range map[string]string{"": "", "{key}": "", "a{key}b{key}": "", `{"id":"{key}"}`: "", "{}": "", "{id}": "{id}", "{key}/{tenant-id}": "{tenant-id}", "{Key}": "{Key}"} {
		if got := otherPlace(aad); got != want {
			t.Errorf("%q: %q", aad, got)
		}
	}
}

// unquote takes a command apart as a shell does, for what shell makes.
func unquote(command string) (words []string) {
	for _, w := range regexp.MustCompile(`(?:[^ ']|'[^']*')+`).FindAllString(command, -1) {
		words = append(words, strings.ReplaceAll(w, "'", ""))
	}
	return words
}

func TestShellWords(t *testing.T) {
	for _, w := range []string{"", "two words", "$HOME", "a'b", "`x`", "a;b", "*", "\\", "é", "{key}"} {
		if got := shell(w); !strings.HasPrefix(got, "'") || !strings.HasSuffix(got, "'") {
			t.Errorf("%q is %s", w, got)
		}
	}
	if got := shell("plain-1.2/x") + shell("it's"); got != `plain-1.2/x'it'\''s'` {
		t.Error(got)
	}
}

// An interrupt in the middle: it says how to go on, and going on ends it. Nothing is lost.
func TestResealInterrupted(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const n = 600
	k, db := p.records(n, false)
	clear := func() (left int) {
		if err := db.QueryRow(`SELECT count(*) FROM invoices WHERE clear IS NOT NULL`).Scan(&left); err != nil {
			t.Error(err)
		}
		return left
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out, rest, errs buffer
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for clear() > n/10*3/4 && ctx.Err() == nil {
			time.Sleep(2 * time.Millisecond)
		}
		interrupt()
	}()
	status := run(ctx, p.job("reseal", append(slices.Clone(ofInvoices), "-adopt", "-rate", "300", "-page", "20", "-shards", "1")...), nil, &out, &errs)
	interrupt()
	<-watched
	if status != exitInterrupted {
		t.Fatalf("status %d\n%s\n%s", status, &out, &errs)
	}
	last := regexp.MustCompile(`(?s)interrupted; .*\n  byok (reseal .*)\n$`).FindStringSubmatch(out.String())
	if last == nil || !strings.Contains(last[1], "-job ") || strings.Contains(last[1], "-adopt") {
		t.Fatalf("it does not say how to go on:\n%s", &out)
	}
	if clear() == 0 {
		t.Fatal("it was not interrupted in the middle")
	}
	if status := run(t.Context(), append(unquote(last[1]), "-rate", "100000"), nil, &rest, &errs); status != exitOK {
		t.Fatalf("status %d\n%s\n%s", status, &rest, &errs)
	}
	if !strings.Contains(rest.String(), "done: of 600 records none is sealed by a generation before 2, and none has failed") {
		t.Errorf("%s", &rest)
	}
	check(t, k, db, n, func(int) bool { return false })
}

// A directory, of which some files are in clear.
func TestResealFiles(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	k, _ := p.records(0, false)
	dir := t.TempDir()
	scope := byok.Scope{Tenant: "acme", Purpose: "files"}
	key := func(i int) string { return fmt.Sprintf("d%d/%d", i%3, i) }
	for i := range 30 {
		name := filepath.Join(dir, key(i))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, bytes.Repeat([]byte{byte(i)}, 1000), 0o600); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := k.SealFile(t.Context(), name+".sealed", name, scope, []byte("f/"+key(i))); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	var out, errs buffer
	status := run(t.Context(), p.job("reseal", "-files", dir, "-suffix", ".sealed", "-purpose", "files", "-aad", "f/{key}", "-adopt", "-reason", "compromise"), nil, &out, &errs)
	if status != exitOK || !strings.Contains(out.String(), "done: of 30 records none is sealed by a generation before 3") {
		t.Fatalf("status %d\n%s\n%s", status, &out, &errs)
	}
	for i := range 30 {
		plain := filepath.Join(t.TempDir(), "plain")
		if err := k.OpenFile(t.Context(), plain, filepath.Join(dir, key(i)+".sealed"), scope, []byte("f/"+key(i))); err != nil {
			t.Errorf("%s: %v", key(i), err)
		}
		if b, err := os.ReadFile(plain); err != nil || !bytes.Equal(b, bytes.Repeat([]byte{byte(i)}, 1000)) {
			t.Errorf("%s: %v", key(i), err)
		}
		if _, err := os.Stat(filepath.Join(dir, key(i))); err == nil {
			t.Errorf("%s is still in clear", key(i))
		}
	}
}

func TestMove(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.records(10, false)
	to := p.fake.Account("444455556666").CreateKey(awskms.KeyPolicy("444455556666", role, p.acme.EncryptionContext()).JSON())
	var out, errs buffer
	if status := run(t.Context(), p.job("move", "-to", to.ARN(), "-reason", "another account"), nil, &out, &errs); status != exitOK {
		t.Fatalf("status %d\n%s\n%s", status, &out, &errs)
	}
	if !strings.Contains(out.String(), "are under "+to.ARN()) {
		t.Errorf("%s", &out)
	}
	if st, err := p.acme.Status(t.Context()); err != nil || st.Key.ID != to.ARN() {
		t.Errorf("%+v, %v", st, err)
	}
	again := regexp.MustCompile(`byok (move .* -job [0-9a-f]+)`).FindStringSubmatch(out.String())
	if again == nil {
		t.Fatalf("%s", &out)
	}
	if status := run(t.Context(), unquote(again[1]), nil, &out, &errs); status != exitOK {
		t.Errorf("going on with what has ended: status %d\n%s\n%s", status, &out, &errs)
	}
}

func TestJobRefusals(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.records(1, false)
	table := func(more ...string) []string { return p.job("reseal", append(slices.Clone(ofInvoices), more...)...) }
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no flags":               {[]string{"reseal"}, "required"},
		"help":                   {[]string{"reseal", "-h"}, "Replaces the data keys"},
		"an argument":            {table("x"), "unexpected"},
		"nothing to re-seal":     {p.job("reseal"), "either -table"},
		"two things":             {table("-files", "."), "either -table"},
		"a table's suffix":       {table("-suffix", ".x"), "about files"},
		"files of a tenant":      {p.job("reseal", "-files", ".", "-tenant-column", "x"), "-files goes with"},
		"adopt without AAD":      {p.job("reseal", "-table", "invoices", "-key", "id", "-value", "sealed", "-adopt"), "-aad"},
		"another placeholder":    {table("-aad", "invoices/{id}"), "-aad has {id} in it"},
		"a job that begins":      {table("-job", "0123", "-generation", "1"), "-generation"},
		"a dry run of a job":     {table("-job", "0123", "-dry-run"), "has not begun"},
		"no such job":            {table("-job", "0123"), "no such job"},
		"no such table":          {table("-table", "nothing"), "nothing"},
		"no such column":         {table("-value", "nothing"), "nothing"},
		"no such directory":      {p.job("reseal", "-files", "/nothing"), "no such file"},
		"too many shards":        {table("-shards", "257"), "1 to 256"},
		"no rate":                {table("-rate", "-1", "-dry-run"), "PerSecond"},
		"a generation to come":   {table("-generation", "99"), "generation is 2"},
		"a password to be seen":  {table("-db", "postgres://app:hunter2@db/app"), "PGPASSWORD"},
		"one that is a question": {table("-db", "postgres://app@db/app?password=hunter2"), "PGPASSWORD"},
		"no URL":                 {table("-db", "postgres://app:hunter2@[db/app"), "no URL"},
		"no database":            {table("-db", "mysql://x"), "sqlite:PATH or postgres://"},
		"a key on AWS":           {[]string{"reseal", "-store", p.store, "-service", "test", "-tenant", "acme", "-platform-access-key", "x"}, "for kmsfake"},
		"move to nowhere":        {p.job("move"), "either -to or -job"},
		"move to two":            {p.job("move", "-to", "x", "-job", "y"), "either -to or -job"},
		"move, an argument":      {p.job("move", "-to", "x", "y"), "unexpected"},
		"move to an alias":       {p.job("move", "-to", "arn:aws:kms:eu-central-1:111122223333:alias/x"), "key"},
		"move, no flags":         {[]string{"move"}, "required"},
		"move, no such job":      {p.job("move", "-job", "0123"), "no such job"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs buffer
			if status := run(t.Context(), c.args, nil, &out, &errs); status != exitFailed || !strings.Contains(errs.String(), c.says) || strings.Contains(errs.String(), "hunter2") {
				t.Errorf("status %d, want %d and %q\n%s\n%s", status, exitFailed, c.says, &out, &errs)
			}
		})
	}
}

// Keys of records are the platform's users': nothing in them reaches a terminal but as text.
func TestFailuresAreText(t *testing.T) {
	var out buffer
	f := &failures{d: newDisplay(&out), out: &out, seen: map[string]bool{}}
	f.tell(byok.RecordFailure{Key: "\u009b2J\u202e", Code: "BYOK_008", Why: "\x1b]0;x"})
	f.tell(byok.RecordFailure{Key: "\u009b2J\u202e", Code: "BYOK_008", Why: "again"})
	if got := out.String(); got != `failed: "\u009b2J\u202e" BYOK_008: "\x1b]0;x"`+"\n" {
		t.Errorf("%q", got)
	}
}
