package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
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
)

// What examples/server is on its fake KMS, and who its first organization is.
const (
	platformRole      = "arn:aws:iam::777788889999:role/byok-platform"
	platformAccessKey = "AKIABYOKEXAMPLE00001"
	acmeAccount       = "111122223333"
)

const (
	keysPath = "/api/v1/byok/keys"
	ackPath  = "/api/v1/byok/legal-waiver/acknowledge"
	ackAll   = `{"acknowledge_data_loss_risk":true,"acknowledge_key_management_responsibility":true,"acknowledge_no_liability":true}`
)

var awsBinary = flag.String("aws", "/usr/bin/aws", "the aws command, of Debian's awscli")

// python is Debian's: boto3 is a package of it.
var python = flag.String("python", "/usr/bin/python3", "the python3 that has boto3, of Debian's python3-boto3")

// What go build makes of examples/server, cmd/byok and cmd/kmsfake, once for all tests.
var serverBinary, byokBinary, kmsfakeBinary string

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == workerFlag {
		os.Exit(workerMain())
	}
	if len(os.Args) == 3 && os.Args[1] == crasherFlag {
		os.Exit(crasherMain(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == resealerFlag {
		os.Exit(resealerMain(os.Args[2]))
	}
	flag.Parse()
	os.Exit(func() int {
		for _, tool := range []string{*awsBinary, *python, "bash", "curl", "cmp", "sed", "openssl", "tmux", filepath.Join(*postgresBin, "postgres")} {
			if _, err := exec.LookPath(tool); err != nil {
				fmt.Fprintf(os.Stderr, "integration: %v: apt-get install awscli python3-boto3 curl openssl postgresql tmux\n", err)
				return 1
			}
		}
		dir, err := os.MkdirTemp("", "byok-integration-")
		if err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			return 1
		}
		defer os.RemoveAll(dir)
		serverBinary, byokBinary = filepath.Join(dir, "server"), filepath.Join(dir, "byok")
		kmsfakeBinary = filepath.Join(dir, "kmsfake")
		for binary, path := range map[string]string{serverBinary: "./examples/server", byokBinary: "./cmd/byok", kmsfakeBinary: "./cmd/kmsfake"} {
			build := exec.Command("go", "build", "-o", binary, path)
			build.Dir = ".."
			build.Env = append(os.Environ(), "GOWORK=") // the workspace's, as in the README
			if out, err := build.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "integration: go build %s: %v\n%s", path, err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// cleanEnv is the environment without what would send the tests to real AWS, or
// through a proxy.
func cleanEnv(more ...string) []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if name = strings.ToUpper(name); !strings.HasPrefix(name, "AWS_") && !strings.HasSuffix(name, "_PROXY") {
			env = append(env, e)
		}
	}
	return append(env, more...)
}

// process is a server that runs by itself.
type process struct {
	t        *testing.T
	cmd      *exec.Cmd
	api, kms string // URLs; kms is "" if it runs no fake
	log      *buffer
	exited   chan error
}

// buffer is a bytes.Buffer for several writers.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var (
	apiLine = regexp.MustCompile(`^API +(http://\S+)/api/v1$`)
	kmsLine = regexp.MustCompile(`^KMS \(fake\) +(http://\S+)$`)
	// The banner is complete with this one.
	maxAgeLine = regexp.MustCompile(`^MaxAge `)
)

// onFreePorts are flags for servers that do not need their usual ports.
func onFreePorts(more ...string) []string {
	return append([]string{"-addr", "127.0.0.1:0", "-kms-addr", "127.0.0.1:0"}, more...)
}

// start runs a server in dir and waits until it listens.
func start(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(serverBinary, args...), log: new(buffer), exited: make(chan error, 1)}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stderr = dir, cleanEnv(), p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		announced := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			line := lines.Text()
			fmt.Fprintln(p.log, line)
			if m := apiLine.FindStringSubmatch(line); m != nil {
				p.api = m[1]
			}
			if m := kmsLine.FindStringSubmatch(line); m != nil {
				p.kms = m[1]
			}
			if !announced && maxAgeLine.MatchString(line) {
				announced = true
				close(ready)
			}
		}
	}()
	go func() {
		<-read
		p.exited <- p.cmd.Wait()
	}()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	select {
	case <-ready:
		if p.api == "" {
			t.Fatalf("the server does not say where it listens:\n%s", p.log)
		}
	case err := <-p.exited:
		t.Fatalf("the server ended: %v\n%s", err, p.log)
	case <-time.After(60 * time.Second):
		t.Fatalf("the server did not start:\n%s", p.log)
	}
	return p
}

