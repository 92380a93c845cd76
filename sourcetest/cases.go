package sourcetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/byok-go/byok"
)

var cases = []testCase{
	{name: "no records", run: func(p *place) {
		if page := p.page("", "", 10); len(page) != 0 {
			p.Fatalf("a place without records has %d", len(page))
		}
		if done := p.replace(nil); len(done) != 0 {
			p.Fatalf("Replace of nothing tells of %d", len(done))
		}
	}},
	{name: "paging", run: paging},
	{name: "behind a key that is gone", run: func(p *place) {
		p.fill(20)
		all := p.all("", "", 100)
		for _, i := range []int{0, 7, 19} {
			if err := p.Delete(all[i].Key); err != nil {
				p.Fatalf("Delete: %v", err)
			}
			sameKeys(p, fmt.Sprintf("after the deleted %q", all[i].Key), p.all(all[i].Key, "", 3), all[i+1:])
		}
		sameKeys(p, "up to a deleted key", p.all("", all[7].Key, 3), all[1:7])
	}},
	{name: "shards", run: shards},
	{name: "count", run: func(p *place) {
		counter, ok := p.counter()
		if !ok {
			return
		}
		for _, n := range []int{0, 37} {
			p.fill(n)
			if got, err := counter.Count(p.ctx); err != nil || got < int64(n)/2 || got > int64(n)*2 {
				p.Fatalf("Count of %d records is %d: %v", n, got, err)
			}
		}
	}},
	{name: "what it says of a record", run: func(p *place) {
		p.fill(3)
		for _, r := range p.all("", "", 10) {
			if purpose, aad := p.Same(r.Key); r.Purpose != purpose || !bytes.Equal(r.AAD, aad) || r.Clear {
				p.Fatalf("%q has purpose %q and AAD %q, in clear: %t; want %q, %q, false", r.Key, r.Purpose, r.AAD, r.Clear, purpose, aad)
			}
		}
	}},
	{name: "values", run: func(p *place) {
		binary := make([]byte, 256)
		for i := range binary {
			binary[i] = byte(i)
		}
		for i, v := range []string{"x", string(binary), strings.Repeat(string(binary), 1000), "'; DROP TABLE records; --", "\xff\xfe", "\n"} {
			p.put(0, v, false)
			r := p.page("", "", 10)
			if len(r) != 1 || string(r[0].Value) != v {
				p.Fatalf("value %d came back otherwise", i)
			}
			if done := p.replace(r, v+v); !done[0] {
				p.Fatalf("value %d was not replaced", i)
			}
			p.want(0, v+v, false)
		}
	}},
	{name: "replaced", run: func(p *place) {
		p.fill(30)
		all := p.all("", "", 100)
		some := all[5:25]
		for _, done := range p.replace(some, sealedBy("A", some)...) {
			if !done {
				p.Fatalf("a record that nobody else has touched was not replaced")
			}
		}
		byKey := map[string]string{}
		for i, r := range all {
			byKey[r.Key] = string(r.Value)
			if i >= 5 && i < 25 {
				byKey[r.Key] = "A:" + byKey[r.Key]
			}
		}
		for i := range 30 {
			p.want(i, byKey[p.Key(i)], false)
		}
		for _, r := range p.all("", "", 7) {
			if string(r.Value) != byKey[r.Key] || r.Clear {
				p.Fatalf("Records says %s of %q", brief(r.Value), r.Key)
			}
		}
		// What was read before is not there any more.
		for _, done := range p.replace(some, sealedBy("B", some)...) {
			if done {
				p.Fatalf("a record was replaced that is not as it was read")
			}
		}
		for i := range 30 {
			p.want(i, byKey[p.Key(i)], false)
		}
	}},
	{name: "a write of the platform's stays", run: func(p *place) {
		p.fill(10)
		all := p.all("", "", 100)
		at := func(i int) int {
			return slices.IndexFunc(all, func(r byok.Record) bool { return r.Key == p.Key(i) })
		}
		p.put(3, "newer", false)
		p.put(8, "value 8, and more", false)
		if err := p.Delete(p.Key(5)); err != nil {
			p.Fatalf("Delete: %v", err)
		}
		for i, done := range p.replace(all, sealedBy("A", all)...) {
			if want := i != at(3) && i != at(8) && i != at(5); done != want {
				p.Fatalf("%q: done is %t, want %t", all[i].Key, done, want)
			}
		}
		p.want(3, "newer", false)
		p.want(8, "value 8, and more", false)
		p.want(4, "A:value 4", false)
		if _, _, err := p.Get(p.Key(5)); err == nil {
			p.Fatalf("a record that was deleted is there again")
		}
	}},
	{name: "what is given stays the caller's", run: func(p *place) {
		p.fill(2)
		r := p.page("", "", 10)
		clear(r[0].Value)
		sealed := [][]byte{[]byte("A"), []byte("B")}
		fresh := p.page("", "", 10)
		if string(fresh[0].Value) == string(r[0].Value) {
			p.Fatalf("what Records returned is shared")
		}
		if _, err := p.src.Replace(p.ctx, fresh, sealed); err != nil {
			p.Fatalf("Replace: %v", err)
		}
		clear(sealed[0])
		clear(sealed[1])
		for i, r := range p.page("", "", 10) {
			if string(r.Value) != string("AB"[i]) {
				p.Fatalf("what Replace was given is shared: %q", r.Value)
			}
		}
	}},
	{name: "adopted", clear: true, run: adopted},
	{name: "adopted meanwhile", clear: true, run: func(p *place) {
		for i := range 4 {
			p.put(i, fmt.Sprint(secret, i), true)
		}
		all := p.all("", "", 10)
		p.put(0, "sealed by the platform", false)
		p.put(1, fmt.Sprint(secret, 1), false) // the same bytes, and they are no longer in clear
		p.put(2, secret+" another", true)
		done := p.replace(all, sealedBy("A", all)...)
		for i, r := range all {
			if want := r.Key == p.Key(3); done[i] != want {
				p.Fatalf("%q: done is %t, want %t", r.Key, done[i], want)
			}
		}
		p.want(0, "sealed by the platform", false)
		p.want(2, secret+" another", true)
		p.want(1, fmt.Sprint(secret, 1), false)
		p.want(3, "A:"+fmt.Sprint(secret, 3), false)
	}},
	{name: "two at once", run: twoAtOnce},
	{name: "live writers", run: liveWriters},
	{name: "paging while others write", run: pagingWhileWriting},
	{name: "ctx is done", run: func(p *place) {
		p.put(0, secret, !p.SealedOnly)
		r := p.page("", "", 10)
		ctx, cancel := context.WithCancel(p.ctx)
		cancel()
		p.soon("Records", func() {
			_, err := p.src.Records(ctx, "", "", 10)
			p.hygienic("Records, whose ctx is done", err)
		})
		p.soon("Replace", func() {
			_, err := p.src.Replace(ctx, r, [][]byte{[]byte("A")})
			p.hygienic("Replace, whose ctx is done", err)
		})
		if v, _, err := p.Get(p.Key(0)); err != nil || string(v) != secret && string(v) != "A" {
			p.Fatalf("after an interrupted Replace there is %s: %v", brief(v), err)
		}
	}},
	{name: "an outage", breaks: true, run: func(p *place) {
		p.put(0, secret, !p.SealedOnly)
		r := p.page("", "", 10)
		p.Break()
		_, err := p.src.Records(p.ctx, "", "", 10)
		p.hygienic("Records in an outage", err)
		_, err = p.src.Replace(p.ctx, r, [][]byte{[]byte("A")})
		p.hygienic("Replace in an outage", err)
		if s, ok := p.splitter(); ok {
			_, err = s.Split(p.ctx, 2)
			p.hygienic("Split in an outage", err)
		}
		if c, ok := p.counter(); ok {
			_, err = c.Count(p.ctx)
			p.hygienic("Count in an outage", err)
		}
	}},
	{name: "objects whole or not at all", run: wholeObjects},
}

