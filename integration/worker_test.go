package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/awskms"
	"github.com/byok-go/byok/sqlstore"
)

// A worker is a process of a platform: a Keeper on a shared SQLite file and a KMS
// on the wire, used at full speed. It is this test binary, called with workerFlag
// as its first argument; it gets a workerConfig on standard input, runs until that
// ends, and says on standard output how it went.

const workerFlag = "byok-worker"

type workerConfig struct {
	DB, KMS, AccessKey string
	Service            string
	Tenants            []string
	MaxAge             time.Duration
	Threads            int
	Pause              time.Duration // of a thread between operations; 0 is full speed
	Rotate             time.Duration // a rotation of some tenant, about that often; 0 is never
	Log                string        // observations, see observation
	Ledger             string        // sealed records, one JSON line each
	Others             []string      // ledgers to begin with
}

// workerEnd is what a worker that was told to stop says at last.
type workerEnd struct {
	Leaked        []string // stacks of goroutines that outlived Close
	AuditFailures int
	Stats         byok.Stats
}

// record is one line of a ledger: written once Seal has returned, so a complete
// line is an acknowledged record.
type record struct {
	Tenant, Purpose, AAD, Plain string
	Sealed                      []byte
}

// What an observation is of, and what came out.
const (
	obsSeal byte = iota
	obsOpen
	obsKMS // a request to the KMS; served: it was permitted
)

const (
	outServed byte = iota
	outDenied
	outFailed
	outWrong
)

// observation is one operation or KMS request of a worker, in its log.
type observation struct {
	What, Tenant, Out byte
	Issued, Completed int64 // ns since 1970, by a clock that does not jump
}

const observationSize = 3 + 8 + 8

func (o observation) append(b []byte) []byte {
	b = append(b, o.What, o.Tenant, o.Out)
	b = binary.BigEndian.AppendUint64(b, uint64(o.Issued))
	return binary.BigEndian.AppendUint64(b, uint64(o.Completed))
}

func readObservations(file string) ([]observation, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []observation
	for ; len(b) >= observationSize; b = b[observationSize:] { // a kill can leave a part of one at the end
		all = append(all, observation{b[0], b[1], b[2], int64(binary.BigEndian.Uint64(b[3:])), int64(binary.BigEndian.Uint64(b[11:]))})
	}
	return all, nil
}

// mono is the wall clock of the start plus the monotonic clock's progress.
type mono struct{ base time.Time }

func (m mono) now() int64 { return m.base.UnixNano() + int64(time.Since(m.base)) }

// worker is the process.
type worker struct {
	workerConfig
	clock  mono
	keeper *byok.Keeper

	mu      sync.Mutex
	pool    map[string][]record // what may be opened, by tenant
	pending []byte              // observations that are not in the file yet
	log     *os.File
	ledger  *os.File
	unheard int // audit failures
}

