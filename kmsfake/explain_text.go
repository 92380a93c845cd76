package kmsfake

import "strings"

// String is the explanation as text, of several lines.
func (e *Explanation) String() string {
	if e == nil {
		return "kmsfake: nothing is known of this call"
	}
	var b strings.Builder
	b.WriteString(e.Operation + " by " + e.Caller)
	switch {
	case e.Code == "":
		b.WriteString(" succeeded")
	case e.Code == "AccessDeniedException":
		b.WriteString(" was denied")
	default:
		b.WriteString(" failed with " + e.Code)
		if e.Message != "" {
			b.WriteString(": " + e.Message)
		}
	}
	b.WriteString("\n")
	for i := range e.Decisions {
		e.Decisions[i].write(&b)
	}
	switch {
	case len(e.Decisions) == 0 && e.Code != "":
		b.WriteString("  Nobody asked whether it may: it failed before that.\n")
	case e.Code != "" && e.Code != "AccessDeniedException" && e.Decisions[len(e.Decisions)-1].Allowed:
		b.WriteString("  It was allowed, and failed after that.\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// String is the decision as text, of several lines.
func (d *Decision) String() string {
	var b strings.Builder
	d.write(&b)
	return strings.TrimSuffix(b.String(), "\n")
}

func (d *Decision) write(b *strings.Builder) {
	answer := "DENIED"
	if d.Allowed {
		answer = "ALLOWED"
	}
	b.WriteString("  " + answer + " " + d.Action + " on " + d.Resource + "\n")
	b.WriteString("    " + d.Rule + "\n")
	if d.By != "" {
		b.WriteString("    Decided by " + d.By + ".\n")
	}
	write := func(title string, all []Finding) {
		if len(all) == 0 {
			return
		}
		b.WriteString("    " + title + "\n")
		for i := range all {
			b.WriteString("      " + all[i].String() + "\n")
		}
	}
	write("Key policy:", d.KeyPolicy)
	write("Grants:", d.Grants)
	write("Identity policies of the caller:", d.Identity)
}

// String is the finding as one line.
func (f *Finding) String() string {
	says := " applies"
	switch {
	case !f.Applies:
		says = " does not apply: " + f.Why
	case f.Delegates:
		says = " applies, to the account"
	}
	return f.Effect + ", " + f.Name + ":" + says
}
