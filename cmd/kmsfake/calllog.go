package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/byok-go/byok/kmsfake"
)

// callLog prints calls, and why they were denied: -v.
type callLog struct {
	w    io.Writer
	fake *kmsfake.KMS // set before the first call

	mu sync.Mutex // keeps the lines of one call together
}

func (l *callLog) call(c kmsfake.Call) {
	outcome := "ok"
	if c.Code != "" {
		outcome = c.Code
	}
	if c.Fault != "" {
		outcome += " (fault " + c.Fault + ")"
	}
	who, op := c.Principal, c.Operation
	if who == "" {
		who = "-" // refused before it was known
	}
	if op == "" {
		op = "-"
	}
	at := c.Time.UTC().Format("15:04:05.000")
	if day := c.Time.UTC().Format(time.DateOnly); day != time.Now().UTC().Format(time.DateOnly) {
		at = day + " " + at // the clock was moved
	}
	line := fmt.Sprintf("%s %s %s %s %s %s\n", at, op, outcome, who, c.KeyARN, c.RequestID)
	// A denial needs its reason, and so does what was no call at all.
	if c.Code == "AccessDeniedException" && c.Fault == "" {
		if e := l.fake.Explain(c.RequestID); e != nil {
			line += indent(e.String())
		}
	} else if c.Code != "" && c.Message != "" {
		line += indent(c.Message)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	io.WriteString(l.w, printable(line))
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ") + "\n"
}

// printable takes out what could steer a terminal: parts of a line come from callers.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
