package sourcetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/byok-go/byok"
)

// parallel runs f(0) to f(n-1) at the same time, and fails with their first error.
func (p *place) parallel(n int, f func(i int) error) {
	p.Helper()
	start, errs := make(chan struct{}), make(chan error, n)
	for i := range n {
		go func() {
			<-start
			errs <- f(i)
		}()
	}
	close(start)
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		p.Fatalf("%v", first)
	}
}

// twoAtOnce: of several that replace the same record at once, at most one is told that it has, and what is there is that one's. One
// that finds the record in the hands of another may be told no, and so may all, if each found it so.
func twoAtOnce(p *place) {
	const n = 10
	for round := range 5 {
		p.fill(n)
		all := p.all("", "", 100)
		var mu sync.Mutex
		winners := map[string][]string{}
		p.parallel(4, func(i int) error {
			who := fmt.Sprint("replacer", i)
			mine := slices.Clone(all)
			if i%2 == 1 {
				slices.Reverse(mine) // in another order
			}
			sealed := make([][]byte, len(mine))
			for k, r := range mine {
				sealed[k] = []byte(who + ":" + string(r.Value))
			}
			done, err := p.src.Replace(p.ctx, mine, sealed)
			if err != nil {
				return fmt.Errorf("Replace: %w", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for k, d := range done {
				if d {
					winners[mine[k].Key] = append(winners[mine[k].Key], who)
				}
			}
			return nil
		})
		for i := range n {
			switch won := winners[p.Key(i)]; len(won) {
			case 0:
				p.want(i, fmt.Sprint("value ", i), false)
			case 1:
				p.want(i, fmt.Sprint(won[0], ":value ", i), false)
			default:
				p.Fatalf("round %d: %q was replaced by %q, from the same", round, p.Key(i), won)
			}
		}
	}
}

// liveWriters: writers write all the time, and each reads back what it has written last: as it is, or sealed. So no write is
// undone, and at no moment does anybody read the wrong thing.
func liveWriters(p *place) {
	const keys, writes = 10, 20
	p.fill(keys)
	// A value that was sealed is "who:value"; nobody but the replacers writes a colon.
	check := func(i int, last string, inClear bool) error {
		got, c, err := p.Get(p.Key(i))
		if err != nil {
			return fmt.Errorf("the place's own Get: %w", err)
		}
		who, value, sealed := strings.Cut(string(got), ":")
		if !sealed {
			value = who
		}
		switch {
		case value != last:
			return fmt.Errorf("%q was written as %s, and is %s", p.Key(i), brief([]byte(last)), brief(got))
		case c != (inClear && !sealed):
			return fmt.Errorf("%q is %s, and marked as in clear: %t", p.Key(i), brief(got), c)
		}
		return nil
	}
	var lasts [keys]string
	var marks [keys]bool
	var replaced, refused atomic.Int64
	var writing atomic.Int64
	writing.Store(keys)
	p.parallel(keys+2, func(i int) error {
		if i >= keys {
			for round := 0; writing.Load() > 0 || round < 3; round++ {
				for after := ""; ; {
					page, err := p.src.Records(p.ctx, after, "", 5)
					if err != nil {
						return fmt.Errorf("Records: %w", err)
					}
					if len(page) == 0 {
						break
					}
					after = page[len(page)-1].Key
					var due []byok.Record
					var sealed [][]byte
					for _, r := range page {
						_, value, was := strings.Cut(string(r.Value), ":")
						if !was {
							value = string(r.Value)
						} else if r.Clear {
							return fmt.Errorf("%q is sealed, and marked as in clear", r.Key)
						}
						due, sealed = append(due, r), append(sealed, fmt.Appendf(nil, "%d.%d:%s", i, round, value))
					}
					done, err := p.src.Replace(p.ctx, due, sealed)
					if err != nil {
						return fmt.Errorf("Replace: %w", err)
					}
					for _, d := range done {
						if d {
							replaced.Add(1)
						} else {
							refused.Add(1)
						}
					}
				}
			}
			return nil
		}
		defer writing.Add(-1)
		for w := range writes {
			inClear := !p.SealedOnly && (w+i)%3 == 0 && p.Objects == nil
			value := fmt.Sprintf("%s %d.%d", secret, i, w)
			if err := p.Put(p.Key(i), []byte(value), inClear); err != nil {
				return fmt.Errorf("the place's own Put: %w", err)
			}
			for range 3 {
				if err := check(i, value, inClear); err != nil {
					return err
				}
				time.Sleep(100 * time.Microsecond) // for who has compared before to write after
			}
			lasts[i], marks[i] = value, inClear
			if w%10 == 9 {
				if err := p.Delete(p.Key(i)); err != nil {
					return fmt.Errorf("the place's own Delete: %w", err)
				}
				if _, _, err := p.Get(p.Key(i)); !errors.Is(err, byok.ErrNotFound) {
					return fmt.Errorf("a record that was deleted is there again: %w", err)
				}
				if err := p.Put(p.Key(i), []byte(value), inClear); err != nil {
					return fmt.Errorf("the place's own Put: %w", err)
				}
			}
		}
		return nil
	})
	for i, last := range lasts {
		if err := check(i, last, marks[i]); err != nil {
			p.Fatalf("in the end: %v", err)
		}
	}
	if replaced.Load() == 0 {
		p.Fatalf("nothing was replaced: this case passes on nothing")
	}
	p.Logf("%d writes, %d records replaced, %d left to their writers", keys*writes, replaced.Load(), refused.Load())
}

// pagingWhileWriting: a record that is there all the while is in each pass, whatever comes and goes around it.
func pagingWhileWriting(p *place) {
	const stay, come = 40, 40
	for i := range stay {
		p.put(2*i, "stays", false)
	}
	var passing atomic.Bool
	passing.Store(true)
	p.parallel(3, func(i int) error {
		if i > 0 {
			for round := 0; passing.Load() || round < 2; round++ {
				for k := i - 1; k < come; k += 2 {
					if err := p.Put(p.Key(2*k+1), []byte("comes and goes"), false); err != nil {
						return fmt.Errorf("the place's own Put: %w", err)
					}
				}
				for k := i - 1; k < come; k += 2 {
					if err := p.Delete(p.Key(2*k + 1)); err != nil {
						return fmt.Errorf("the place's own Delete: %w", err)
					}
				}
			}
			return nil
		}
		defer passing.Store(false)
		for range 5 {
			seen := map[string]bool{}
			for after := ""; ; {
				page, err := p.src.Records(p.ctx, after, "", 7)
				if err != nil {
					return fmt.Errorf("Records: %w", err)
				}
				if len(page) == 0 {
					break
				}
				for _, r := range page {
					if seen[r.Key] {
						return fmt.Errorf("%q was returned twice in one pass", r.Key)
					}
					seen[r.Key] = true
				}
				after = page[len(page)-1].Key
			}
			for i := range stay {
				if !seen[p.Key(2*i)] {
					return fmt.Errorf("%q was there all the while, and not in the pass", p.Key(2*i))
				}
			}
		}
		return nil
	})
}
