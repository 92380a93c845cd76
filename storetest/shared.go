package storetest

import (
	"fmt"
	"io"

	"github.com/byok-go/byok"
)

type sharedStoreCase struct {
	name string
	run  func(t tb, open func() *store)
}

var sharedStoreCases = []sharedStoreCase{
	{"what was written is there after reopening", func(t tb, open func() *store) {
		s := open()
		ids := seed(s, 4*byok.MaxApplyWrites)
		s.write(item("p", ids[0], 1, noise(byok.MaxItemValue)))
		s.write(item(string(everyByte), string(everyByte), 0, "\x00\xff"))
		shut(t, s)

		s = open()
		s.want("p", ids[0], 2, noise(byok.MaxItemValue))
		s.want(string(everyByte), string(everyByte), 1, "\x00\xff")
		if got := walk(s, 30, nil); len(got) != len(ids) {
			t.Fatalf("%d of %d items are there after reopening", len(got), len(ids))
		}
		s.conflict(item("p", ids[0], 1, "x")) // revisions go on, and are not made anew
		s.write(item("p", ids[0], 2, "x"))
	}},
	{"reopening again and again", func(t tb, open func() *store) {
		for rev := range uint64(6) {
			s := open()
			s.write(item("p", "i", rev, "x"))
			shut(t, s)
		}
		open().want("p", "i", 6, "x")
	}},
	{"a second handle sees each write at once", func(t tb, open func() *store) {
		a, b := open(), open()
		for rev := uint64(0); rev < 60; rev += 2 {
			a.write(item("p", "i", rev, fmt.Sprint(rev)))
			b.want("p", "i", rev+1, fmt.Sprint(rev))
			b.wantList("p", "", 5, item("p", "i", rev+1, fmt.Sprint(rev)))
			a.want("p", "i", rev+1, fmt.Sprint(rev))
			b.write(item("p", "i", rev+1, "from b"))
			a.want("p", "i", rev+2, "from b")
			b.want("p", "i", rev+2, "from b")
			a.conflict(item("p", "i", rev+1, "stale"))
		}
	}},
	{"handles increment one counter", func(t tb, open func() *store) {
		handles := []*store{open(), open(), open(), open()}
		count(handles[0], 16, 8, func(i int) byok.Store { return handles[i%4].Store })
	}},
	{"handles create one item", func(t tb, open func() *store) {
		handles := []*store{open(), open(), open(), open()}
		create(handles[0], racers, func(i int) byok.Store { return handles[i%4].Store })
	}},
}

// shut closes a handle that can be closed, as the end of its process would.
func shut(t tb, s any) {
	t.Helper()
	if h, ok := s.(*store); ok {
		s = h.Store
	}
	if c, ok := s.(io.Closer); ok {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
