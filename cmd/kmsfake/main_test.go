package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/byok-go/byok/kmsfake"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kmsfake")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "kmsfake")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Printf("go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// process is a running kmsfake.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	url string

	mu     sync.Mutex
	stdout bytes.Buffer
	closed chan struct{} // no more output
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary, append([]string{"-addr", "127.0.0.1:0"}, args...)...), closed: make(chan struct{})}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	url := make(chan string, 1)
	go func() {
		defer close(p.closed)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.stdout.WriteString(s.Text() + "\n")
			p.mu.Unlock()
			if at, ok := strings.CutPrefix(s.Text(), "listening on "); ok {
				url <- at
			}
		}
	}()
	select {
	case p.url = <-url:
	case <-p.closed:
		t.Fatalf("it ended: %s", p.output())
	case <-time.After(30 * time.Second):
		t.Fatal("it does not start")
	}
	return p
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdout.String()
}

// stop ends it with a signal, and returns its exit status (-1: killed).
func (p *process) stop(s os.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
	<-p.closed
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) client(accessKeyID string) *kms.Client {
	return kms.New(kms.Options{
		Region: "eu-central-1", BaseEndpoint: &p.url, Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: "of no importance, of forty characters ..."}, nil
		}),
	})
}

func (p *process) control(method, path, body string) (status int, answer string) {
	p.t.Helper()
	req, err := http.NewRequest(method, p.url+"/_kmsfake/"+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

// What was answered is there after SIGTERM, and after kill -9; CloudTrail's files
// have all of what happened before SIGTERM.
func TestKeysSurviveRestarts(t *testing.T) {
	data, trail := filepath.Join(t.TempDir(), "kms.json"), t.TempDir()
	ctx := context.Background()
	p := start(t, "-data", data, "-cloudtrail", trail)
	made, err := p.client("111122223333").CreateKey(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := made.KeyMetadata.Arn
	gen, err := p.client("111122223333").GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes256})
	if err != nil {
		t.Fatal(err)
	}
	if status := p.stop(syscall.SIGTERM); status != 0 || !strings.HasSuffix(p.output(), "kmsfake: stopped\n") {
		t.Errorf("SIGTERM: status %d, %s", status, p.output())
	}
	files, _ := filepath.Glob(filepath.Join(trail, "AWSLogs/111122223333/CloudTrail/eu-central-1/*/*/*/*.json.gz"))
	var events []string
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		var log struct{ Records []kmsfake.CloudTrailEvent }
		if err := json.NewDecoder(z).Decode(&log); err != nil {
			t.Fatal(err)
		}
		for _, e := range log.Records {
			events = append(events, e.EventName)
		}
	}
	if fmt.Sprint(events) != "[CreateKey GenerateDataKey]" {
		t.Errorf("CloudTrail has %v, in %v", events, files)
	}

	decrypts := func(p *process) {
		t.Helper()
		out, err := p.client("111122223333").Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: gen.CiphertextBlob, KeyId: key})
		if err != nil || !bytes.Equal(out.Plaintext, gen.Plaintext) {
			t.Errorf("after a restart: %v", err)
		}
	}
	p = start(t, "-data", data)
	decrypts(p)
	if out, err := exec.Command(binary, "-addr", "127.0.0.1:0", "-data", data).CombinedOutput(); err == nil || !strings.Contains(string(out), "in use") {
		t.Errorf("a second one on the same file: %v, %s", err, out)
	}
	if _, err := p.client("111122223333").DisableKey(ctx, &kms.DisableKeyInput{KeyId: key}); err != nil {
		t.Fatal(err)
	}
	p.stop(syscall.SIGKILL)
	p = start(t, "-data", data)
	_, err = p.client("111122223333").Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: gen.CiphertextBlob, KeyId: key})
	if code(err) != "DisabledException" {
		t.Errorf("disabled before it was killed: %v", err)
	}
	if status, _ := p.control("GET", "clock", ""); status != http.StatusMethodNotAllowed {
		t.Errorf("controls that nobody asked for: %d", status)
	}
}

