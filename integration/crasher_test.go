package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/sqlstore"
)

// A crasher is a process of a platform that is to be killed: a Keeper on a database that
// says on standard output what has been acknowledged to it, one JSON line each. It is this
// test binary with crasherFlag as its first argument and a crasherConfig as its second.
const crasherFlag = "byok-crasher"

type crasherConfig struct {
	Driver, DSN             string
	KMS, AccessKey, Service string
	Tenants                 map[string]string // and their CMKs
	Next                    map[string]string // the CMKs to which they move in the end
	KillAt                  int               // see killing; 0: never
	Mode                    string            // a key of crasherModes
	Patient                 bool              // the database may fail, but must not lie
	Jobs                    bool              // of "busy": jobs too, and envelopes that carry their data key
}

// ack is something that was acknowledged.
type ack struct {
	Op             string // "register", "waiver", "seal", "rewrap", "rotate", "job", "move", "end", "ready"
	Tenant         string
	Purpose, Plain string
	Sealed         []byte
	N              uint64 // of "rotate": the generation; of "end": statements that were sent
	Job, Type      string // of "job": one that has ended
}

type crasher struct {
	crasherConfig
	keys   byok.Keyring
	sink   byok.AuditSink
	keeper *byok.Keeper
	mu     sync.Mutex // of standard output
}

// dialects are by the names under which drivers are registered: ncruces, modernc and pgx.
var dialects = map[string]sqlstore.Dialect{"sqlite3": sqlstore.SQLite, "sqlite": sqlstore.SQLite, "pgx": sqlstore.Postgres}

func crasherMain(config string) int {
	c := new(crasher)
	err := json.Unmarshal([]byte(config), &c.crasherConfig)
	if err == nil {
		err = c.run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crasher:", err)
		return 1
	}
	return 0
}

func (c *crasher) run(ctx context.Context) error {
	db, kill, err := openKilling(c.Driver, c.DSN, c.KillAt)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(8)
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
	if c.keeper, err = byok.New(c.Service, keys, store, store, &byok.Options{MaxAge: time.Second}); err != nil {
		return err
	}
	c.keys, c.sink = keys, store
	c.say(ack{Op: "ready"})
	if err := crasherModes[c.Mode](c, ctx); err != nil {
		return err
	}
	c.say(ack{Op: "end", N: uint64(kill.n.Load())})
	return errors.Join(c.keeper.Close(), db.Close())
}

func (c *crasher) say(a ack) {
	line, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n'))
}

var crasherModes = map[string]func(c *crasher, ctx context.Context) error{
	"life":  (*crasher).life,
	"busy":  (*crasher).busy,
	"first": (*crasher).first,
}

// register does what may have been done before this process was there.
func (c *crasher) register(ctx context.Context, id string) error {
	return register(ctx, c.keeper.Tenant(id), c.Tenants[id], func(op string) { c.say(ack{Op: op, Tenant: id}) })
}

func register(ctx context.Context, t *byok.Tenant, cmk string, say func(op string)) error {
	_, err := t.Register(ctx, byok.Registration{Key: awskms.Key(cmk)})
	if err != nil && byok.Code(err) != "BYOK_003" { // it has it already
		return fmt.Errorf("register: %w", err)
	}
	say("register")
	if _, err := t.AcknowledgeWaiver(ctx, byok.Acknowledgement{DataLossRisk: true, KeyManagement: true, NoLiability: true}); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	say("waiver")
	return nil
}

func (c *crasher) seal(ctx context.Context, id, purpose string) error {
	a := ack{Op: "seal", Tenant: id, Purpose: purpose, Plain: fmt.Sprintf("%s of %s, %d", purpose, id, mrand.Uint64())}
	var err error
	if a.Sealed, err = c.keeper.Seal(ctx, byok.Scope{Tenant: id, Purpose: purpose}, []byte(a.Plain), nil); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	c.say(a)
	plain, err := c.keeper.Open(ctx, byok.Scope{Tenant: id, Purpose: purpose}, a.Sealed, nil)
	if err != nil || string(plain) != a.Plain {
		return fmt.Errorf("open what was just sealed: %q, %w", plain, err)
	}
	return nil
}

