package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/sqlstore"
)

// The command on Postgres: records in clear beside sealed ones, of two tenants, in text keys of a language's order. One process is killed in the
// middle, and another one goes on; a row that somebody holds keeps the job from its end and is told of; what a constraint is against, and what is
// damaged, is named, exactly that.
func TestResealCommandOnPostgres(t *testing.T) {
	p := newPostgres(t)
	schema := p.newSchema(t)
	db := p.open(schema)
	k, command, _ := newPlatform(t, db, sqlstore.Postgres)
	acme, scope := k.Tenant("acme"), byok.Scope{Tenant: "acme", Purpose: "invoices"}
	const n = 200
	key := func(i int) string { return fmt.Sprintf("%s/%d", []string{"a", "B", "é", "z"}[i%4], i) }
	plain := func(i int) string { return fmt.Sprint("invoice number ", i) }
	mustExec(t, db, `CREATE TABLE invoices (tenant text, id text COLLATE "de-x-icu", sealed bytea, clear text, state text, PRIMARY KEY (tenant, id))`,
		`CREATE FUNCTION closed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'closed: %', OLD.id; END $$`,
		`CREATE TRIGGER closed BEFORE UPDATE ON invoices FOR EACH ROW WHEN (OLD.state = 'closed') EXECUTE FUNCTION closed()`)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var bad []string
	for i := range n {
		sealed, err := k.Seal(t.Context(), scope, []byte(plain(i)), []byte("invoices/"+key(i)))
		if err != nil {
			t.Fatal(err)
		}
		args := []any{"acme", key(i), sealed, nil, nil}
		switch i % 100 {
		case 7, 27:
			args[2], args[3] = nil, plain(i)
		case 50:
			sealed[len(sealed)-1] ^= 1
			bad = append(bad, key(i)+" BYOK_008")
		case 51:
			args[4] = "closed"
			bad = append(bad, key(i)+" BYOK_014")
		}
		_, err = tx.Exec(`INSERT INTO invoices VALUES ($1, $2, $3, $4, $5)`, args...)
		if err == nil {
			_, err = tx.Exec(`INSERT INTO invoices VALUES ('other', $1, 'not ours', NULL, NULL)`, key(i))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK}); err != nil {
		t.Fatal(err)
	}
	store := (&url.URL{Scheme: "postgres", User: url.User("byok"), Path: "/postgres",
		RawQuery: url.Values{"host": {p.dir}, "sslmode": {"disable"}, "search_path": {schema}}.Encode()}).String()
	args := append(strings.Fields(command), "-store", store, "-table", schema+".invoices", "-key", "id", "-value", "sealed", "-tenant-column", "tenant",
		"-clear-column", "clear", "-purpose", "invoices", "-aad", "invoices/{key}")
	run := func(ctx context.Context, more ...string) (out, errs *bytes.Buffer, err error) {
		cmd := exec.CommandContext(ctx, byokBinary, slices.Concat(args, more)...)
		out, errs = new(bytes.Buffer), new(bytes.Buffer)
		cmd.Env, cmd.Stdout, cmd.Stderr = cleanEnv("LANG=C.UTF-8"), out, errs
		return out, errs, cmd.Run()
	}
	secret := strings.Replace(store, "byok@", "byok:hunter2@", 1)
	if out, errs, err := run(t.Context(), "-store", secret); err == nil || strings.Contains(errs.String(), "hunter2") || !strings.Contains(errs.String(), "PGPASSWORD") {
		t.Errorf("with a password: %v\n%s%s", err, out, errs)
	}
	out, errs, err := run(t.Context(), "-adopt", "-dry-run")
	if err != nil || !regexp.MustCompile(`(?s)records +200 .*due +200 .*in clear +4 +would be sealed`).MatchString(out.String()) {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}

	// The first one is killed when it has replaced something.
	held, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	mustExec(t, held, `SELECT FROM invoices WHERE tenant = 'acme' AND id = 'z/3' FOR UPDATE`)
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	killed := make(chan error, 1)
	go func() {
		_, _, err := run(ctx, "-adopt", "-shards", "4", "-rate", "100", "-page", "10")
		killed <- err
	}()
	job := until(t, acme, "", func(j byok.Job) bool { return j.Done > 20 })
	kill()
	if err := <-killed; err == nil {
		t.Fatal("it has ended before it was killed")
	}
	type ended struct {
		out, errs *bytes.Buffer
		err       error
	}
	second := make(chan ended, 1)
	go func() {
		out, errs, err := run(t.Context(), "-job", job.ID, "-rate", "10000")
		second <- ended{out, errs, err}
	}()
	shardsAreFree(t, p.store(t, schema).Store, "acme") // else those of the one that was killed are after half a minute
	if j := until(t, acme, job.ID, func(j byok.Job) bool { return j.Again > 0 && j.State == byok.JobVerifying }); j.Pass < 3 || j.Again != 1 {
		t.Errorf("%+v", j)
	}
	if err := held.Commit(); err != nil {
		t.Fatal(err)
	}
	last := <-second
	var exit *exec.ExitError
	if !errors.As(last.err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%v\n%s%s", last.err, last.out, last.errs)
	}
	t.Logf("\n%s", last.out)
	var named []string
	for _, m := range regexp.MustCompile(`(?m)^failed: "(.*)" (BYOK_\d+): `).FindAllStringSubmatch(last.out.String(), -1) {
		named = append(named, strings.ReplaceAll(m[1], `\u00e9`, "é")+" "+m[2])
	}
	slices.Sort(named)
	slices.Sort(bad)
	if !slices.Equal(named, bad) || !strings.Contains(last.out.String(), "done, but for 4 of 200 records") || strings.Contains(last.out.String()+last.errs.String(), "closed: ") {
		t.Errorf("named %q, bad are %q\n%s%s", named, bad, last.out, last.errs)
	}
	rows, err := db.Query(`SELECT id, sealed, clear IS NULL, coalesce(state, '') FROM invoices WHERE tenant = 'acme'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, state string
		var sealed []byte
		var clean bool
		if err := rows.Scan(&id, &sealed, &clean, &state); err != nil {
			t.Fatal(err)
		}
		var i int
		if _, err := fmt.Sscanf(id[strings.Index(id, "/")+1:], "%d", &i); err != nil {
			t.Fatal(err)
		}
		text, err := k.Open(t.Context(), scope, sealed, []byte("invoices/"+id))
		if damaged := i%100 == 50; (err == nil) == damaged || !damaged && string(text) != plain(i) || !clean {
			t.Errorf("%s: %q, %v, nothing in clear: %t", id, text, err, clean)
		}
		if due, err := k.Due(t.Context(), scope, sealed); err != nil || due != (i%100 == 50 || state == "closed") {
			t.Errorf("%s is due: %t, %v", id, due, err)
		}
	}
	var theirs int
	if err := db.QueryRow(`SELECT count(*) FROM invoices WHERE tenant = 'other' AND sealed = 'not ours'`).Scan(&theirs); err != nil || theirs != n {
		t.Errorf("%d of the other tenant's are as they were, %v", theirs, err)
	}
}

// until waits for a re-sealing, the one with that id or the first that there is, to be as it should.
func until(t *testing.T, tenant *byok.Tenant, id string, is func(byok.Job) bool) (last byok.Job) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(10 * time.Millisecond) {
		for j, err := range tenant.Jobs(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if last = j; j.Type == byok.JobReseal && (id == "" || j.ID == id) && is(j) {
				return j
			}
		}
	}
	t.Fatalf("the job is %+v", last)
	return last
}