// -v says why: the customer takes a statement out of the policy, and the log names
// what is missing. The story of the first five minutes.
func TestVerboseSaysWhy(t *testing.T) {
	p := start(t, "-v", "-controls")
	ctx := context.Background()
	owner, vendor := p.client("111122223333"), p.client("444455556666")
	statement := func(sid, account, action string) string {
		return `{"Sid":"` + sid + `","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"` + action + `","Resource":"*"}`
	}
	policy := func(statements ...string) *string {
		return aws.String(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`)
	}
	mine := statement("Owner", "111122223333", "kms:*")
	made, err := owner.CreateKey(ctx, &kms.CreateKeyInput{Policy: policy(mine, statement("Vendor", "444455556666", "kms:Decrypt"))})
	if err != nil {
		t.Fatal(err)
	}
	key := made.KeyMetadata.Arn
	blob, err := owner.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	in := &kms.DecryptInput{CiphertextBlob: blob.CiphertextBlob, KeyId: key}
	if _, err := vendor.Decrypt(ctx, in); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: key, Policy: policy(mine)}); err != nil {
		t.Fatal(err)
	}
	if _, err := vendor.Decrypt(ctx, in); code(err) != "AccessDeniedException" {
		t.Fatal(err)
	}
	bad := p.client("444455556666")
	_, err = bad.ListKeys(ctx, &kms.ListKeysInput{Limit: aws.Int32(0)})
	if code(err) != "ValidationException" {
		t.Fatal(err)
	}
	_, why := p.control("GET", "explain/last?format=text", "")
	if !strings.Contains(why, "ListKeys") {
		t.Errorf("the last failure: %s", why)
	}
	if status, answer := p.control("POST", "clock/advance", `{"By":"72h"}`); status != http.StatusNoContent {
		t.Fatal(status, answer)
	}
	if _, err := owner.ListKeys(ctx, nil); err != nil {
		t.Fatal(err)
	}
	p.stop(syscall.SIGTERM)
	out := p.output()
	if !regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d [\d:.]+ ListKeys ok`).MatchString(out) {
		t.Errorf("the log lacks the day of a call after the clock was moved:\n%s", out)
	}
	_, denied, _ := strings.Cut(out, "Decrypt AccessDeniedException")
	for _, want := range []string{"kms:Decrypt", "statement 1 (Owner)", "does not apply"} {
		if !strings.Contains(denied, want) {
			t.Errorf("the log of a denied call lacks %q:\n%s", want, out)
		}
	}
	if !strings.Contains(out, "Decrypt ok arn:aws:iam::444455556666:root "+*key) {
		t.Errorf("the log lacks a successful call:\n%s", out)
	}
}

// A call that hangs does not keep it from stopping.
func TestStopsWhileACallHangs(t *testing.T) {
	p := start(t, "-controls")
	if status, answer := p.control("POST", "faults", `{"Effect":"hang"}`); status != http.StatusOK {
		t.Fatal(status, answer)
	}
	hung := make(chan error, 1)
	go func() {
		_, err := p.client("111122223333").ListKeys(context.Background(), nil)
		hung <- err
	}()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, calls := p.control("GET", "calls", ""); strings.Contains(calls, "ListKeys") {
			break
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatal("the call does not arrive")
		}
	}
	begun := time.Now()
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d", status)
	}
	if d := time.Since(begun); d > 20*time.Second {
		t.Errorf("it took %v", d)
	}
	if err := <-hung; err == nil {
		t.Error("the hanging call succeeded")
	}
}

// It gives its keys to whoever asks, so it does not listen for other machines
// unless it is told to; and it refuses what it does not understand.
func TestRefusedCommandLines(t *testing.T) {
	for _, args := range [][]string{
		{"-addr", ":4599"}, {"-addr", "0.0.0.0:0"}, {"-addr", "[::]:0"}, {"-addr", "192.0.2.1:4599"}, {"-addr", "kms.example:80"},
		{"-addr", "4599"}, {"-addr", ""}, {"serve"}, {"-propagation", "-1s"}, {"-throttle", "-2"}, {"-nonsense"},
	} {
		var usage *usageError
		if err := run(t.Context(), args, io.Discard, io.Discard); !errors.As(err, &usage) {
			t.Errorf("%q: %v", args, err)
		}
	}
	if c, err := parseFlags([]string{"-addr", "0.0.0.0:0", "-allow-remote"}, io.Discard); err != nil || !c.allowRemote {
		t.Errorf("as it was told: %v", err)
	}
	out, err := exec.Command(binary, "-addr", "0.0.0.0:0").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "-allow-remote") {
		t.Errorf("%v: %s", err, out)
	}
	if err := run(t.Context(), []string{"-addr", "127.0.0.1:0", "-data", t.TempDir()}, io.Discard, io.Discard); err == nil {
		t.Error("a directory is no file for keys")
	}
}

// What callers send cannot steer the terminal that the log is read on.
func TestLogIsPrintable(t *testing.T) {
	var out bytes.Buffer
	l := &callLog{w: &out}
	l.call(kmsfake.Call{Operation: "Encrypt", KeyARN: "arn:aws:kms:us-east-1:111122223333:key/\x1b[2J", Code: "NotFoundException", Message: "Invalid keyId '\x1b[2Jx\r\u202e'"})
	if s := out.String(); strings.ContainsAny(s, "\x1b\r\u202e") || !strings.Contains(s, "Invalid keyId '?[2Jx??'") {
		t.Errorf("%q", s)
	}
}
