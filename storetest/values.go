package storetest

import (
	"bytes"
	"math/rand/v2"
	"strings"

	"github.com/byok-go/byok"
)

// noise is n bytes that no compression or text conversion survives, the same in
// each run.
func noise(n int) string {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return string(b)
}

var valueCases = []storeCase{
	{"every value of one byte", func(s *store) {
		for c := range 256 {
			s.write(item("p", "i", uint64(c), string([]byte{byte(c)})))
			s.want("p", "i", uint64(c)+1, string([]byte{byte(c)}))
		}
	}},
	{"all bytes in one value", func(s *store) {
		var all []byte
		for c := range 256 {
			all = append(all, byte(c))
		}
		s.write(item("p", "i", 0, string(all)))
		s.want("p", "i", 1, string(all))
	}},
	{"values that look like something else", func(s *store) {
		values := []string{"\x00", "\x00a", "a\x00", "\x00\x00", " ", "  a  ", "\r\n", "\n", "a\r", "0", "007", "1.50", "1e3", "null", "NULL", `""`,
			"true", `{"b":1, "a":2}`, "\xff\xfe", "\xed\xa0\x80", "\xc3", "e\u0301", "\ufeffa", `\x41`, "0x41", "YQ==", "'", `\`, "%s"}
		for rev, v := range values {
			s.write(item("p", "i", uint64(rev), v))
			s.want("p", "i", uint64(rev)+1, v)
			s.wantList("p", "", 1, item("p", "i", uint64(rev)+1, v))
		}
	}},
	{"a value of 64 KiB", func(s *store) {
		s.write(item("p", "i", 0, noise(byok.MaxItemValue)))
		s.want("p", "i", 1, noise(byok.MaxItemValue))
		s.wantList("p", "", 1, item("p", "i", 1, noise(byok.MaxItemValue)))
		s.write(item("p", "i", 1, strings.Repeat("\x00", byok.MaxItemValue)))
		s.want("p", "i", 2, strings.Repeat("\x00", byok.MaxItemValue))
	}},
	{"sizes between", func(s *store) {
		for i, n := range []int{2, 255, 256, 257, 999, 4000, 4096, 8192, 16383, 32768, byok.MaxItemValue - 1} {
			s.write(item("p", "i", uint64(i), noise(n)))
			s.want("p", "i", uint64(i)+1, noise(n))
		}
	}},
	{"25 values of 64 KiB at once", func(s *store) {
		s.write(batch(0, noise(byok.MaxItemValue))...)
		for _, w := range batch(1, noise(byok.MaxItemValue)) {
			s.want(w.Partition, w.ID, 1, string(w.Value))
		}
	}},
	{"a value of 64 KiB and one is refused", func(s *store) {
		s.refused("a value too large", item("p", "i", 0, noise(byok.MaxItemValue+1)))
		s.missing("p", "i")
		s.write(item("p", "i", 0, "x"))
		s.refused("a value too large", item("p", "i", 1, noise(byok.MaxItemValue+1)))
		s.want("p", "i", 1, "x")
	}},
	{"an empty value is refused", func(s *store) {
		s.refused("nil", byok.Item{Ref: byok.Ref{Partition: "p", ID: "i"}})
		s.refused("empty", item("p", "i", 0, ""))
		s.missing("p", "i")
	}},
	{"a value is copied in", func(s *store) {
		w := item("p", "i", 0, "kept")
		s.write(w)
		copy(w.Value, "lost")
		s.want("p", "i", 1, "kept")
		w = item("p", "i", 1, "kept2")
		s.write(w, item("p", "j", 0, "x"))
		copy(w.Value, "lost!")
		s.want("p", "i", 2, "kept2")
	}},
	{"a value is copied out", func(s *store) {
		s.write(item("p", "i", 0, "kept"))
		got, err := s.Get(s.ctx, byok.Ref{Partition: "p", ID: "i"})
		if err != nil {
			s.Fatal(err)
		}
		copy(got.Value, "lost")
		_ = append(got.Value[:2], "??"...)
		s.want("p", "i", 1, "kept")
		listed, err := s.List(s.ctx, "p", "", 1)
		if err != nil || len(listed) != 1 {
			s.Fatal(len(listed), err)
		}
		copy(listed[0].Value, "lost")
		s.want("p", "i", 1, "kept")
		s.wantList("p", "", 1, item("p", "i", 1, "kept"))
	}},
	{"items of one list share nothing", func(s *store) {
		s.write(item("p", "i", 0, "aaaa"), item("p", "j", 0, "bbbb"))
		listed, err := s.List(s.ctx, "p", "", 2)
		if err != nil || len(listed) != 2 {
			s.Fatal(len(listed), err)
		}
		_ = append(listed[0].Value, "xxxx"...)
		if string(listed[1].Value) != "bbbb" {
			s.Fatal("appending to one value changed the next one")
		}
	}},
	{"the arguments are left alone", func(s *store) {
		writes := []byok.Item{item("p", "b", 0, "x"), item("p", "a", 0, "y")}
		s.write(writes...)
		s.conflict(writes...)
		for i, w := range []byok.Item{item("p", "b", 0, "x"), item("p", "a", 0, "y")} {
			if writes[i].Ref != w.Ref || writes[i].Revision != w.Revision || !bytes.Equal(writes[i].Value, w.Value) {
				s.Fatalf("Apply changed the caller's items: %q at %d", writes[i].Ref, writes[i].Revision)
			}
		}
	}},
}
