package byok

import (
	"reflect"
	"runtime"
	"sync"
	"testing"
)

// Cores that hold a tenant's lock for reading share no cache line, which is what lanes are for.
func TestLanesAreCacheLines(t *testing.T) {
	if n := reflect.TypeFor[lane]().Size(); n != cacheLine {
		t.Errorf("a lane has %d bytes", n)
	}
	mu, _ := reflect.TypeFor[tenantCache]().FieldByName("mu")
	if mu.Offset != 0 || mu.Type != reflect.TypeFor[lanes]() {
		t.Errorf("the tenant's lanes are at offset %d: they have no cache lines of their own", mu.Offset)
	}
	seen := map[int]bool{}
	for range laneCount {
		seen[nextLane()] = true
	}
	if len(seen) != laneCount {
		t.Errorf("as many operations as lanes use %d of them", len(seen))
	}
}

// A writer is alone, whichever lanes the readers are in.
func TestLanesExclude(t *testing.T) {
	var mu lanes
	var wg sync.WaitGroup
	n, inside := 0, [laneCount]int{}
	for i := range laneCount {
		wg.Go(func() {
			for range 1000 {
				mu[i].RLock()
				inside[i] = n
				mu[i].RUnlock()
				mu.Lock()
				if n++; n < inside[i] {
					t.Error("it went back")
				}
				mu.Unlock()
			}
		})
		wg.Go(func() {
			for range 1000 {
				mu.RLock()
				_ = n
				mu.RUnlock()
			}
		})
	}
	wg.Wait()
	if n != 1000*laneCount {
		t.Errorf("%d of %d writes: two writers at once", n, 1000*laneCount)
	}
	for i := range mu {
		mu[i].RLock()
		if mu[i].TryLock() {
			t.Errorf("lane %d: read and written at once", i)
		}
		written := make(chan struct{})
		go func() { mu.Lock(); close(written); mu.Unlock() }()
		for range 100 {
			select {
			case <-written:
				t.Fatalf("a writer does not wait for readers in lane %d", i)
			default:
				runtime.Gosched()
			}
		}
		mu[i].RUnlock()
		<-written
	}
}

// Nor does Wipe take the key away from anybody in any lane.
func TestWipeWaitsInEachLane(t *testing.T) {
	for i := range laneCount {
		dek, err := NewDEK(make([]byte, dekSize))
		if err != nil {
			t.Fatal(err)
		}
		wiped := make(chan struct{})
		err = dek.lend(userFunc(func([]byte) error {
			go func() { dek.Wipe(); close(wiped) }()
			for range 100 {
				select {
				case <-wiped:
					t.Errorf("wiped while it was lent in lane %d", i)
				default:
					runtime.Gosched()
				}
			}
			return nil
		}), i)
		if err != nil {
			t.Fatal(err)
		}
		<-wiped
	}
}
