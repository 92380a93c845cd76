package kmsfake

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultRegion is where clients and accounts live until Region says
// otherwise, and where unsigned wire requests go.
const DefaultRegion = "us-east-1"

// TB is the part of testing.TB that the fake needs. It is declared here so that
// a server which embeds the fake does not link package testing.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Options adjust a KMS. A nil *Options, and each zero field, is a usable default.
type Options struct {
	// TB makes mistakes in test code (a policy that does not parse, a principal
	// that is no ARN) fail the test on the line that made them. Without it they
	// panic: they are never mistakes of the code under test.
	TB TB

	// File keeps keys, aliases, policies and access keys across restarts: each
	// change is on disk before its call is answered. It holds plaintext key
	// material (mode 0600); this is a fake. Defaults to memory only.
	//
	// One KMS at a time has a file, of all processes and of this one: another gets
	// ErrInUse, since each would overwrite what the other saved. The lock is a
	// flock on an empty file beside it, File + ".lock", which stays there. It ends
	// with Close and with the process, kill -9 included. Systems without flock
	// (Windows, Solaris, AIX, Plan 9) have no lock: there it is up to you.
	File string

	// Now is the engine's clock: dates, deletion windows, rotation. Defaults to
	// time.Now, which inside a testing/synctest bubble is the bubble's clock. See
	// Advance for tests that run in none.
	Now func() time.Time

	// StrictIAM demands the caller's side of cross-account access as AWS does.
	//
	// Without it, a principal for which PutIdentityPolicy was NEVER called is
	// taken to be allowed everything by its own account, where AWS would refuse
	// it: across accounts and for operations without a key (CreateKey, ListKeys,
	// aliases). The key's own account is asked strictly in any case. Register one
	// identity policy for a principal, and that principal is evaluated fully.
	StrictIAM bool

	// Controls lets whoever reaches Handler do over HTTP, below /_kmsfake/, what
	// otherwise the methods of KMS do: faults, clock, reset, access keys, the log
	// of calls. No credentials are asked for. They are for one machine: the request
	// must come from and be for a loopback address or localhost, and not be a web page's.
	// docs/kmsfake.md has them all.
	Controls bool

	// OnCall is told of each call once it is decided, with the lock released and
	// before its caller is answered: for a server's log. It is told, too, of
	// requests over HTTP that were refused before they became calls (a wrong
	// signature, an operation that does not exist), which Calls does not have.
	OnCall func(Call)
}

// KMS is the service: every account and every Region of it. It is safe for
// concurrent use. Obtain callers with Client or Handler, keys with Account.
type KMS struct {
	tb       TB
	file     string
	wall     func() time.Time
	ahead    atomic.Int64 // ns that the service's clock is ahead of wall; st.Ahead
	strict   bool
	onCall   func(Call)
	controls http.Handler // nil: none
	lock     *os.File     // nil: no file, or no lock on this system

	// mu guards everything below. It is held for one decision at a time and
	// never while a call is delayed, so that a slow call slows nobody else.
	mu          sync.Mutex
	st          *state
	dirty       bool   // st differs from saved
	closed      bool   // the file is no longer ours
	saved       []byte // the last durable state; what a failed save returns to
	faults      []*activeFault
	nextFault   uint64
	outages     int
	resets      int
	latency     time.Duration
	tamper      func(op string, out any)
	propagation time.Duration
	delays      bool // something was ever delayed
	quota       int  // requests a second
	buckets     map[bucketOf]*bucket
	calls       []Call
	traces      []trace // of the last calls, a ring when it is full
	nextTrace   int
	trail       trail
}

// New returns a KMS without keys. Only Options.File can make it fail: use Open
// to receive that error, New reports it as Options.TB says.
func New(opts *Options) *KMS {
	f, err := Open(opts)
	if err != nil {
		var tb TB
		if opts != nil {
			tb = opts.TB
		}
		if tb != nil {
			tb.Helper()
		}
		misuse(tb, "%v", err)
	}
	return f
}

// Open is New for a KMS that keeps a file: it fails if the file is there and
// cannot be understood, rather than start without the keys that were in it, and
// with ErrInUse if another KMS has it.
func Open(opts *Options) (*KMS, error) {
	if opts == nil {
		opts = &Options{}
	}
	f := &KMS{tb: opts.TB, file: opts.File, wall: opts.Now, strict: opts.StrictIAM, onCall: opts.OnCall, st: newState()}
	if opts.Controls {
		f.controls = newControls(f)
	}
	if f.onCall == nil {
		f.onCall = func(Call) {}
	}
	if f.wall == nil {
		f.wall = time.Now
	}
	if f.file == "" {
		return f, nil
	}
	var err error
	if f.lock, err = lockFile(f.file + ".lock"); err != nil { // before the first look at the file
		return nil, fmt.Errorf("kmsfake: %s: %w", f.file, err)
	}
	if err := f.load(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("kmsfake: %w", err)
	}
	return f, nil
}

// ErrInUse is the error of [Open] for a file that another KMS has.
var ErrInUse = errors.New("is in use by another process, or by another KMS of this one")

// errClosed is the end of a KMS whose file may be another's by now.
var errClosed = errors.New("closed")

// Close gives Options.File back, for another KMS to open. There is nothing to
// flush: what was answered is on disk. Afterwards whatever would change the file
// fails. Without a File it does nothing. It may be called more than once.
func (f *KMS) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.file == "" {
		return nil
	}
	f.closed = true
	if f.lock == nil {
		return nil
	}
	return f.lock.Close() // which ends the lock
}

// misuse ends a test, or panics: the caller's test is wrong, not the code that
// it tests, and going on would only hide where.
func misuse(tb TB, format string, args ...any) {
	if tb != nil {
		tb.Helper()
		tb.Fatalf("kmsfake: "+format, args...)
	}
	panic("kmsfake: " + fmt.Sprintf(format, args...))
}

func (f *KMS) misuse(format string, args ...any) {
	if f.tb != nil {
		f.tb.Helper()
	}
	misuse(f.tb, format, args...)
}

// newUUID is a random (version 4) UUID: key ids and request ids.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return formatUUID(b)
}

func formatUUID(b [16]byte) string {
	const digits = "0123456789abcdef"
	var s [36]byte
	at := 0
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			s[at] = '-'
			at++
		}
		s[at], s[at+1] = digits[c>>4], digits[c&15]
		at += 2
	}
	return string(s[:])
}
