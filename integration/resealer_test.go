package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/byokriver"
	"github.com/byok-go/byok/sqlstore"
)

// A resealer is a process of a platform that works at a re-sealing, and is to be killed: it is this test binary with resealerFlag as its first
// argument and a resealerConfig as its second. It ends with the job, or with its standard input.
const resealerFlag = "byok-resealer"

type resealerConfig struct {
	Name                    string
	Driver, DSN             string
	KMS, AccessKey, Service string
	Engine                  string // a key of resealEngines
	Job                     string
	PerSecond               int
}

type resealerProcess struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	errs *buffer
}

// resealEngines are who calls Step.
var resealEngines = map[string]func(ctx context.Context, c resealerConfig, t *byok.Tenant) error{
	"in process": inProcess,
	"river":      inRiver,
}

func resealerMain(config string) int {
	var c resealerConfig
	err := json.Unmarshal([]byte(config), &c)
	if err == nil {
		ctx, cancel := context.WithCancel(context.Background())
		go stdin(os.Stdin, cancel)
		err = c.run(ctx)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "resealer:", err)
		return 1
	}
	return 0
}

func (c resealerConfig) run(ctx context.Context) error {
	db, _, err := openKilling(c.Driver, c.DSN, 0)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	store, err := sqlstore.Open(ctx, db, dialects[c.Driver])
	if err != nil {
		return err
	}
	keys, err := awskms.New(awssdk.Config{Credentials: awssdk.CredentialsProviderFunc(func(context.Context) (awssdk.Credentials, error) {
		return awssdk.Credentials{AccessKeyID: c.AccessKey, SecretAccessKey: "the fake takes any secret"}, nil
	})}, &awskms.Options{Endpoint: c.KMS})
	if err != nil {
		return err
	}
	k, err := byok.New(c.Service, keys, store, store, &byok.Options{MaxAge: resealMaxAge, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() { _ = k.Run(running) }()
	if err = resealEngines[c.Engine](ctx, c, k.Tenant(resealTenant)); errors.Is(err, byok.ErrRecordsFailed) {
		err = nil
	}
	stop()
	return errors.Join(err, k.Close(), db.Close())
}

func (c resealerConfig) resealer(ctx context.Context, t *byok.Tenant) (*byok.Resealer, error) {
	src, err := resealSource(ctx, c.Driver, c.DSN, "records")
	if err != nil {
		return nil, err
	}
	return t.Resealer(ctx, c.Job, src, &byok.ResealOptions{PerSecond: c.PerSecond})
}

func inProcess(ctx context.Context, c resealerConfig, t *byok.Tenant) error {
	r, err := c.resealer(ctx, t)
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

// inRiver is what a process of a platform on River does. Two jobs at once, so that others are left for other processes.
func inRiver(ctx context.Context, c resealerConfig, t *byok.Tenant) error {
	pool, err := pgxpool.New(ctx, c.DSN)
	if err != nil {
		return err
	}
	defer pool.Close()
	r, err := c.resealer(ctx, t)
	if err != nil {
		return err
	}
	workers := river.NewWorkers()
	byokriver.AddWorker(workers, func(ctx context.Context, f func(pgx.Tx) error) error { return pgx.BeginFunc(ctx, pool, f) },
		func(context.Context, string, string) (*byok.Resealer, error) { return r, nil })
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{ID: c.Name, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2}},
		Workers: workers, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return client.StopAndCancel(end)
}

func startResealer(t *testing.T, c resealerConfig) *resealerProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &resealerProcess{t: t, name: c.Name, cmd: exec.Command(self, resealerFlag, string(b)), errs: new(buffer)}
	p.cmd.Env, p.cmd.Stderr = cleanEnv(), p.errs
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// kill is kill -9. The process must have been alive.
func (p *resealerProcess) kill() {
	p.t.Helper()
	_ = p.cmd.Process.Kill()
	if err := p.cmd.Wait(); err == nil || p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		p.t.Fatalf("a resealer ended before it was killed: %v\n%s", err, p.errs)
	}
}

// end waits for its own end, after its standard input's.
func (p *resealerProcess) end() {
	p.t.Helper()
	_ = p.in.Close()
	kill := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Signal(syscall.SIGQUIT) })
	defer kill.Stop()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("a resealer ended with %v\n%s", err, p.errs)
	}
}
