package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/byok-go/byok"
)

// How often people are told.
const (
	redrawEvery = 500 * time.Millisecond // on a terminal
	tellEvery   = 10 * time.Second       // elsewhere: a line of a log
)

// display shows how far a job is: on a terminal as one line that is drawn anew, elsewhere as a line now and then. What else is to be said is
// said above that line. It is safe for concurrent use.
type display struct {
	mu    sync.Mutex
	out   io.Writer
	width func() int // of the terminal; nil: there is none
	style style
	now   func() time.Time

	drawn  string        // the line that stands there
	job    byok.Job      // as it was told last
	told   time.Time     // the last line of a log
	state  byok.JobState // in it
	logged string
	since  time.Time // of pace
	from   int64
}

// newDisplay looks at what out is.
func newDisplay(out io.Writer) *display {
	d := &display{out: out, now: time.Now}
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		d.style.ascii, d.style.noBar = true, true // whoever reads a log later has a locale of his own
		return d
	}
	d.width = func() int {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
		return 80
	}
	d.style = style{ascii: !isUTF8(os.Getenv), color: os.Getenv("NO_COLOR") == ""}
	return d
}

// isUTF8 reports whether the locale says so.
func isUTF8(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := env(name); v != "" {
			v = strings.ToUpper(v)
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// show tells of a job as it is now.
func (d *display) show(j byok.Job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.job = d.pace(j)
	if d.width != nil {
		d.draw()
		return
	}
	if now := d.now(); j.State != d.state || now.Sub(d.told) >= tellEvery {
		d.told, d.state = now, j.State
		d.log()
	}
}

// pace is the rate as it is seen here, since the job began to be shown or went on, where the job itself knows none: of a move, and in the beginning.
func (d *display) pace(j byok.Job) byok.Job {
	done, _ := counts(j)
	if j.State != byok.JobRunning || d.since.IsZero() || done < d.from {
		d.since, d.from = d.now(), done
	}
	if passed := d.now().Sub(d.since); j.State == byok.JobRunning && j.Rate == 0 && passed > time.Second && done > d.from {
		j.Rate = float64(done-d.from) / passed.Seconds()
		j.ETA = time.Duration(float64(j.Left) / j.Rate * float64(time.Second)).Round(time.Second)
	}
	return j
}

// log writes the line into a log, if it is not the one before.
func (d *display) log() {
	if text := line(d.job, 1000, d.style); text != d.logged {
		d.logged = text
		fmt.Fprintln(d.out, text)
	}
}

// draw draws the line where it stands: over what was there, and then to the end of the line, in one write, so that nothing flickers.
func (d *display) draw() {
	text := line(d.job, d.width()-1, d.style) // a full line would wrap on some terminals
	if text == d.drawn {
		return
	}
	d.drawn = text
	_, _ = io.WriteString(d.out, "\r"+text+"\x1b[K")
}

// above runs say with nothing in its way, and draws the line again below.
func (d *display) above(say func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drawn != "" {
		_, _ = io.WriteString(d.out, "\r\x1b[K")
		d.drawn = ""
		defer d.draw()
	}
	say()
}

// end leaves the last line where it is.
func (d *display) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drawn != "" {
		_, _ = io.WriteString(d.out, "\n")
		d.drawn = ""
	} else if d.width == nil && d.job.ID != "" {
		d.log()
	}
}

// logs is where a Keeper's log goes while there is a display.
type logs struct {
	d *display
	w io.Writer
}

func (l logs) Write(p []byte) (n int, err error) {
	l.d.above(func() { n, err = l.w.Write(p) })
	return n, err
}
