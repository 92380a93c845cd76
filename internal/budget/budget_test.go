package budget

import (
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
		if _, ok := b.Take(now); !ok {
			t.Fatalf("token %d of the burst is refused", i)
		}
	}
	wait, ok := b.Take(now)
	if ok || wait != 50*time.Millisecond {
		t.Fatalf("over the burst: %v, wait %v", ok, wait)
	}
	if wait, ok = b.Take(now + 30*time.Millisecond); ok || wait != 20*time.Millisecond {
		t.Fatalf("too early: %v, wait %v", ok, wait)
	}
	if _, ok = b.Take(now + 50*time.Millisecond); !ok {
		t.Fatal("not after the wait that it told")
	}
	if left := b.Left(now + time.Hour); left != 20 {
		t.Errorf("%d after an hour: it holds no more than its burst", left)
	}
	if _, ok := new(Bucket).Take(now); ok || new(Bucket).Left(now) != 0 {
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
			left := b.Left(now)
			wait, ok := b.Take(now)
			if ok != (left > 0) {
				t.Fatalf("Take = %v with %d left", ok, left)
			}
			if !ok {
				if wait <= 0 {
					t.Fatalf("refused, and told to wait %v", wait)
				}
				later := b
				if _, ok := later.Take(now + wait); !ok {
					t.Fatalf("refused after the wait of %v", wait)
				}
				continue
			}
			taken = append(taken, now)
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