func (c *crasher) rotate(ctx context.Context, id string) error {
	r, err := c.keeper.Tenant(id).Rotate(ctx, byok.Rotation{Type: byok.RotateDEK})
	if err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	c.say(ack{Op: "rotate", Tenant: id, N: r.NewVersion})
	return nil
}

// life is each kind of change once, from an empty database on.
func (c *crasher) life(ctx context.Context) error {
	for id := range c.Tenants {
		for _, step := range []func() error{
			func() error { return c.register(ctx, id) },
			func() error { return c.seal(ctx, id, "invoices") },
			func() error { return c.rotate(ctx, id) },
			func() error { return c.seal(ctx, id, "invoices") },
			func() error { return c.seal(ctx, id, "notes") },
			func() error { return c.rewrap(ctx, id) },
			func() error { return c.jobs(ctx, id) },
			func() error { return c.rewrap(ctx, id) },
			func() error { return c.seal(ctx, id, "notes") },
		} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}

// busy goes on until it is killed, or standard input ends.
func (c *crasher) busy(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	go stdin(os.Stdin, cancel)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	thread := func(name string, id string, work func(ctx context.Context, id string) error) {
		wg.Go(func() {
			for registered := false; ctx.Err() == nil; {
				op, end := context.WithTimeout(context.Background(), 20*time.Second)
				step := work
				if !registered {
					step = c.register
				}
				err := step(op, id)
				end()
				switch {
				case err == nil:
					registered = true
				case c.Patient && (errors.Is(err, byok.ErrStore) || errors.Is(err, byok.ErrAudit) || errors.Is(err, byok.ErrNotAudited)):
					time.Sleep(20 * time.Millisecond)
				default:
					mu.Lock()
					failed = errors.Join(failed, fmt.Errorf("%s of %s: %w", name, id, err))
					mu.Unlock()
					cancel()
					return
				}
			}
		})
	}
	for id := range c.Tenants {
		thread("one", id, c.something)
		thread("another", id, c.something)
		if c.Jobs {
			thread("jobs", id, c.anyJob)
		}
	}
	wg.Wait()
	return failed
}

func (c *crasher) something(ctx context.Context, id string) error {
	switch n := mrand.IntN(40); {
	case c.Jobs && n < 2: // with many more data keys, no job would come to its end
		return c.rotate(ctx, id)
	case c.Jobs && n < 5:
		return c.rewrap(ctx, id)
	case !c.Jobs && n < 5:
		return c.rotate(ctx, id)
	}
	return c.seal(ctx, id, fmt.Sprint("p", mrand.IntN(6)))
}

// first seals one record as soon as it is told to, as many others do.
func (c *crasher) first(ctx context.Context) error {
	if _, err := bufio.NewReader(os.Stdin).ReadByte(); err != nil {
		return err
	}
	for id := range c.Tenants {
		if err := c.seal(ctx, id, "first"); err != nil {
			return err
		}
	}
	return nil
}

// crasherProcess is a crasher, from outside.
type crasherProcess struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	errs *buffer
	acks chan ack // closed when its output has ended
}

func startCrasher(t *testing.T, cfg crasherConfig) *crasherProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &crasherProcess{t: t, cmd: exec.Command(self, crasherFlag, string(b)), errs: new(buffer), acks: make(chan ack, 100_000)}
	p.cmd.Env, p.cmd.Stderr = cleanEnv(), p.errs
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	go func() {
		defer close(p.acks)
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadBytes('\n')
			if err != nil { // a line that was cut short is no acknowledgement
				return
			}
			var a ack
			if json.Unmarshal(line, &a) == nil {
				p.acks <- a
			}
		}
	}()
	return p
}

// ready waits until it works.
func (p *crasherProcess) ready() {
	p.t.Helper()
	if a, ok := <-p.acks; !ok || a.Op != "ready" {
		p.t.Fatalf("a crasher did not start: %+v\n%s", a, p.errs)
	}
}

// rest waits for the end of the process, and returns what it still said and whether
// it was killed.
func (p *crasherProcess) rest() (acks []ack, killed bool) {
	p.t.Helper()
	for a := range p.acks {
		acks = append(acks, a)
	}
	err := p.cmd.Wait()
	if killed = p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL; err != nil && !killed {
		p.t.Errorf("a crasher ended with %v\n%s", err, p.errs)
	}
	return acks, killed
}
