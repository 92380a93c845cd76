package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// chart is horizontal bars in groups. They are drawn to the logarithm if the longest is more
// than 50 times the shortest.
type chart struct {
	title, unit string
	series      []string // what the bars of a group are
	rows        []string // the groups
	value       func(row string, series int) float64
	more        func(row string) string // after the figures of a group
}

func charts(r *results) map[string]chart {
	message := func(size string) chart {
		return chart{
			title: "A message of " + spaced(size) + ": processor time", unit: "µs", series: []string{"Seal", "Open"}, rows: r.peers,
			value: func(peer string, i int) float64 {
				return r.at(point{name: "Message/" + size + "/" + []string{"Seal", "Open"}[i] + "/" + peer, unit: "cpu-ns/op"}).median / 1e3
			},
			more: func(peer string) string {
				if r.at(point{name: "Message/" + size + "/Seal/" + peer, unit: "kms/op"}).median > 0.5 {
					return " + KMS"
				}
				return ""
			},
		}
	}
	return map[string]chart{
		"message": message("64B"),
		"large":   message("1MiB"),
		"stream": {
			title: "A stream of 64 MiB", unit: "GB/s", series: []string{"Seal, one core", "Seal, two cores"}, rows: r.peers,
			value: func(peer string, i int) float64 {
				p := point{name: "Stream/Seal/" + peer, unit: []string{"cpu-ns/op", "ns/op"}[i], cores: i + 1}
				return r.over(func(v figures) float64 { return (64 << 20) / v(p) }).median
			},
			more: func(string) string { return "" },
		},
	}
}

// Two styles, for light and dark pages: the background is the chart's own, so that it can be
// read on either.
const style = `<style>
text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-size:15px;font-weight:600}.n{font-size:12px}
.bg{fill:#ffffff;stroke:#d1d9e0}.s0{fill:#0969da}.s1{fill:#8fb8ea}.g{stroke:#d1d9e0}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.bg{fill:#0d1117;stroke:#3d444d}.s0{fill:#4493f8}.s1{fill:#1f4f8f}.g{stroke:#3d444d}}
</style>`

func (c chart) svg() string {
	const left, right, width, bar, gap, top = 170, 100, 760, 13, 11, 66
	var rows []string
	least, most := math.Inf(1), 0.0
	for _, row := range c.rows {
		v := c.value(row, 0)
		if math.IsNaN(v) {
			continue
		}
		rows = append(rows, row)
		for i := range c.series {
			v := c.value(row, i)
			least, most = min(least, v), max(most, v)
		}
	}
	scale, note := func(v float64) float64 { return v / most }, ""
	if most > 50*least {
		floor := math.Floor(math.Log10(least))
		scale = func(v float64) float64 { return (math.Log10(v) - floor) / (math.Log10(most) - floor) }
		note = ", logarithmic"
	}
	height := top + len(rows)*(len(c.series)*bar+gap) + 8
	var b strings.Builder
	title := html.EscapeString(c.title + " (" + c.unit + note + ")")
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`+"\n%s\n", width, height, width, height, title, style)
	fmt.Fprintf(&b, `<rect class="bg" x="0.5" y="0.5" width="%d" height="%d" rx="6"/>`+"\n", width-1, height-1)
	fmt.Fprintf(&b, `<text class="t" x="16" y="26">%s</text>`+"\n", title)
	for i, s := range c.series {
		x := left + i*140
		fmt.Fprintf(&b, `<rect class="s%d" x="%d" y="38" width="12" height="12"/><text class="n" x="%d" y="49">%s</text>`+"\n", i, x, x+18, html.EscapeString(s))
	}
	y := top
	for _, row := range rows {
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-10, y+bar*len(c.series)/2+5, html.EscapeString(row))
		for i := range c.series {
			v := c.value(row, i)
			if !math.IsNaN(v) {
				w := max(1, scale(v)*(width-left-right))
				fmt.Fprintf(&b, `<rect class="s%d" x="%d" y="%d" width="%.1f" height="%d"/><text class="n" x="%.1f" y="%d">%s</text>`+"\n", i, left, y, w, bar-1, left+w+5, y+bar-2, number(v)+c.more(row))
			}
			y += bar
		}
		y += gap
	}
	fmt.Fprintf(&b, `<line class="g" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n</svg>\n", left, top-4, left, height-8)
	return b.String()
}
