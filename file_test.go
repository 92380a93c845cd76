package byok_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/byok-go/byok"
	"github.com/byok-go/byok/byoktest"
)

// names are the files of a directory.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	want(t, "ReadDir", err, nil)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	want(t, "WriteFile", os.WriteFile(path, b, 0o644), nil)
}

func TestFiles(t *testing.T) {
	parallel(t, func(t *testing.T, env *byoktest.Env) {
		dir := t.TempDir()
		plain, sealed, opened := filepath.Join(dir, "plain"), filepath.Join(dir, "sealed"), filepath.Join(dir, "opened")
		for _, n := range []int{0, 1, plainSegment, 5*plainSegment + 1} {
			write(t, plain, pattern(n))
			want(t, "SealFile", env.Keeper.SealFile(t.Context(), sealed, plain, acmeScope, []byte("f")), nil)
			want(t, "OpenFile", env.Keeper.OpenFile(t.Context(), opened, sealed, acmeScope, []byte("f")), nil)
			got, err := os.ReadFile(opened)
			if want(t, "ReadFile", err, nil); !bytes.Equal(got, pattern(n)) {
				t.Fatalf("%d bytes came back as %d", n, len(got))
			}
			for _, path := range []string{sealed, opened} {
				info, err := os.Stat(path)
				if want(t, "Stat", err, nil); info.Mode() != 0o600 {
					t.Errorf("%s has the mode %v", path, info.Mode())
				}
			}
		}
		want(t, "SealFile in place", env.Keeper.SealFile(t.Context(), plain, plain, acmeScope, nil), nil)
		want(t, "OpenFile in place", env.Keeper.OpenFile(t.Context(), plain, plain, acmeScope, nil), nil)
		if got := names(t, dir); len(got) != 3 {
			t.Errorf("files are left: %v", got)
		}
	})
}

// A15: whatever goes wrong, no half of a file appears under its name, the one that was there is
// as it was, and nothing else is left. The audit log does not say that it went well.
func TestA15_NoHalfOfAFile(t *testing.T) {
	parallel(t, func(t *testing.T, env *byoktest.Env) {
		dir := t.TempDir()
		sealed, dst := filepath.Join(dir, "sealed"), filepath.Join(dir, "dst")
		plain := pattern(5*plainSegment + 9)
		good := sealStream(t, env.Keeper, plain, "")
		bad := bytes.Clone(good)
		bad[len(bad)-1] ^= 1 // in the last segment
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		type try func(dst string) error
		open := func(b []byte) try {
			return func(dst string) error {
				write(t, sealed, b)
				return env.Keeper.OpenFile(t.Context(), dst, sealed, acmeScope, nil)
			}
		}
		for name, c := range map[string]struct {
			f   try
			err error
		}{
			"a bad last segment": {open(bad), byok.ErrOpen},
			"cut short":          {open(good[:len(good)-segment]), byok.ErrOpen},
			"something follows":  {open(append(bytes.Clone(good), 0)), byok.ErrOpen},
			"no envelope":        {open(plain), byok.ErrMalformed},
			"another purpose": {func(dst string) error {
				write(t, sealed, good)
				return env.Keeper.OpenFile(t.Context(), dst, sealed, byok.Scope{Tenant: "acme", Purpose: "mail"}, nil)
			}, byok.ErrOpen},
			"a ctx that is done": {func(dst string) error {
				write(t, sealed, good)
				return env.Keeper.OpenFile(canceled, dst, sealed, acmeScope, nil)
			}, context.Canceled},
			"a ctx that is done, sealing": {func(dst string) error {
				write(t, sealed, plain)
				return env.Keeper.SealFile(canceled, dst, sealed, acmeScope, nil)
			}, context.Canceled},
			"an argument": {func(dst string) error {
				write(t, sealed, plain)
				return env.Keeper.SealFile(t.Context(), dst, sealed, byok.Scope{}, nil)
			}, byok.ErrArgument},
			"no source": {func(dst string) error {
				return env.Keeper.OpenFile(t.Context(), dst, filepath.Join(dir, "absent"), acmeScope, nil)
			}, fs.ErrNotExist},
			"a source that is a directory": {func(dst string) error {
				return env.Keeper.SealFile(t.Context(), dst, dir, acmeScope, nil)
			}, nil},
		} {
			for _, there := range []bool{false, true} {
				if os.Remove(dst); there {
					write(t, dst, []byte("before"))
				}
				before := outcomes(env)
				err := c.f(dst)
				if err == nil || c.err != nil && !errors.Is(err, c.err) {
					t.Errorf("%s: %v", name, err)
				}
				got, err := os.ReadFile(dst)
				if there && string(got) != "before" || !there && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: dst has %d bytes, %v", name, len(got), err)
				}
				for _, n := range names(t, dir) {
					if n != "sealed" && n != "dst" {
						t.Errorf("%s: %s is left", name, n)
					}
				}
				if now := outcomes(env); now[byok.OutcomeSuccess] != before[byok.OutcomeSuccess] {
					t.Errorf("%s: a success in the log", name)
				}
			}
		}
		// It cannot get its name, after the success was recorded: the log takes it back.
		write(t, sealed, good)
		full := filepath.Join(dir, "full")
		want(t, "Mkdir", os.MkdirAll(filepath.Join(full, "x"), 0o700), nil)
		before := outcomes(env)
		if err := env.Keeper.OpenFile(t.Context(), full, sealed, acmeScope, nil); err == nil {
			t.Error("a file in place of a directory")
		}
		if now := outcomes(env); now[byok.OutcomeWithheld] != before[byok.OutcomeWithheld]+1 || len(names(t, dir)) > 3 {
			t.Errorf("events %v, before %v; files %v", now, before, names(t, dir))
		}
	})
}

// A denial that is seen after the last byte was opened, and before the file has its name.
func TestA15_DeniedBeforeTheRename(t *testing.T) {
	sink := &hookSink{MemAudit: new(byok.MemAudit)}
	env := byoktest.New(t, &byoktest.Options{Sink: sink})
	acme, _ := env.Tenant("acme")
	dir := t.TempDir()
	plain, sealed, dst := filepath.Join(dir, "plain"), filepath.Join(dir, "sealed"), filepath.Join(dir, "dst")
	write(t, plain, pattern(10))
	want(t, "SealFile", env.Keeper.SealFile(t.Context(), sealed, plain, acmeScope, nil), nil)
	sink.before(func(e byok.Event) {
		if e.Op == byok.OpOpen && e.Outcome == byok.OutcomeSuccess {
			if _, err := acme.Suspend(context.Background(), ""); err != nil {
				t.Error(err)
			}
		}
	})
	want(t, "OpenFile", env.Keeper.OpenFile(t.Context(), dst, sealed, acmeScope, nil), byok.ErrSuspended)
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("files: %v", got)
	}
	env.Audit = sink.MemAudit
	if n := outcomes(env)[byok.OutcomeWithheld]; n != 1 {
		t.Errorf("%d withheld events", n)
	}
	sink.before(nil)
	_, err := acme.Resume(t.Context(), "")
	want(t, "Resume", err, nil)
	err = env.Keeper.SealFileThen(t.Context(), dst, plain, acmeScope, func() {
		if _, err := acme.Suspend(context.Background(), ""); err != nil {
			t.Error(err)
		}
	})
	want(t, "SealFile", err, byok.ErrSuspended)
	if n, got := outcomes(env)[byok.OutcomeWithheld], names(t, dir); n != 2 || len(got) != 2 {
		t.Errorf("%d withheld events, files %v", n, got)
	}
}
