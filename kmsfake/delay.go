package kmsfake

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// Delay is how long something takes: always the same, or drawn anew for each
// call. Its zero value is no time at all. As text, in JSON too, it is "10ms",
// "uniform 5ms 20ms", "exponential 10ms" or "lognormal 10ms 80ms".
type Delay struct {
	kind delayKind
	a, b time.Duration
}

type delayKind uint8

const (
	fixed delayKind = iota
	uniform
	exponential
	logNormal
)

// Fixed is d, each time.
func Fixed(d time.Duration) Delay { return Delay{fixed, d, 0} }

// Uniform is anything from min up to max, equally likely.
func Uniform(min, max time.Duration) Delay { return Delay{uniform, min, max} }

// Exponential is memoryless, with a median of p50: p99 is 6.6 times as long.
func Exponential(p50 time.Duration) Delay { return Delay{exponential, p50, 0} }

// LogNormal is what latencies of services look like: half of them take p50 or
// less, and one in a hundred takes p99 or more.
func LogNormal(p50, p99 time.Duration) Delay { return Delay{logNormal, p50, p99} }

// maxDelay is far out in any tail: what is longer is cut off there.
const maxDelay = time.Hour

func (d Delay) isZero() bool { return d == Delay{} }

func (d Delay) check() error {
	bad := d.a < 0 || d.b < 0 || d.a > maxDelay || d.b > maxDelay
	switch d.kind {
	case uniform:
		bad = bad || d.b < d.a
	case exponential:
		bad = bad || d.a == 0
	case logNormal:
		bad = bad || d.a == 0 || d.b < d.a
	}
	if bad {
		return fmt.Errorf("%v is no delay; they end at %v", d, maxDelay)
	}
	return nil
}

// z99 is where a standard normal variable has 99 % below it.
const z99 = 2.3263478740408408

func (d Delay) draw(r *rand.Rand) time.Duration {
	v := float64(d.a)
	switch d.kind {
	case uniform:
		v += r.Float64() * float64(d.b-d.a)
	case exponential:
		v *= r.ExpFloat64() / math.Ln2
	case logNormal:
		sigma := math.Log(float64(d.b)/float64(d.a)) / z99
		v *= math.Exp(sigma * r.NormFloat64())
	}
	return time.Duration(min(v, float64(maxDelay)))
}

var delayNames = [...]string{fixed: "fixed", uniform: "uniform", exponential: "exponential", logNormal: "lognormal"}

// String is the form that UnmarshalText reads.
func (d Delay) String() string {
	switch d.kind {
	case fixed:
		return d.a.String()
	case exponential:
		return delayNames[d.kind] + " " + d.a.String()
	}
	return delayNames[d.kind] + " " + d.a.String() + " " + d.b.String()
}

// MarshalText is String.
func (d Delay) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what String writes; "fixed 10ms" is "10ms", "" is none.
func (d *Delay) UnmarshalText(text []byte) error {
	bad := fmt.Errorf("%.100q is no delay: give 10ms, uniform 5ms 20ms, exponential 10ms, or lognormal 10ms 80ms", text)
	words := strings.Fields(string(text))
	if len(words) == 0 {
		*d = Delay{}
		return nil
	}
	var out Delay
	numbers := words
	for kind, name := range delayNames {
		if words[0] == name {
			out.kind, numbers = delayKind(kind), words[1:]
		}
	}
	want := 1
	if out.kind == uniform || out.kind == logNormal {
		want = 2
	}
	if len(numbers) != want {
		return bad
	}
	for i, number := range numbers {
		v, err := time.ParseDuration(number)
		if err != nil {
			return bad
		}
		*[]*time.Duration{&out.a, &out.b}[i] = v
	}
	if err := out.check(); err != nil {
		return err
	}
	*d = out
	return nil
}
