package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byok-go/byok/kmsfake"
)

// journal is slog's default for one test.
type journal struct {
	mu sync.Mutex
	b  strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func logs(t *testing.T) *journal {
	t.Helper()
	j := new(journal)
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(j, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	return j
}

// A second server on the same data would overwrite what the first one's fake KMS
// has saved. It is refused, is told what to do, and has changed nothing.
func TestSecondServerIsRefused(t *testing.T) {
	dir := t.TempDir()
	r := startRun(t, dir)
	before, err := os.ReadFile(filepath.Join(dir, "kms.json"))
	if err != nil {
		t.Fatal(err)
	}
	err = run(t.Context(), []string{"-addr", "127.0.0.1:0", "-kms-addr", "127.0.0.1:0", "-data", dir}, io.Discard)
	if !errors.Is(err, kmsfake.ErrInUse) {
		t.Fatalf("a second server: %v", err)
	}
	for _, want := range []string{"kms.json", "is in use by another process", "-kms-endpoint", "-data"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %s: %v", want, err)
		}
	}
	if after, err := os.ReadFile(filepath.Join(dir, "kms.json")); err != nil || string(after) != string(before) {
		t.Error("the second server changed the first one's keys", err)
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	start(t, dir, nil) // a stopped server has given the file back
}

// A port that is taken, or tokens that cannot work: nothing is left behind.
func TestRefusedStartLeavesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	bad := filepath.Join(t.TempDir(), "tokens.json")
	if err := os.WriteFile(bad, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"-addr":       {"-addr", taken.Addr().String(), "-kms-addr", "127.0.0.1:0"},
		"-kms-addr":   {"-addr", "127.0.0.1:0", "-kms-addr", taken.Addr().String()},
		"tokens.json": {"-addr", "127.0.0.1:0", "-kms-addr", "127.0.0.1:0", "-tokens", bad},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		err := run(t.Context(), append(args, "-data", dir), io.Discard)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the data directory was made", name)
		}
	}
}

// Also in a directory that others can look into, files are their owner's only.
func TestFileModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := startRun(t, dir)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		seen[f.Name()] = true
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
	for _, name := range []string{"byok.db", "byok.db-wal", "byok.db-shm", "demo.json", "kms.json"} {
		if !seen[name] {
			t.Errorf("no %s in %v", name, files)
		}
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

// Without -allow-unbound-policy the library's rule holds.
func TestUnboundPolicy_011(t *testing.T) {
	s := start(t, t.TempDir(), func(c *config) { c.unbound = false })
	shared := s.fake.Account("111122223333").CreateKey(shortPolicy("111122223333")).ARN()
	s.want(t, acme, "POST", keysPath, arnBody(shared), 403, "BYOK_011")
	s.activate(t, acme) // a bound one
	var out strings.Builder
	s.banner(&out, "", "")
	if strings.Contains(out.String(), "unbound") {
		t.Error("the banner says that unbound policies are accepted")
	}
}

// The server's log tells that a customer has denied its key, and why a failure
// of our own is one.
func TestLogTellsOfKMS(t *testing.T) {
	log := logs(t)
	s := start(t, t.TempDir(), func(c *config) { c.maxAge = time.Second })
	s.activate(t, acme)
	s.want(t, acme, "PUT", note, "x", 201, "")
	arn := s.demo.Organizations[acme].CMKARN
	cmk := s.fake.Account("111122223333").Key(arn)
	cmk.Disable()
	s.until(t, acme, note, 403, 5*time.Second)
	cmk.Enable()
	s.until(t, acme, note, 200, 40*time.Second)
	for _, want := range []string{`level=INFO msg="key of acme: none -> pending_waiver"`, `level=INFO msg="key of acme: pending_waiver -> active"`,
		`level=INFO msg="access of acme: accessible -> blocked" key=` + arn, "DisabledException", `level=INFO msg="access of acme: blocked -> accessible"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, log)
		}
	}
	defer s.fake.Outage()()
	s.until(t, acme, note, 503, 5*time.Second)
	for _, want := range []string{"records: request failed", "kms.op=Decrypt", "kms.class=outage", "kms.cause="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, log)
		}
	}
}

// With real AWS the banner says so and where the credentials come from; without
// any the server starts all the same, with a warning.
func TestBannerOfRealAWS(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens.json")
	if err := os.WriteFile(tokens, []byte(`[{"token_sha256":"`+strings.Repeat("ab", 32)+`","organization_id":"acme","actor":"a"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	nowhere := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", nowhere)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	banner := func() (string, string) {
		log := logs(t)
		a, err := newApp(context.Background(), &config{kms: "aws", data: t.TempDir(), tokens: tokens, maxAge: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer a.close()
		var out strings.Builder
		a.banner(&out, "http://x", "")
		return out.String(), log.String()
	}
	said, logged := banner()
	if !strings.Contains(said, "AWS KMS (real)") || !strings.Contains(said, "NONE NOW") || strings.Contains(said, "fake") || !strings.Contains(logged, "level=WARN") || !strings.Contains(logged, "no AWS credentials") {
		t.Errorf("without credentials:\n%s%s", said, logged)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "MARKER-0123456789-0123456789-0123456789-")
	said, logged = banner()
	if !strings.Contains(said, "AWS KMS (real)") || !strings.Contains(said, "default credential chain: EnvConfigCredentials") || strings.Contains(logged, "WARN") || strings.Contains(said+logged, "MARKER") {
		t.Errorf("with credentials:\n%s%s", said, logged)
	}
}
