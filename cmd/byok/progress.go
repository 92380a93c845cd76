package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/byok-go/byok"
)

// style is how a terminal wants its lines.
type style struct {
	ascii bool // nothing but ASCII
	color bool
	noBar bool // it says nothing that the numbers do not
}

// Colors: what failed, and what waits. They take no room.
const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

// part is a piece of a line.
type part struct {
	text, color string
}

// line tells how far a job is, in at most width columns: the state first, then what is less and less important, as much as
// there is room for. The bar takes what is left, or is left out.
func line(j byok.Job, width int, s style) string {
	parts := []part{{text: head(j)}}
	switch {
	case j.State == byok.JobPaused:
		reason := why(j.Why)
		if width < 60 {
			reason = j.Why
		}
		parts = append(parts, part{"paused: " + reason, yellow})
	case j.State == byok.JobCancelled:
		parts = append(parts, part{"cancelled", yellow})
	case j.State == byok.JobDone:
		parts = append(parts, part{text: "done"})
	case j.State == byok.JobSwitching:
		parts = append(parts, part{text: "switched, cleaning up"})
	case j.State == byok.JobVerifying && j.Again > 0: // it may never end, and a bar that begins again and again does not tell
		parts = append(parts, part{fmt.Sprintf("pass %d: %s due again", j.Pass, number(j.Again, s)), yellow})
	}
	done, total := counts(j)
	if total > 0 {
		parts = append(parts, part{text: percent(done, total)}, part{text: number(done, s) + "/" + number(total, s)})
	} else {
		parts = append(parts, part{text: number(done, s)})
	}
	if j.Failed > 0 {
		parts = append(parts, part{number(j.Failed, s) + " failed", red})
	}
	if !j.State.Ended() && j.Rate > 0 {
		parts = append(parts, part{text: number(int64(j.Rate+0.5), s) + "/s"})
		if j.ETA > 0 {
			parts = append(parts, part{text: "ETA " + duration(j.ETA)})
		}
	}
	const gap = "  "
	used, n := 0, 0
	for ; n < len(parts); n++ {
		more := utf8.RuneCountInString(parts[n].text)
		if n > 0 {
			more += len(gap)
		}
		if used+more > width {
			break
		}
		used += more
	}
	if n == 0 { // not even the first
		return string([]rune(parts[0].text)[:max(0, width)])
	}
	var b strings.Builder
	for i, p := range parts[:n] {
		if i > 0 {
			b.WriteString(gap)
		}
		if p.color != "" && s.color {
			b.WriteString(p.color + p.text + plain)
		} else {
			b.WriteString(p.text)
		}
		if room := width - used - len(gap); i == 0 && n == len(parts) && room >= minBar && total > 0 && !s.noBar {
			b.WriteString(gap + bar(done, total, min(room, maxBar), s))
		}
	}
	return b.String()
}

const minBar, maxBar = 8, 42 // with its ends

// head names what is going on.
func head(j byok.Job) string {
	if j.State == byok.JobVerifying {
		return "verify"
	}
	return j.Type
}

// counts is how much is done, of how much. A job's numbers are of what it counts: records, or data keys.
func counts(j byok.Job) (done, total int64) {
	done, total = j.Done+j.Failed, j.Done+j.Failed+j.Left
	if j.Type == byok.JobReseal {
		total = max(j.Total, done)
	}
	if j.State == byok.JobVerifying {
		done = min(j.Verified, total)
	}
	return done, total
}

// percent is never 100 before the end, and never rounded up.
func percent(done, total int64) string {
	tenths := int64(1000)
	if done < total {
		tenths = int64(float64(done) / float64(total) * 1000)
		tenths = min(max(tenths, 0), 999)
	}
	return fmt.Sprintf("%3d.%d%%", tenths/10, tenths%10)
}

// bar is width columns wide. In Unicode, it has eighths of a column.
func bar(done, total int64, width int, s style) string {
	width -= 2
	if s.ascii {
		full := int(float64(done) / float64(total) * float64(width))
		return "[" + strings.Repeat("#", full) + strings.Repeat("-", width-full) + "]"
	}
	eighths := int(float64(done) / float64(total) * float64(width*8))
	out := strings.Repeat("█", eighths/8)
	if r := eighths % 8; r > 0 {
		out += string([]rune("▏▎▍▌▋▊▉")[r-1])
	}
	return "▕" + out + strings.Repeat(" ", width-utf8.RuneCountInString(out)) + "▏"
}

// number groups digits, with a space that does not break where there is one.
func number(n int64, s style) string {
	digits := fmt.Sprint(n)
	gap := "\u00a0"
	if s.ascii {
		gap = ","
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && digits[i-1] != '-' && (len(digits)-i)%3 == 0 {
			b.WriteString(gap)
		}
		b.WriteRune(d)
	}
	return b.String()
}

// duration is for people: two units at most.
func duration(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// why says what a job waits for.
func why(code string) string {
	says := map[string]string{
		"BYOK_002": "access to the key is denied",
		"BYOK_006": "KMS cannot be used now",
		"BYOK_010": "the key was removed, or the tenant is suspended",
		"BYOK_012": "the Store or the audit log fails",
	}
	if says[code] == "" {
		return code
	}
	return says[code] + " (" + code + ")"
}
