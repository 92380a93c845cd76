package storetest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	// Failing is what the cases do here: no reports, and no time for nicer ones.
	flag.Parse()
	_ = flag.Set("rapid.nofailfile", "true")
	_ = flag.Set("rapid.shrinktime", "0s")
	os.Exit(m.Run())
}

// fakeTB is a test that may fail. Its methods do what testing.T's do.
type fakeTB struct {
	ctx context.Context

	mu     sync.Mutex
	failed bool
	first  string // message
}

var _ tb = (*fakeTB)(nil)

func (f *fakeTB) Helper()                   {}
func (f *fakeTB) Name() string              { return "fake" }
func (f *fakeTB) Context() context.Context  { return f.ctx }
func (f *fakeTB) Logf(string, ...any)       {}
func (f *fakeTB) Log(...any)                {}
func (f *fakeTB) Skipf(s string, a ...any)  { panic("a case skips") }
func (f *fakeTB) Skip(...any)               { panic("a case skips") }
func (f *fakeTB) SkipNow()                  { panic("a case skips") }
func (f *fakeTB) Errorf(s string, a ...any) { f.fail(fmt.Sprintf(s, a...)) }
func (f *fakeTB) Error(a ...any)            { f.fail(fmt.Sprint(a...)) }
func (f *fakeTB) Fatalf(s string, a ...any) { f.fail(fmt.Sprintf(s, a...)); runtime.Goexit() }
func (f *fakeTB) Fatal(a ...any)            { f.fail(fmt.Sprint(a...)); runtime.Goexit() }
func (f *fakeTB) FailNow()                  { f.fail(""); runtime.Goexit() }
func (f *fakeTB) Fail()                     { f.fail("") }

func (f *fakeTB) Failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

func (f *fakeTB) fail(message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed = true; f.first == "" {
		f.first = message
	}
}

// failure runs a case and returns the message with which it failed, "" if it passed.
func failure(t *testing.T, run func(t tb)) string {
	f := &fakeTB{ctx: t.Context()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				f.fail(fmt.Sprint("panic: ", p))
			}
		}()
		run(f)
	}()
	<-done
	if f.failed && f.first == "" {
		f.first = "failed"
	}
	return f.first
}

// detected checks that a fault fails the case that is there for it.
func detected(t *testing.T, by string, failures map[string]string) {
	t.Helper()
	if failures[by] == "" {
		t.Fatalf("the case %q passes", by)
	}
	t.Logf("%q says: %s", by, strings.SplitN(failures[by], "\n", 2)[0])
}