func (p *place) splitter() (byok.Splitter, bool) {
	var of any = p.Source
	if p.Objects != nil {
		of = p.Objects
	}
	s, ok := of.(byok.Splitter)
	return s, ok
}

func (p *place) counter() (byok.Counter, bool) {
	var of any = p.Source
	if p.Objects != nil {
		of = p.Objects
	}
	c, ok := of.(byok.Counter)
	return c, ok
}

// sealedBy is what takes the place of records: who did it, and what was there.
func sealedBy(who string, records []byok.Record) (out []string) {
	for _, r := range records {
		out = append(out, who+":"+string(r.Value))
	}
	return out
}

func sameKeys(p *place, what string, got, want []byok.Record) {
	p.Helper()
	keys := func(of []byok.Record) (out []string) {
		for _, r := range of {
			out = append(out, r.Key)
		}
		return out
	}
	if g, w := keys(got), keys(want); !slices.Equal(g, w) {
		p.Fatalf("%s there are %q, want %q", what, g, w)
	}
}

// paging: every way of reading gives the same order, and a range is exactly that part of it.
func paging(p *place) {
	const n = 30
	p.fill(n)
	all := p.all("", "", 1000)
	if len(all) != n {
		p.Fatalf("%d records of %d", len(all), n)
	}
	for i := range n {
		if !slices.ContainsFunc(all, func(r byok.Record) bool { return r.Key == p.Key(i) && string(r.Value) == fmt.Sprint("value ", i) }) {
			p.Fatalf("%q is not there", p.Key(i))
		}
	}
	for _, limit := range []int{1, 2, 10, n - 1, n, n + 1} {
		sameKeys(p, fmt.Sprintf("in pages of %d", limit), p.all("", "", limit), all)
	}
	for _, r := range [][2]int{{-1, 0}, {-1, n - 1}, {0, 0}, {0, 1}, {3, 20}, {n - 2, n - 1}, {n - 1, n - 1}, {20, 3}} {
		after, last := "", all[r[1]].Key
		if r[0] >= 0 {
			after = all[r[0]].Key
		}
		sameKeys(p, fmt.Sprintf("after %q up to %q", after, last), p.all(after, last, 4), all[min(r[0]+1, r[1]+1):r[1]+1])
	}
}

