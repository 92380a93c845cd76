package integration

import (
	"context"
	"database/sql"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
	"github.com/byok-go/byok/sqlstore"
)

// terminal is a real one, of tmux, in which a script runs.
type terminal struct {
	t      *testing.T
	socket string
}

func newTerminal(t *testing.T, width int, script string) *terminal {
	t.Helper()
	dir, err := os.MkdirTemp("", "byok-tmux-") // short: a socket's name is at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "run.sh")
	// The interrupt is for the command, and not for the script, which tells how it ended and leaves it on the screen.
	if err := os.WriteFile(file, []byte("trap : INT\n"+script+"\necho status $?\nexec sleep 600\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t, filepath.Join(dir, "tmux")}
	t.Cleanup(func() {
		_ = exec.Command("tmux", "-S", term.socket, "kill-server").Run()
		_ = os.RemoveAll(dir)
	})
	cmd := exec.Command("tmux", "-S", term.socket, "-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", "16", "sh "+file)
	cmd.Env = cleanEnv("LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TERM=xterm-256color")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v\n%s", err, out)
	}
	return term
}

// screen is what somebody sees who looks at it now, without empty lines.
func (term *terminal) screen() string {
	term.t.Helper()
	out, err := exec.Command("tmux", "-S", term.socket, "capture-pane", "-p").CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux: %v\n%s", err, out)
	}
	return regexp.MustCompile(`\n+`).ReplaceAllString(strings.TrimRight(string(out), "\n"), "\n")
}

// until waits for something to be seen.
func (term *terminal) until(what string) string {
	term.t.Helper()
	before := ""
	for seen, begun := regexp.MustCompile(what), time.Now(); ; time.Sleep(20 * time.Millisecond) {
		s := term.screen()
		if last := s[strings.LastIndex(s, "\n")+1:]; !strings.HasSuffix(before, last+"\n") {
			before += last + "\n"
		}
		if seen.MatchString(s) {
			return s
		}
		if time.Since(begun) > 40*time.Second {
			term.t.Fatalf("%q is not seen:\n%s\nand before, the last line was:\n%s", what, s, before)
		}
	}
}

func (term *terminal) interrupt() {
	term.t.Helper()
	if out, err := exec.Command("tmux", "-S", term.socket, "send-keys", "C-c").CombinedOutput(); err != nil {
		term.t.Fatalf("tmux: %v\n%s", err, out)
	}
}