// terminate sends SIGTERM and wants exit status 0.
func (p *process) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	p.wantExit0()
}

func (p *process) wantExit0() {
	p.t.Helper()
	select {
	case err := <-p.exited:
		if err != nil {
			p.t.Fatalf("after SIGTERM: %v\n%s", err, p.log)
		}
	case <-time.After(20 * time.Second):
		p.t.Fatalf("still runs 20 s after SIGTERM:\n%s", p.log)
	}
}

// kill is kill -9, and waits until the process is gone.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatalf("it ended before it was killed: %v\n%s", err, p.log)
	}
	if err := <-p.exited; err == nil || p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		p.t.Fatalf("it was not the kill that ended it: %v\n%s", err, p.log)
	}
}

// demo is <data>/demo.json.
type demo struct {
	Organizations []struct {
		OrganizationID string `json:"organization_id"`
		Token          string `json:"token"`
		CMKARN         string `json:"cmk_arn"`
		AccountID      string `json:"account_id"`
		AccessKeyID    string `json:"aws_access_key_id"`
	} `json:"organizations"`
}

func readDemo(t *testing.T, data string) demo {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, "demo.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d demo
	if err := json.Unmarshal(b, &d); err != nil || len(d.Organizations) < 2 {
		t.Fatalf("demo.json: %v\n%s", err, b)
	}
	return d
}

// client has connections of its own, so that those to a killed server are not
// found by anybody else.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 16}, Timeout: 30 * time.Second}
}

type answer struct {
	status int
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// code is the code of a problem, and "" of anything else.
func (a answer) code() string {
	var p struct{ Code string }
	if a.status >= 400 {
		_ = json.Unmarshal(a.body, &p)
	}
	return p.Code
}

// send returns an error only if no whole answer came.
func send(c *http.Client, method, url, token string, body []byte) (answer, error) {
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if body != nil && method == "POST" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, b}, err
}

// want sends and checks the status.
func want(t *testing.T, c *http.Client, method, url, token string, body []byte, status int) answer {
	t.Helper()
	a, err := send(c, method, url, token, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	if a.status != status {
		t.Fatalf("%s %s: %s, want %d", method, url, a, status)
	}
	return a
}

// needPorts fails if something listens where the demo wants to.
func needPorts(t *testing.T) {
	t.Helper()
	for _, addr := range []string{"127.0.0.1:8080", "127.0.0.1:4599"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("the demo needs %s, which is taken: %v", addr, err)
		}
		_ = l.Close()
	}
}

// aws runs the real command. Its exit status is 0, or the error has the output.
func aws(endpoint, accessKey string, args ...string) (string, error) {
	cmd := exec.Command(*awsBinary, append([]string{"--endpoint-url", endpoint, "--region", "us-east-1", "--output", "text", "kms"}, args...)...)
	cmd.Env = cleanEnv("AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY=anything", "AWS_PAGER=",
		"AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent", "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), &awsError{exit.ExitCode(), stderr.String()}
	}
	return strings.TrimSpace(string(out)), err
}

// awsError is a failure of the aws command.
type awsError struct {
	status int
	text   string
}

func (e *awsError) Error() string { return fmt.Sprintf("aws: exit status %d: %s", e.status, e.text) }

func mustAWS(t *testing.T, endpoint, accessKey string, args ...string) string {
	t.Helper()
	out, err := aws(endpoint, accessKey, args...)
	if err != nil {
		t.Fatalf("aws kms %v: %v", args, err)
	}
	return out
}
