package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/kmsfake"
	"github.com/byok-go/byok/sqlstore"
)

var exportRecords = flag.Int("exportrecords", 5000, "how many records TestLeaving exports")

const (
	leavingAccount = "111122223333"
	leavingFile    = 48 << 20 // bytes of the one large record
)

// leavingPlain is the plaintext of the ith record; the last one is large.
func leavingPlain(i, of int) io.Reader {
	line := fmt.Sprintf("record %d of the tenant that leaves\n", i)
	if i == of-1 {
		return io.LimitReader(&endless{line: line}, leavingFile)
	}
	return strings.NewReader(line)
}

type endless struct {
	line string
	at   int
}

func (e *endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		k := copy(p[n:], e.line[e.at:])
		n, e.at = n+k, (e.at+k)%len(e.line)
	}
	return n, nil
}

// leave makes an export of a tenant with a platform that is gone when it returns: its
// database, and its access to the CMK.
func leave(t *testing.T, fake *kmsfake.KMS, url, file string, records int) (cmk string) {
	t.Helper()
	const role = "arn:aws:iam::777788889999:role/platform"
	fake.RegisterAccessKey("AKIAPLATFORM00000001", role)
	dir := t.TempDir()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "platform.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlstore.Open(t.Context(), db, sqlstore.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := awskms.New(awssdk.Config{Credentials: awssdk.CredentialsProviderFunc(func(context.Context) (awssdk.Credentials, error) {
		return awssdk.Credentials{AccessKeyID: "AKIAPLATFORM00000001", SecretAccessKey: "the fake takes any secret"}, nil
	})}, &awskms.Options{Endpoint: url})
	if err != nil {
		t.Fatal(err)
	}
	k, err := byok.New("leaving.example", keys, store, new(byok.MemAudit), nil)
	if err != nil {
		t.Fatal(err)
	}
	acme := k.Tenant("acme")
	key := fake.Account(leavingAccount).CreateKey(awskms.KeyPolicy(leavingAccount, role, acme.EncryptionContext()).JSON())
	if _, err := acme.Register(t.Context(), byok.Registration{Key: awskms.Key(key.ARN())}); err != nil {
		t.Fatal(err)
	}
	if _, err := acme.AcknowledgeWaiver(t.Context(), byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e, err := acme.Export(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for i := range records {
		r := byok.ExportRecord{Name: fmt.Sprint("records/", i), Purpose: fmt.Sprint("purpose-", i%20), AAD: fmt.Append(nil, "records/", i)}
		s := byok.Scope{Tenant: "acme", Purpose: r.Purpose}
		if i == records-1 {
			pr, pw := io.Pipe()
			go func() {
				w, err := k.SealWriter(t.Context(), pw, s, r.AAD)
				if err == nil {
					if _, err = io.Copy(w, leavingPlain(i, records)); err == nil {
						err = w.Close()
					}
				}
				pw.CloseWithError(err)
			}()
			err = e.AddReader(r, pr)
		} else {
			plain, _ := io.ReadAll(leavingPlain(i, records))
			var sealed []byte
			if sealed, err = k.Seal(t.Context(), s, plain, r.AAD); err == nil {
				err = e.Add(r, sealed)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v in %v", e.Summary(), time.Since(begun).Round(time.Millisecond))
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	if err := os.RemoveAll(dir); err != nil { // the platform's database
		t.Fatal(err)
	}
	// Its role as well: the customer has taken it out of the key policy.
	key.SetPolicy(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + leavingAccount + `:root"},"Action":"kms:*","Resource":"*"}]}`)
	return key.ARN()
}

// A tenant with as many records as -exportrecords leaves, and opens its export with the command
// byok and KMS, and nothing else. One bit of the file was flipped on the way: the record that it is in is named,
// and all others are what they were. Memory does not grow with the number of records, nor with
// the largest.
func TestLeaving(t *testing.T) {
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	wire := httptest.NewServer(fake.Handler())
	defer wire.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "acme.byokexport")
	cmk := leave(t, fake, wire.URL, file, *exportRecords)
	hit := flip(t, file)

	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(byokBinary, append([]string{"open-export", "-kms-endpoint", wire.URL, "-customer-access-key", leavingAccount, "-key", cmk}, args...)...)
		cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "TMPDIR=" + dir}
		return cmd
	}
	fake.ResetCalls()
	cmd := command("-out", "out", file)
	begun := time.Now()
	var said buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	most := make(chan int)
	go func() { most <- peak(cmd.Process.Pid) }()
	_ = cmd.Wait()
	took := time.Since(begun)
	rss := <-most
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(said.String(), fmt.Sprintf(`record %d "records/%d"`, hit, hit-1)) || strings.Count(said.String(), "record ") != 1 {
		t.Errorf("status %d\n%s", code, &said)
	}
	if n := len(fake.Calls()); n != 20 {
		t.Errorf("%d KMS requests, want one for each data key", n)
	}
	t.Logf("opened into files in %v, %.0f records a second, at most %d MiB resident:\n%s", took.Round(time.Millisecond), float64(*exportRecords)/took.Seconds(), rss, &said)
	if rss == 0 || rss > 160 {
		t.Errorf("%d MiB resident", rss)
	}
	b, err := os.ReadFile(filepath.Join(dir, "out", "index.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for d := json.NewDecoder(bytes.NewReader(b)); d.More(); n++ {
		var e struct {
			Number     int
			Name, File string
		}
		if err := d.Decode(&e); err != nil || e.Name != fmt.Sprint("records/", e.Number-1) {
			t.Fatalf("%+v, %v", e, err)
		}
		f, err := os.Open(filepath.Join(dir, "out", e.File))
		if err != nil {
			t.Fatal(err)
		}
		got, want := sha256.New(), sha256.New()
		_, err = io.Copy(got, f)
		_ = f.Close()
		_, _ = io.Copy(want, leavingPlain(e.Number-1, *exportRecords))
		if err != nil || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Fatalf("record %d is not what it was: %v", e.Number, err)
		}
	}
	if n != *exportRecords-1 {
		t.Errorf("%d of %d records", n, *exportRecords)
	}
	if files, err := os.ReadDir(filepath.Join(dir, "out", "records")); err != nil || len(files) != n {
		t.Errorf("%d files for %d records, %v", len(files), n, err)
	}

	// To standard output, from standard input.
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd = command("-ndjson", "-")
	cmd.Stdin = in
	begun = time.Now()
	out, _ := cmd.Output()
	if lines := bytes.Count(out, []byte("\n")); lines != *exportRecords-1 || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%d lines, status %d", lines, cmd.ProcessState.ExitCode())
	}
	t.Logf("opened as JSON lines in %v", time.Since(begun).Round(time.Millisecond))
}

