package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"

	"github.com/byok-go/byok"
)

// entry is a line of the index, or, with Data, a record.
type entry struct {
	Number     uint64         `json:"number"`
	Name       *string        `json:"name,omitempty"`        // if it is UTF-8
	NameBase64 []byte         `json:"name_base64,omitempty"` // if it is not
	Purpose    string         `json:"purpose"`
	AAD        []byte         `json:"aad"`
	DataKey    byok.DataKeyID `json:"data_key"`
	File       string         `json:"file,omitempty"`
	Bytes      int64          `json:"bytes"`
	Data       []byte         `json:"data,omitempty"`
}

func entryOf(r *byok.ExportedRecord, n int64) entry {
	e := entry{Number: r.Number, Purpose: r.Purpose, AAD: r.AAD, DataKey: r.DataKey, Bytes: n}
	if e.AAD == nil {
		e.AAD = []byte{}
	}
	if utf8.ValidString(r.Name) {
		e.Name = &r.Name
	} else {
		e.NameBase64 = []byte(r.Name)
	}
	return e
}

// lines writes records as JSON lines.
type lines struct {
	out *bufio.Writer
	enc *json.Encoder
	buf bytes.Buffer
}

// maxLine is how large a record may be for a JSON line. It is held in memory, since half a
// line cannot be taken back.
const maxLine = 64 << 20

var errLine = fmt.Errorf("larger than %d MiB: use -out", maxLine>>20)

func newLines(out io.Writer) *lines {
	l := &lines{out: bufio.NewWriterSize(out, 1<<16)}
	l.enc = json.NewEncoder(ascii{l.out})
	l.enc.SetEscapeHTML(false)
	return l
}

func (l *lines) put(r *byok.ExportedRecord) error {
	l.buf.Reset()
	defer func() {
		clear(l.buf.Bytes())
		if l.buf.Cap() > 1<<20 {
			l.buf = bytes.Buffer{}
		}
	}()
	n, err := r.WriteTo(&atMost{&l.buf, maxLine})
	if errors.Is(err, errLine) {
		err = &byok.ExportError{Problem: byok.ExportNotOpened, Record: r.Number, Name: r.Name, Err: errLine}
	}
	if err != nil {
		return err
	}
	e := entryOf(r, n)
	e.Data = l.buf.Bytes()
	if err := l.enc.Encode(e); err != nil {
		return &outError{err}
	}
	return nil
}

func (l *lines) close() error { return l.out.Flush() }

type atMost struct {
	w    io.Writer
	left int
}

func (a *atMost) Write(p []byte) (int, error) {
	if a.left -= len(p); a.left < 0 {
		return 0, errLine
	}
	return a.w.Write(p)
}

// directory writes records to files. All of it goes through an os.Root, so that no name, and
// no link that somebody puts there, leads elsewhere.
type directory struct {
	root  *os.Root
	fold  bool
	index *os.File
	lines *bufio.Writer
	enc   *json.Encoder
}

const (
	recordsDir = "records"
	indexFile  = "index.ndjson"
	partFile   = "partial.tmp" // of the record that is being opened; only a crash leaves it behind
)

// newDirectory makes a directory for records. One that is there must be empty, so that
// nothing is overwritten.
func newDirectory(dir string) (_ *directory, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	d := &directory{root: root}
	defer func() {
		if err != nil {
			_ = root.Close()
		}
	}()
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(1)
	_ = f.Close()
	if len(names) > 0 {
		return nil, fmt.Errorf("-out: %s is not empty", dir)
	} else if err != nil && err != io.EOF {
		return nil, err
	}
	if err := root.Mkdir(recordsDir, 0o700); err != nil {
		return nil, err
	}
	if d.fold, err = folds(root); err != nil {
		return nil, err
	}
	if d.index, err = root.OpenFile(indexFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	d.lines = bufio.NewWriter(d.index)
	d.enc = json.NewEncoder(ascii{d.lines})
	d.enc.SetEscapeHTML(false)
	return d, nil
}

// folds reports whether the file system takes capitals for small letters.
func folds(root *os.Root) (bool, error) {
	f, err := root.OpenFile("Case.tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	_ = f.Close()
	_, err = root.Lstat("case.tmp")
	return err == nil, root.Remove("Case.tmp")
}

// put opens a record into a file that gets its name when it is whole.
func (d *directory) put(r *byok.ExportedRecord) error {
	name := recordsDir + "/" + fileName(r.Name, d.fold)
	if _, err := d.root.Lstat(name); err == nil {
		return &byok.ExportError{Problem: byok.ExportNotOpened, Record: r.Number, Name: r.Name,
			Err: errors.New("there is a record of that name already, and nothing is overwritten")}
	}
	f, err := d.root.OpenFile(partFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return &outError{err}
	}
	named := false
	defer func() {
		if !named {
			_ = f.Close()
			_ = d.root.Remove(partFile)
		}
	}()
	w := &written{f: f}
	n, err := r.WriteTo(w)
	if w.err != nil {
		return &outError{w.err}
	} else if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return &outError{err}
	}
	if err := d.root.Rename(partFile, name); err != nil {
		return &outError{err}
	}
	named = true
	e := entryOf(r, n)
	e.File = name
	if err := d.enc.Encode(e); err != nil {
		return &outError{err}
	}
	return nil
}

// written notes an error of the file.
type written struct {
	f   *os.File
	err error
}

func (w *written) Write(p []byte) (n int, err error) {
	n, w.err = w.f.Write(p)
	return n, w.err
}

func (d *directory) close() error {
	return errors.Join(d.lines.Flush(), d.index.Sync(), d.index.Close(), d.root.Close())
}