// workerMain is main of a worker process.
func workerMain() int {
	if err := runWorker(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	return 0
}

func runWorker(in io.Reader, out io.Writer) (err error) {
	w := &worker{clock: mono{time.Now()}, pool: map[string][]record{}}
	lines := bufio.NewReader(in)
	first, err := lines.ReadBytes('\n')
	if err != nil || json.Unmarshal(first, &w.workerConfig) != nil {
		return fmt.Errorf("configuration: %v %q", err, first)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go stdin(lines, cancel)
	if w.log, err = os.OpenFile(w.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	if w.ledger, err = os.OpenFile(w.Ledger, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	for _, l := range w.Others {
		for _, r := range readLedger(l) {
			w.keep(r)
		}
	}
	db, err := sql.Open("sqlite3", "file:"+w.DB+"?_pragma=busy_timeout(10000)&_pragma=synchronous(full)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(8)
	store, err := sqlstore.Open(ctx, db, sqlstore.SQLite)
	if err != nil {
		return err
	}
	keys, err := awskms.New(awssdk.Config{Credentials: awssdk.CredentialsProviderFunc(func(context.Context) (awssdk.Credentials, error) {
		return awssdk.Credentials{AccessKeyID: w.AccessKey, SecretAccessKey: "the fake takes any secret"}, nil
	})}, &awskms.Options{Endpoint: w.KMS})
	if err != nil {
		return err
	}
	if w.keeper, err = byok.New(w.Service, keys, store, store, &byok.Options{MaxAge: w.MaxAge, Observer: w.observer()}); err != nil {
		return err
	}
	fmt.Fprintln(out, "ready")
	var all sync.WaitGroup
	all.Go(func() { _ = w.keeper.Run(ctx) })
	all.Go(func() { w.every(ctx, 20*time.Millisecond, w.flush) })
	if w.Rotate > 0 {
		all.Go(func() { w.every(ctx, w.Rotate, func() { w.rotate(ctx) }) })
	}
	for i := range w.Threads {
		all.Go(func() { w.work(ctx, i) })
	}
	<-ctx.Done()
	all.Wait()
	end := workerEnd{Stats: w.keeper.Stats()}
	if err := errors.Join(w.keeper.Close(), db.Close()); err != nil {
		return err
	}
	w.flush()
	end.Leaked, end.AuditFailures = leaked(), w.unheard
	return json.NewEncoder(out).Encode(end)
}

// stdin ends the worker with its input.
func stdin(in io.Reader, cancel func()) {
	_, _ = io.Copy(io.Discard, in)
	cancel()
}

func (w *worker) observer() *byok.Observer {
	return &byok.Observer{
		KMSCall: func(tenant string, c byok.KMSCall) {
			now := w.clock.now()
			o := observation{obsKMS, w.tenant(tenant), outFailed, now - int64(c.Took), now}
			switch c.Class {
			case 0:
				o.Out = outServed
			case byok.ClassDenied, byok.ClassPlatformDenied:
				o.Out = outDenied
			}
			w.note(o)
		},
		AuditFailure: func(error) { w.mu.Lock(); w.unheard++; w.mu.Unlock() },
	}
}

func (w *worker) tenant(id string) byte {
	for i, t := range w.Tenants {
		if t == id {
			return byte(i)
		}
	}
	return 0xff
}

func (w *worker) every(ctx context.Context, d time.Duration, f func()) {
	for tick := time.NewTicker(d); ; {
		select {
		case <-tick.C:
			f()
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}

func (w *worker) note(o observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = o.append(w.pending)
}

// flush gives observations to the kernel, which keeps them if the process is killed.
func (w *worker) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.log.Write(w.pending); err != nil {
		panic(err)
	}
	w.pending = w.pending[:0]
}

// poolSize bounds the records that a worker opens; older ones are opened at the end.
const poolSize = 500

func (w *worker) keep(r record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pool[r.Tenant]; len(p) < poolSize {
		w.pool[r.Tenant] = append(p, r)
	} else {
		p[mrand.IntN(len(p))] = r
	}
}

func (w *worker) pick(tenant string) (record, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pool[tenant]
	if len(p) == 0 {
		return record{}, false
	}
	return p[mrand.IntN(len(p))], true
}

// rotate may fail: the tenant may be denied now, or another worker was faster.
func (w *worker) rotate(ctx context.Context) {
	_, _ = w.keeper.Tenant(w.Tenants[mrand.IntN(len(w.Tenants))]).Rotate(ctx, byok.Rotation{Type: byok.RotateDEK})
}

var workerPurposes = []string{"invoices", "notes"}

// work seals one record for every seven that it opens.
func (w *worker) work(ctx context.Context, thread int) {
	background := context.WithoutCancel(ctx) // what was begun is finished
	for n := thread; ctx.Err() == nil; n++ {
		i := mrand.IntN(len(w.Tenants))
		r, any := w.pick(w.Tenants[i])
		if !any || n%8 == 0 {
			w.seal(background, byte(i), record{Tenant: w.Tenants[i], Purpose: workerPurposes[n/8%2], AAD: rand.Text(), Plain: rand.Text()})
		} else {
			w.open(background, byte(i), r)
		}
		if w.Pause > 0 {
			time.Sleep(w.Pause)
		}
	}
}

func (w *worker) seal(ctx context.Context, tenant byte, r record) {
	o := observation{What: obsSeal, Tenant: tenant, Issued: w.clock.now()}
	var err error
	r.Sealed, err = w.keeper.Seal(ctx, byok.Scope{Tenant: r.Tenant, Purpose: r.Purpose}, []byte(r.Plain), []byte(r.AAD))
	o.Completed, o.Out = w.clock.now(), outcome(err)
	w.note(o)
	if err != nil {
		return
	}
	line, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	if _, err := w.ledger.Write(append(line, '\n')); err != nil { // O_APPEND: whole lines, but for a kill
		panic(err)
	}
	w.keep(r)
}

func (w *worker) open(ctx context.Context, tenant byte, r record) {
	o := observation{What: obsOpen, Tenant: tenant, Issued: w.clock.now()}
	plain, err := w.keeper.Open(ctx, byok.Scope{Tenant: r.Tenant, Purpose: r.Purpose}, r.Sealed, []byte(r.AAD))
	o.Completed, o.Out = w.clock.now(), outcome(err)
	if err == nil && string(plain) != r.Plain || errors.Is(err, byok.ErrOpen) {
		o.Out = outWrong
	}
	w.note(o)
}

func outcome(err error) byte {
	switch {
	case err == nil:
		return outServed
	case errors.Is(err, byok.ErrKeyRevoked), errors.Is(err, byok.ErrPlatform) && deniedPlatform(err):
		return outDenied
	}
	return outFailed
}

// deniedPlatform: KMS refused us by our own policy, which stops as a denial does.
func deniedPlatform(err error) bool {
	var ke *byok.KeyError
	return errors.As(err, &ke) && ke.Class == byok.ClassPlatformDenied
}

func readLedger(file string) (all []record) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil // of a process that was killed before its first record
	}
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if !whole {
			return all
		}
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			panic(fmt.Sprintf("%s: %v: %q", file, err, line))
		}
		all, b = append(all, r), rest
	}
}

// leaked returns the goroutines that should not be there: all but this one, the
// one that waits for standard input, and net/http's idle connections.
func leaked() (stacks []string) {
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		stacks = nil
		b := make([]byte, 1<<20)
		b = b[:runtime.Stack(b, true)]
		for i, s := range strings.Split(string(b), "\n\n") {
			if i > 0 && !strings.Contains(s, "integration.stdin(") && !strings.Contains(s, "net/http.(*persistConn)") && !strings.Contains(s, "os/signal.") {
				stacks = append(stacks, s)
			}
		}
		if len(stacks) == 0 || time.Since(begun) > 5*time.Second {
			return stacks
		}
	}
}

// workerProcess is a worker, from outside.
type workerProcess struct {
	t    *testing.T
	cfg  workerConfig
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs *buffer
}

func startWorker(t *testing.T, cfg workerConfig) *workerProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &workerProcess{t: t, cfg: cfg, cmd: exec.Command(self, workerFlag), errs: new(buffer)}
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
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if line, err := p.out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("a worker did not start: %q, %v\n%s", line, err, p.errs)
	}
	return p
}

// stop tells it to stop, and returns what it says at last.
func (p *workerProcess) stop() (end workerEnd) {
	p.t.Helper()
	_ = p.in.Close()
	kill := time.AfterFunc(60*time.Second, func() { _ = p.cmd.Process.Signal(syscall.SIGQUIT) }) // and shows its goroutines
	defer kill.Stop()
	b, err := io.ReadAll(p.out)
	if err != nil || json.Unmarshal(b, &end) != nil {
		p.t.Errorf("a worker's last words: %q, %v", b, err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("a worker ended with %v\n%s", err, p.errs)
	}
	return end
}

// kill is kill -9. The worker must have been alive.
func (p *workerProcess) kill() {
	p.t.Helper()
	_ = p.cmd.Process.Kill()
	_, _ = io.Copy(io.Discard, p.out)
	if err := p.cmd.Wait(); err == nil || p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		p.t.Errorf("a worker ended before it was killed: %v\n%s", err, p.errs)
	}
}
