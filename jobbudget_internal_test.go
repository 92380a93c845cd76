package byok

import (
	"testing"
	"time"
)

// KMS that throttles makes all jobs of a process slower, step by step and not by each answer, and they become as fast as they were
// when it has stopped.
func TestD9_JobRate(t *testing.T) {
	var r jobRate
	r.init(100)
	now := time.Hour
	// inSecond returns how many requests one second sees, of jobs that ask all the time.
	inSecond := func() (n int) {
		for end := now + time.Second; now < end; {
			wait, ok := r.take(now)
			if !ok {
				t.Fatal("refused")
			}
			if now += wait; now < end {
				n++
			}
		}
		return n
	}
	for range jobBurst {
		_, _ = r.take(now)
	}
	if n := inSecond(); n < 98 || n > 101 {
		t.Fatalf("%d requests in a second", n)
	}
	for range 20 { // answers to requests that were under way together
		r.throttled(now)
	}
	inSecond() // with what is left of the burst
	if n := inSecond(); n < 48 || n > 51 {
		t.Errorf("%d requests in a second after KMS has throttled once", n)
	}
	for range 20 {
		now += time.Second
		r.throttled(now)
	}
	inSecond()
	if n := inSecond(); n < 1 || n > 2 {
		t.Errorf("%d requests in a second when KMS throttles all the time", n)
	}
	if now += jobFaster; inSecond() > 5+jobBurst {
		t.Error("as fast as before at once")
	}
	now += jobSlowest * jobFaster
	inSecond()
	if n := inSecond(); n < 98 || n > 101 {
		t.Errorf("%d requests in a second long after that", n)
	}
}
