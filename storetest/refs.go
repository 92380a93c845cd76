package storetest

import (
	"slices"
	"strings"

	"github.com/byok-go/byok"
)

// everyByte is all that a Ref may be made of.
var everyByte = func() (b []byte) {
	for c := byte(0x21); c <= 0x7e; c++ {
		b = append(b, c)
	}
	return b
}()

// oddNames look like something else to SQL, patterns, paths, numbers or URLs.
var oddNames = []string{
	`'`, `''`, `"`, "`", `\`, `\'`, `--`, `;`, `%`, `_`, `*`, `?`, `[a-z]`, `$1`, `?1`, `:a`, `@a`, `{}`, `%s`, `%27`, `%00`,
	`';DROP/**/TABLE/**/byok_items;--`, `x'/**/OR/**/'1'='1`, `1);DELETE/**/FROM/**/byok_items;--`, `$(id)`, "`id`", `${HOME}`,
	`.`, `..`, `../../etc/passwd`, `/`, `//`, `a/b`, `C:\x`, `NUL`, `null`, `NULL`, `true`, `NaN`, `0`, `00`, `1`, `01`, `1.0`, `1e0`, `0x1`, `-1`, `+1`,
	`#`, `##`, `a#b`, `a:b`, `a|b`, `a,b`, `a=b`, `&amp;`, `<script>`, `a`, `A`, `aa`, `Aa`, `aA`, `AA`,
}

var refCases = []storeCase{
	{"partitions keep items apart", func(s *store) {
		s.write(item("p", "i", 0, "x"), item("q", "i", 0, "y"))
		s.write(item("q", "i", 1, "z"))
		s.want("p", "i", 1, "x")
		s.want("q", "i", 2, "z")
	}},
	{"partition and id do not run together", func(s *store) {
		refs := [][2]string{{"a", "bc"}, {"ab", "c"}, {"a/b", "c"}, {"a", "b/c"}, {"a:", "b"}, {"a", ":b"}, {"a#b", "c"}, {"a", "b#c"}, {"i", "p"}, {"p", "i"}}
		for i, r := range refs {
			s.write(item(r[0], r[1], 0, string(rune('a'+i))))
		}
		for i, r := range refs {
			s.want(r[0], r[1], 1, string(rune('a'+i)))
		}
	}},
	{"every byte of an id", func(s *store) {
		want := make([]byok.Item, len(everyByte))
		for i, c := range slices.Backward(everyByte) { // not written in order
			s.write(item("p", string(c), 0, "is "+string(c)))
			want[i] = item("p", string(c), 1, "is "+string(c))
		}
		for _, c := range everyByte {
			s.want("p", string(c), 1, "is "+string(c))
		}
		s.wantList("p", "", byok.MaxListLimit, want...)
	}},
	{"every byte of a partition", func(s *store) {
		for _, c := range everyByte {
			s.write(item(string(c), "i", 0, "is "+string(c)))
		}
		for _, c := range everyByte {
			s.want(string(c), "i", 1, "is "+string(c))
			s.wantList(string(c), "", 2, item(string(c), "i", 1, "is "+string(c)))
		}
	}},
	{"all bytes in one name", func(s *store) {
		s.write(item(string(everyByte), string(everyByte), 0, "x"))
		s.want(string(everyByte), string(everyByte), 1, "x")
	}},
	{"upper and lower case are different", func(s *store) {
		for i, n := range []string{"name", "NAME", "Name", "nAME"} {
			s.write(item("p", n, 0, n), item("p"+n, "i", 0, n))
			for range i {
				s.missing("P", n)
			}
		}
		s.want("p", "Name", 1, "Name")
		s.want("pNAME", "i", 1, "NAME")
	}},
	{"odd names are only names", func(s *store) {
		for i, n := range oddNames {
			s.missing(n, n)
			s.write(item(n, n, 0, n), item("p", n, 0, n))
			if i%2 == 0 {
				s.write(item(n, n, 1, n+"!"))
			}
		}
		for i, n := range oddNames {
			s.want("p", n, 1, n)
			rev, value := uint64(1), n
			if i%2 == 0 {
				rev, value = 2, n+"!"
			}
			s.want(n, n, rev, value)
			s.wantList(n, "", 10, item(n, n, rev, value))
		}
		got, err := s.List(s.ctx, "p", "", byok.MaxListLimit)
		if err != nil || len(got) != len(oddNames) {
			s.Fatalf("%d of %d odd names are listed: %v", len(got), len(oddNames), err)
		}
	}},
	{"names of 255 bytes", func(s *store) {
		long := strings.Repeat("n", byok.MaxRefPart-1)
		a, b := long+"a", long+"b"
		s.write(item(a, a, 0, "aa"), item(a, b, 0, "ab"), item(b, a, 0, "ba"))
		s.want(a, a, 1, "aa")
		s.want(a, b, 1, "ab")
		s.want(b, a, 1, "ba")
		s.missing(b, b)
		s.wantList(a, a, 10, item(a, b, 1, "ab"))
	}},
	{"names of 256 bytes and empty ones are refused", func(s *store) {
		for _, bad := range []string{"", strings.Repeat("n", byok.MaxRefPart+1), strings.Repeat("n", 1<<16)} {
			s.refusedName(bad)
		}
	}},
	{"bytes outside 0x21..0x7e are refused", func(s *store) {
		for c := range 256 {
			if slices.Contains(everyByte, byte(c)) {
				continue
			}
			s.refusedName(string([]byte{byte(c)}))
			s.refusedName(string([]byte{'a', byte(c), 'b'}))
		}
		s.refusedName("é")
	}},
}

func (s *store) refusedName(name string) {
	s.Helper()
	s.refused("a bad id", item("p", name, 0, "x"))
	s.refused("a bad partition", item(name, "i", 0, "x"))
	_, err := s.Get(s.ctx, byok.Ref{Partition: "p", ID: name})
	s.argument("Get of a bad id", err)
	_, err = s.Get(s.ctx, byok.Ref{Partition: name, ID: "i"})
	s.argument("Get in a bad partition", err)
	_, err = s.List(s.ctx, name, "", 1)
	s.argument("List of a bad partition", err)
}
