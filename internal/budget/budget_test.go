package budget

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBucket(t *testing.T) {
	b := Bucket{Every: 50 * time.Millisecond, Burst: 20}
	now := time.Hour
	for i := range 20 {
		if left := b.Left(now); left != 20-i {
			t.Fatalf("%d left before token %d", left, i)
		}
		if _, ok := b.Take(now, 0); !ok {
			t.Fatalf("token %d of the burst is refused", i)
		}
	}
	wait, ok := b.Take(now, 0)
	if ok || wait != 50*time.Millisecond {
		t.Fatalf("over the burst: %v, wait %v", ok, wait)
	}
	if wait, ok = b.Take(now+30*time.Millisecond, 0); ok || wait != 20*time.Millisecond {
		t.Fatalf("too early: %v, wait %v", ok, wait)
	}
	if _, ok = b.Take(now+50*time.Millisecond, 0); !ok {
		t.Fatal("not after the wait that it told")
	}
	if left := b.Left(now + time.Hour); left != 20 {
		t.Errorf("%d after an hour: it holds no more than its burst", left)
	}
	if _, ok := new(Bucket).Take(now, time.Hour); ok || new(Bucket).Left(now) != 0 {
		t.Error("the zero Bucket gives")
	}
}

// Whatever is asked and when, no window of any length sees more than the burst and
// the rate; and who waits as long as told is served.
func TestNeverOverTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Bucket{
			Every: time.Duration(rapid.Int64Range(1, int64(time.Second)).Draw(t, "every")),
			Burst: rapid.IntRange(1, 20).Draw(t, "burst"),
		}
		var now time.Duration
		var taken []time.Duration
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now += time.Duration(rapid.Int64Range(0, int64(3*b.Every)).Draw(t, "passes"))
			patience := time.Duration(rapid.Int64Range(0, int64(3*b.Every)).Draw(t, "patience"))
			left := b.Left(now)
			if reserve := rapid.IntRange(-1, b.Burst+1).Draw(t, "reserve"); reserve >= 0 {
				wait, ok := b.TakeSpare(now, reserve)
				switch {
				case ok != (left > reserve), ok && b.Left(now) < reserve:
					t.Fatalf("TakeSpare beside %d: %v with %d left, and then %d", reserve, ok, left, b.Left(now))
				case ok:
					taken = append(taken, now)
				case reserve < b.Burst:
					later := b
					if _, ok := later.TakeSpare(now+wait, reserve); !ok {
						t.Fatalf("refused after the wait of %v", wait)
					}
				}
				continue
			}
			wait, ok := b.Take(now, patience)
			if (ok && wait == 0) != (left > 0) {
				t.Fatalf("Take = %v, %v with %d left", wait, ok, left)
			}
			if !ok {
				if wait <= patience {
					t.Fatalf("refused, and told to wait %v", wait)
				}
				later := b
				if _, ok := later.Take(now+wait, 0); !ok {
					t.Fatalf("refused after the wait of %v", wait)
				}
				continue
			}
			if wait < 0 || wait > patience {
				t.Fatalf("made to wait %v, with patience for %v", wait, patience)
			}
			taken = append(taken, now+wait)
		}
		if !slices.IsSorted(taken) {
			t.Fatalf("who came first goes first: %v", taken)
		}
		for i := range taken {
			for j := i; j < len(taken); j++ {
				if n, window := j-i+1, taken[j]-taken[i]; n > b.Burst+int(window/b.Every) {
					t.Fatalf("%d in %v: burst %d, one every %v", n, window, b.Burst, b.Every)
				}
			}
		}
	})
}
