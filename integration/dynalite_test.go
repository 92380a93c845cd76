package integration

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// dynaliteBin is where npm ci --prefix integration/dynalite puts it.
var dynaliteBin = flag.String("dynalite", "dynalite/node_modules/dynalite/cli.js", "dynalite's cli.js")

// newDynalite starts a dynalite, another implementation of DynamoDB, and
// returns a client of it.
func newDynalite(t testing.TB) *dynamodb.Client {
	t.Helper()
	if _, err := os.Stat(*dynaliteBin); err != nil {
		t.Fatalf("dynalite is missing: npm ci --prefix integration/dynalite: %v", err)
	}
	for try := 1; ; try++ {
		client, err := startDynalite(t)
		if err == nil {
			return client
		}
		if try == 5 { // somebody else can take the port
			t.Fatal(err)
		}
	}
}

func startDynalite(t testing.TB) (*dynamodb.Client, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().(*net.TCPAddr)
	_ = l.Close()
	log := new(buffer)
	cmd := exec.Command("node", *dynaliteBin, "--host", "127.0.0.1", "--port", fmt.Sprint(addr.Port), "--createTableMs", "1")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-gone })
	for begun := time.Now(); !strings.Contains(log.String(), "listening"); time.Sleep(10 * time.Millisecond) {
		select {
		case <-gone:
			return nil, fmt.Errorf("dynalite ended\n%s", log)
		default:
		}
		if time.Since(begun) > time.Minute {
			return nil, fmt.Errorf("dynalite does not start\n%s", log)
		}
	}
	return dynamodb.New(dynamodb.Options{
		Region: "eu-central-1", BaseEndpoint: sdk.String("http://" + addr.String()),
		Credentials: sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) {
			return sdk.Credentials{AccessKeyID: "id", SecretAccessKey: "secret-of-forty-characters-as-AWS-makes-"}, nil
		}),
	}), nil
}
