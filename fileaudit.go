package byok

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// FileAudit is an AuditSink that appends events to a file, one JSON object a
// line. Record returns after the fsync that covers its line; events that are
// recorded at the same time share one.
//
// It does not read, so it does not know which events it has seen: an event that
// is delivered twice, or whose Record was given up when its ctx ended, can be
// there twice or once. Whoever reads the file keeps the first line of an id, and
// skips empty lines and lines that are no JSON, which a crash can leave.
//
// One process writes to a file. To rotate it, open another FileAudit.
type FileAudit struct {
	f appendFile

	mu      sync.Mutex
	next    *fileBatch    // gathers while the one before it is on its way to the disk
	running chan struct{} // closed when the goroutine that writes ends; nil: there is none
	failed  error         // the first failure, which is the last thing that happens
	closed  bool
	close   func() error
}

// fileBatch is what one write and one fsync make durable.
type fileBatch struct {
	lines []byte
	err   error
	done  chan struct{} // closed when err is final
}

// appendFile is the part of an *os.File that is used, for tests with a bad disk.
type appendFile interface {
	io.WriteCloser
	Sync() error
}

// OpenFileAudit opens the file at path for appending, and creates it with mode
// 0600 if it is not there. If a crash left half a line at its end, that line is
// ended, so that the next event has one of its own.
func OpenFileAudit(path string) (*FileAudit, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("byok: open audit file: %w", err)
	}
	if err := prepareAuditFile(f, path); err != nil {
		return nil, errors.Join(fmt.Errorf("byok: open audit file: %w", err), f.Close())
	}
	return newFileAudit(f), nil
}

func prepareAuditFile(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: not a regular file, so fsync would promise nothing", ErrArgument)
	}
	if size := info.Size(); size > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			if _, err := f.Write([]byte("\n")); err != nil {
				return err
			}
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// The file's name is in the directory, and a new one would be lost with it. Also
	// for an old file: the process that made it may have died just before this.
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := openDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// directory is one whose names can be made durable.
type directory interface {
	Sync() error
	io.Closer
}

func openDir(path string) (directory, error) {
	if runtime.GOOS == "windows" {
		return noDirectory{}, nil
	}
	return os.Open(path)
}

// noDirectory: Windows has no such thing as the fsync of a directory.
type noDirectory struct{}

func (noDirectory) Sync() error  { return nil }
func (noDirectory) Close() error { return nil }

func newFileAudit(f appendFile) *FileAudit {
	return &FileAudit{f: f, close: sync.OnceValue(f.Close)}
}

// Record implements AuditSink. After a failure to write all that follow fail
// too: what a file holds after a failed fsync is unknown, and a second fsync that
// succeeds would say nothing about it. Open the file again.
func (a *FileAudit) Record(ctx context.Context, e Event) error {
	if err := checkEvent(e); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e.Time = e.Time.UTC()
	line, err := json.Marshal(e) // which has no line break inside
	if err != nil {
		return fmt.Errorf("%w: the event has no JSON form", ErrArgument)
	}
	b, err := a.enqueue(line)
	if err != nil {
		return err
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *FileAudit) enqueue(line []byte) (*fileBatch, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, fmt.Errorf("byok: audit file: %w", ErrClosed)
	}
	if a.failed != nil {
		return nil, a.failed
	}
	if a.next == nil {
		a.next = &fileBatch{done: make(chan struct{})}
	}
	b := a.next
	b.lines = append(append(b.lines, line...), '\n')
	if a.running == nil {
		a.running = make(chan struct{})
		go a.run(a.running)
	}
	return b, nil
}

// run writes batches until there are none. It ends, so an idle FileAudit costs
// nothing, and one that is never closed leaks no goroutine.
func (a *FileAudit) run(ended chan struct{}) {
	defer close(ended)
	for {
		a.mu.Lock()
		b := a.next
		a.next = nil
		if b == nil {
			a.running = nil
			a.mu.Unlock()
			return
		}
		err := a.failed // of the batch before this one
		a.mu.Unlock()
		if err == nil {
			err = a.write(b.lines)
		}
		if err != nil {
			a.mu.Lock()
			a.failed = err
			a.mu.Unlock()
		}
		b.err = err
		close(b.done)
	}
}

func (a *FileAudit) write(lines []byte) error {
	n, err := a.f.Write(lines)
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = a.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("byok: audit file: %w", err)
	}
	return nil
}

// Close waits for the events that are on their way, and closes the file. Record
// then fails with ErrClosed.
func (a *FileAudit) Close() error {
	a.mu.Lock()
	a.closed = true
	running := a.running
	a.mu.Unlock()
	if running != nil {
		<-running
	}
	return a.close()
}