// invoices is a platform with a table of sealed records that are all due, of which three are damaged.
func invoices(t *testing.T, n int) (command string, cmk *kmsfake.Key) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "app.db")
	db, err := sql.Open("sqlite3", "file:"+file+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	k, command, cmk := newPlatform(t, db, sqlstore.SQLite)
	acme := k.Tenant("acme")
	rows := make([][]byte, n)
	for i := range rows {
		if rows[i], err = k.Seal(t.Context(), byok.Scope{Tenant: "acme"}, []byte("an invoice"), fmt.Append(nil, "invoices/", i)); err != nil {
			t.Fatal(err)
		}
		if i%(n/3) == 7 {
			rows[i][len(rows[i])-1] ^= 1
		}
	}
	mustExec(t, db, `CREATE TABLE invoices (id INTEGER PRIMARY KEY, sealed BLOB)`)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for i, sealed := range rows {
		if _, err := tx.Exec(`INSERT INTO invoices VALUES (?, ?)`, i, sealed); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := acme.Rotate(t.Context(), byok.Rotation{Type: byok.RotateDEK}); err != nil {
		t.Fatal(err)
	}
	return byokBinary + " " + command + " -store sqlite:" + file + " -table invoices -key id -value sealed -aad 'invoices/{key}'", cmk
}

// newPlatform is a platform with a tenant, acme, on a KMS of its own, and byok's command about that, but for the Store.
func newPlatform(t *testing.T, db *sql.DB, dialect sqlstore.Dialect) (k *byok.Keeper, command string, cmk *kmsfake.Key) {
	t.Helper()
	const role, account, accessKey = "arn:aws:iam::777788889999:role/byok-platform", "111122223333", "AKIABYOKEXAMPLE00001"
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	fake.RegisterAccessKey(accessKey, role)
	wire := httptest.NewServer(fake.Handler())
	t.Cleanup(wire.Close)
	store, err := sqlstore.Open(t.Context(), db, dialect)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := awskms.New(awssdk.Config{Credentials: awssdk.CredentialsProviderFunc(func(context.Context) (awssdk.Credentials, error) {
		return awssdk.Credentials{AccessKeyID: accessKey, SecretAccessKey: "kmsfake takes any secret"}, nil
	})}, &awskms.Options{Endpoint: wire.URL})
	if err != nil {
		t.Fatal(err)
	}
	k, err = byok.New("example", keys, store, store, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	acme := k.Tenant("acme")
	cmk = fake.Account(account).CreateKey(awskms.KeyPolicy(account, role, acme.EncryptionContext()).JSON())
	_, err = acme.Register(t.Context(), byok.Registration{Key: awskms.Key(cmk.ARN())})
	if err == nil {
		_, err = acme.AcknowledgeWaiver(t.Context(), byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	return k, "reseal -service example -tenant acme -max-age 1s -kms-endpoint " + wire.URL, cmk
}

// What people see on a terminal: a line that moves, bad records above it, what the job waits for, an interrupt, and going on. The
// screens are in the log.
func TestProgressOnATerminal(t *testing.T) {
	const n = 3000
	command, cmk := invoices(t, n)
	term := newTerminal(t, 110, command+" -rate 500 -page 20")
	half := term.until(`re-seal  ▕█.*▏ +[1-9][0-9]?\.\d%  .*/3.000  .*/s  ETA \d+ s`)
	t.Logf("under way:\n%s", half)
	if strings.Count(half, "%") != 1 {
		t.Errorf("there is more than the one line:\n%s", half)
	}
	cmk.Disable()
	denied := term.until(`re-seal .*paused: access to the key is denied \(BYOK_002\)`)
	t.Logf("the key is denied:\n%s", denied)
	if strings.Count(denied, "level=WARN") > 1 {
		t.Errorf("it says so again and again:\n%s", denied)
	}
	cmk.Enable()
	term.until(`(?m)^re-seal  ▕█.*▏ +\d+\.\d%.*/s`)
	term.interrupt()
	stopped := term.until(`status \d+`)
	t.Logf("interrupted:\n%s", stopped)
	// tmux wraps the command, which stands there to be pasted.
	job := regexp.MustCompile(`-job ([0-9a-f]{32})`).FindStringSubmatch(strings.ReplaceAll(stopped, "\n", ""))
	if !strings.Contains(stopped, "interrupted; nothing that was done is lost") || !strings.Contains(stopped, "status 130") || job == nil {
		t.Fatalf("%s", stopped)
	}

	term = newTerminal(t, 80, command+" -job "+job[1]+" -rate 100000")
	done := term.until(`status \d+`)
	t.Logf("going on, and done:\n%s", done)
	if !strings.Contains(done, "status 1") || !strings.Contains(done, "done, but for 3 of 3,000 records") || strings.Count(done, "failed: ") != 3 || !strings.Contains(done, "100.0%") {
		t.Errorf("%s", done)
	}
}

// The same where there is no terminal: lines, without anything that only a terminal understands.
func TestProgressInAPipe(t *testing.T) {
	command, _ := invoices(t, 300)
	cmd := exec.Command("bash", "-o", "pipefail", "-c", command+" -rate 100000 | cat")
	cmd.Env = cleanEnv("LANG=C.UTF-8", "TERM=xterm-256color")
	out, err := cmd.Output()
	t.Logf("| cat:\n%s", out)
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v", err)
	}
	for _, line := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		if strings.ContainsAny(line, "\r\x1b█▏") || line == "" {
			t.Errorf("%q", line)
		}
	}
	if !strings.Contains(string(out), "re-seal  done  100.0%  300/300  3 failed\n") || strings.Count(string(out), "failed: ") != 3 {
		t.Errorf("%s", out)
	}
}
