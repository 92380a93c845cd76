package kmsfake

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// fileVersion names the format of Options.File.
const fileVersion = 1

type fileFormat struct {
	KMSFake int // fileVersion; also tells this file from any other JSON
	State   *state
}

// load reads the file. No file is an empty KMS; anything but a whole file of
// this version is an error, since going on would lose keys at the next save.
func (f *KMS) load() error {
	data, err := os.ReadFile(f.file)
	if errors.Is(err, fs.ErrNotExist) {
		f.dirty = true
		return f.save() // finds out now whether the place can be written
	}
	if err != nil {
		return err
	}
	st, err := decodeState(data)
	if err != nil {
		return fmt.Errorf("%s: %w", f.file, err)
	}
	f.st, f.saved = st, data
	f.ahead.Store(int64(st.Ahead))
	f.delays = true // something may still be on its way
	return nil
}

func decodeState(data []byte) (*state, error) {
	in := fileFormat{State: newState()}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, err
	}
	if in.KMSFake != fileVersion {
		return nil, fmt.Errorf("not a kmsfake file of version %d", fileVersion)
	}
	st := in.State
	if st == nil || len(st.Secret) != 32 {
		return nil, errors.New("damaged")
	}
	for arn, k := range st.Keys {
		if k == nil || k.ARN() != arn || !k.sound() {
			return nil, fmt.Errorf("key %s is damaged", arn)
		}
		var err error
		if k.policy, err = parsePolicy(k.Policy, true); err != nil {
			return nil, fmt.Errorf("key %s: %w", arn, err)
		}
		for _, g := range k.Grants {
			if g == nil || g.parse() != nil {
				return nil, fmt.Errorf("a grant on key %s is damaged", arn)
			}
		}
		for i := range k.PastPolicies {
			past := &k.PastPolicies[i].Value
			if past.parsed, err = parsePolicy(past.Document, true); err != nil {
				return nil, fmt.Errorf("key %s: %w", arn, err)
			}
		}
		k.seen = seen{k.State, k.Policy, k.policy}
		k.decideBy()
	}
	for id, docs := range st.Identities {
		for _, d := range docs {
			var err error
			if d.policy, err = parsePolicy(d.Document, false); err != nil {
				return nil, fmt.Errorf("identity %s: %w", id, err)
			}
		}
	}
	return st, nil
}

// save makes a changed state durable before the change is answered. If it
// cannot, the change is undone in memory too: what a caller was told is refused
// must not have happened.
func (f *KMS) save() error {
	if !f.dirty {
		return nil
	}
	f.dirty = false
	if f.file == "" {
		return nil
	}
	var data []byte
	err := errClosed
	if !f.closed {
		data, err = json.Marshal(fileFormat{fileVersion, f.st})
	}
	if err == nil {
		err = writeAtomically(f.file, data)
	}
	if err == nil {
		f.saved = data
		return nil
	}
	if f.saved != nil {
		st, undo := decodeState(f.saved)
		if undo != nil {
			panic("kmsfake: internal error: " + undo.Error()) // we wrote these bytes ourselves
		}
		f.st = st
	}
	return err
}

// writeAtomically replaces a file such that a reader, and a process that starts
// after a crash at any instant, sees the old content or the new, never a part.
func writeAtomically(name string, data []byte) (err error) {
	dir := filepath.Dir(name)
	tmp, err := os.CreateTemp(dir, filepath.Base(name)+".tmp*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if _, err = tmp.Write(data); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), name); err != nil {
		return err
	}
	d, err := os.Open(dir) // the rename itself must survive, too
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
