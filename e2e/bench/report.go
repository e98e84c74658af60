package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	memoryLimit = 400 << 20               // all Drover processes together
	cpuLimit    = 2500 * time.Millisecond // per GB on the native lane
	gigabyte    = 1e9
)

// report gathers rows in the order of measuring and prints them at the end.
type report struct {
	options
	ratios   [][]string
	absolute [][]string
	notes    []string
	drover   map[string]usage // medians, for the rows that compare two sizes
}

func newReport(o options) *report { return &report{options: o, drover: map[string]usage{}} }

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "**over**"
}

// ratio adds a row that compares Drover's median with a peer's.
func (r *report) ratio(workload, peer string, theirs, ours time.Duration, limit float64) {
	q := float64(ours) / float64(max(theirs, 1))
	r.ratios = append(r.ratios, []string{workload, peer, seconds(theirs), seconds(ours),
		fmt.Sprintf("%.2f", q), fmt.Sprintf("%.2f", limit), verdict(q <= limit)})
}

// value adds a row with a limit of its own.
func (r *report) value(workload, what, got, limit string, ok bool) {
	r.absolute = append(r.absolute, []string{workload, what, got, limit, verdict(ok)})
}

// took adds the rows that every measurement of Drover has: memory always, CPU where bytes were moved.
func (r *report) took(workload string, u usage, native bool) {
	r.value(workload, "peak RSS, all processes", fmt.Sprintf("%d MB", u.rss>>20), fmt.Sprintf("%d MB", memoryLimit>>20), u.rss <= memoryLimit)
	if native && u.disk > 0 {
		perGB := time.Duration(float64(u.cpu) / (float64(u.disk) / gigabyte))
		r.value(workload, fmt.Sprintf("CPU s per GB (%.2f GB)", float64(u.disk)/gigabyte), seconds(perGB), seconds(cpuLimit), perGB <= cpuLimit)
	}
}

// sizes are pairs of workloads of which the second is ten times the first.
var sizes = [][2]string{{"narrow-1m", "narrow"}, {"tables-200", "tables"}, {"tables", "tables-20000"}}

// growthLimit is linear growth with room for noise.
const growthLimit = 11.0

func (r *report) growth() {
	for _, pair := range sizes {
		small, large := r.drover[pair[0]], r.drover[pair[1]]
		if small.wall == 0 || large.wall == 0 {
			continue
		}
		q := float64(large.wall) / float64(small.wall)
		r.value(pair[0]+" → "+pair[1], "wall, 10 times the size", fmt.Sprintf("%s s → %s s: × %.1f", seconds(small.wall), seconds(large.wall), q),
			fmt.Sprintf("× %.1f", growthLimit), q <= growthLimit)
		m := float64(large.rss) / float64(max(small.rss, 1))
		r.value(pair[0]+" → "+pair[1], "peak RSS, 10 times the size", fmt.Sprintf("%d MB → %d MB: × %.1f", small.rss>>20, large.rss>>20, m),
			"see RSS rows", large.rss <= memoryLimit)
	}
}

func (r *report) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(r.notes, text) {
		r.notes = append(r.notes, text)
	}
}

func (r *report) fail(workload string, err error) { r.note("%s: NOT MEASURED: %v", workload, err) }

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "scale %g, medians of %d, %d cores, %s/%s\n", r.scale, r.runs, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	if r.scale != 1 || r.runs < 3 {
		fmt.Fprintln(w, "The limits are meant for -scale 1 and at least three runs.")
	}
	table(w, []string{"workload", "peer", "peer s", "drover s", "ratio", "limit", ""}, r.ratios)
	table(w, []string{"workload", "measure", "drover", "limit", ""}, r.absolute)
	for _, note := range r.notes {
		fmt.Fprintf(w, "\n- %s\n", note)
	}
}

// table prints markdown with aligned columns.
func table(w io.Writer, head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	width := make([]int, len(head))
	for _, row := range slices.Concat([][]string{head}, rows) {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	line := func(row []string) {
		for i, cell := range row {
			fmt.Fprintf(w, "| %-*s ", width[i], cell)
		}
		fmt.Fprintln(w, "|")
	}
	fmt.Fprintln(w)
	line(head)
	for _, n := range width {
		fmt.Fprint(w, "|", strings.Repeat("-", n+2))
	}
	fmt.Fprintln(w, "|")
	for _, row := range rows {
		line(row)
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// median is the middle of the sorted values, the lower one of two.
func median[T cmp.Ordered](all []T) T {
	s := slices.Sorted(slices.Values(all))
	return s[(len(s)-1)/2]
}

// typical is the median of each measure; of memory it is the highest, since the limit holds always.
func typical(all []usage) usage {
	var wall, cpu, source, target []time.Duration
	var u usage
	for _, one := range all {
		wall, cpu = append(wall, one.wall), append(cpu, one.cpu)
		source, target = append(source, one.sourceCPU), append(target, one.targetCPU)
		u.rss, u.disk = max(u.rss, one.rss), max(u.disk, one.disk)
	}
	u.wall, u.cpu, u.sourceCPU, u.targetCPU = median(wall), median(cpu), median(source), median(target)
	return u
}

// percentile of sorted values.
func percentile(sorted []time.Duration, p float64) time.Duration {
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}