// peak returns how much memory a process had resident at most, in MiB, when it has ended. (What
// wait tells of a child includes what its parent had when it was begun.)
func peak(pid int) (mib int) {
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, rest, ok := strings.Cut(string(b), "VmHWM:")
		if err != nil || !ok {
			return mib
		}
		var kib int
		_, _ = fmt.Sscan(rest, &kib)
		mib = max(mib, kib>>10)
		time.Sleep(20 * time.Millisecond)
	}
}

// flip flips a bit in the frame in the middle of a file, and returns the number of the record
// that it is of.
func flip(t *testing.T, file string) (record int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(b); {
		n := 34 + int(binary.BigEndian.Uint32(b[at+26:])) + 4
		if b[at+9] == 'R' {
			if record = int(binary.BigEndian.Uint64(b[at+34:])); record == *exportRecords/2 {
				b[at+n/2] ^= 0x10
				break
			}
		}
		at += n
	}
	if err := os.WriteFile(file, b, 0o600); err != nil || record != *exportRecords/2 {
		t.Fatal(err, record)
	}
	return record
}

// An interrupt leaves whole files and an index of them, and nothing that is half.
func TestLeavingInterrupted(t *testing.T) {
	fake := kmsfake.New(&kmsfake.Options{TB: t})
	wire := httptest.NewServer(fake.Handler())
	defer wire.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "acme.byokexport")
	const records = 300
	cmk := leave(t, fake, wire.URL, file, records)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(byokBinary, "open-export", "-kms-endpoint", wire.URL, "-customer-access-key", leavingAccount, "-key", cmk, "-out", "out", "-")
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// All but the end of the large record: it is half open when the interrupt comes.
	if _, err := in.Write(b[:len(b)-8<<20]); err != nil {
		t.Fatal(err)
	}
	partial := filepath.Join(dir, "out", "partial.tmp")
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if info, err := os.Stat(partial); err == nil && info.Size() > 1<<20 {
			break
		} else if time.Since(begun) > time.Minute {
			t.Fatal("the large record is not begun")
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case <-ended: // although nothing comes through the pipe
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		t.Fatal("it goes on")
	}
	if code := cmd.ProcessState.ExitCode(); code != 2 {
		t.Errorf("status %d\n%s", code, &said)
	}
	if _, err := os.Stat(partial); err == nil {
		t.Error("a half record is left")
	}
	index, err := os.ReadFile(filepath.Join(dir, "out", "index.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(dir, "out", "records"))
	if n := bytes.Count(index, []byte("\n")); err != nil || len(files) != n || n != records-1 {
		t.Errorf("%d files, %d in the index, %v", len(files), n, err)
	}
}