// shards: they have all records, each once, in the order in which Records has them.
func shards(p *place) {
	s, ok := p.splitter()
	if !ok {
		return
	}
	for _, n := range []int{0, 1, 5, 80} {
		p.fill(n)
		all := p.all("", "", 1000)
		for _, of := range []int{1, 2, 7} {
			lasts, err := s.Split(p.ctx, of)
			if err != nil || len(lasts) > of-1 {
				p.Fatalf("Split into %d of %d records: %d keys, %v", of, n, len(lasts), err)
			}
			var got []byok.Record
			after := ""
			for _, last := range append(slices.Clone(lasts), "") {
				shard := p.all(after, last, 50)
				if n >= 10*of && (len(lasts) != of-1 || len(shard) < n/of/4 || len(shard) > 4*n/of) {
					p.Fatalf("of %d records in %d shards, one has %d", n, len(lasts)+1, len(shard))
				}
				got, after = append(got, shard...), last
			}
			sameKeys(p, fmt.Sprintf("in %d shards", of), got, all)
		}
	}
}

// adopted: the value, its mark, and that nothing in clear is left, are one step.
func adopted(p *place) {
	for i := range 12 {
		p.put(i, fmt.Sprint(secret, i), i%2 == 0)
	}
	all := p.all("", "", 5)
	for _, r := range all {
		if odd := !slices.ContainsFunc([]int{0, 2, 4, 6, 8, 10}, func(i int) bool { return p.Key(i) == r.Key }); r.Clear == odd {
			p.Fatalf("%q is in clear: %t", r.Key, r.Clear)
		}
	}
	for i, done := range p.replace(all, sealedBy("A", all)...) {
		if !done {
			p.Fatalf("%q was not replaced", all[i].Key)
		}
	}
	for i := range 12 {
		p.want(i, fmt.Sprint("A:", secret, i), false)
	}
	for _, r := range p.all("", "", 5) {
		if r.Clear {
			p.Fatalf("%q is still in clear", r.Key)
		}
	}
	for i, done := range p.replace(all, sealedBy("B", all)...) {
		if done {
			p.Fatalf("%q was replaced as if it still were in clear", all[i].Key)
		}
	}
}

// wholeObjects: what the writer of an object returns is what happens.
func wholeObjects(p *place) {
	if p.Objects == nil {
		return
	}
	p.put(0, "old", false)
	o, err := p.Objects.Objects(p.ctx, "", "", 1)
	if err != nil || len(o) != 1 {
		p.Fatalf("Objects: %d, %v", len(o), err)
	}
	stop := fmt.Errorf("no more")
	done, err := p.Objects.Replace(p.ctx, o[0], func(w io.Writer) error {
		if _, err := w.Write(make([]byte, 100_000)); err != nil {
			return err
		}
		p.want(0, "old", false) // while it is being written
		return stop
	})
	if done || err != stop {
		p.Fatalf("Replace whose writer fails: %t, %v", done, err)
	}
	p.want(0, "old", false)
	sameKeys(p, "after a writer failed", p.all("", "", 10), []byok.Record{{Key: p.Key(0)}})
	if err := p.Delete(p.Key(0)); err != nil {
		p.Fatalf("Delete: %v", err)
	}
	r, err := p.Objects.Open(p.ctx, o[0])
	if err == nil {
		_, err = io.ReadAll(r)
		_ = r.Close()
	}
	if err == nil {
		p.Fatalf("an object that is gone can be read")
	}
}
