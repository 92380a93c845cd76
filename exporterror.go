package byok

import (
	"fmt"
	"strings"
)

// ExportProblem says what is wrong with a part of an export.
type ExportProblem string

// The problems. But for the last two, the rest of the export is read on.
const (
	// ExportNotOpened: the record does not open, and Err says why.
	ExportNotOpened ExportProblem = "not opened"
	// ExportDamaged: bytes were changed or are missing, and what they held is lost. Named are
	// the record, or the frames if it cannot be told what they held.
	ExportDamaged ExportProblem = "damaged"
	// ExportCopyDamaged: of the header, or of a data key, which are there twice. As long as the
	// other copy is whole nothing is lost.
	ExportCopyDamaged ExportProblem = "copy damaged"
	// ExportMissing: records that must have been there are not.
	ExportMissing ExportProblem = "missing"
	// ExportGivenUp: the platform could not read the record when it made the export.
	ExportGivenUp ExportProblem = "given up"
	// ExportConflict: a data key, or the header, is there with two contents. The first counts.
	ExportConflict ExportProblem = "conflict"
	// ExportChecksum: nothing is damaged by itself, but counts or the checksum at the end say otherwise.
	ExportChecksum ExportProblem = "checksum"
	// ExportTrailing: something follows the end. It is not looked at.
	ExportTrailing ExportProblem = "trailing"
	// ExportTruncated: there is no end, so nobody knows what else there was.
	ExportTruncated ExportProblem = "truncated"
	// ExportNoHeader: without one nothing can be opened.
	ExportNoHeader ExportProblem = "no header"
)

// ExportError is one thing that is wrong with an export. What it names is what it could
// find out: names are as they are read, and in what is damaged a byte of them may be wrong.
type ExportError struct {
	Problem ExportProblem
	Record  uint64    // number of the record, from 1; 0: no record is concerned, or it is not known
	Count   uint64    // of records, from Record on, if they are more than one; of frames, if Record is 0
	Name    string    // of the record, if that could be read
	DataKey DataKeyID // of the record, or the one concerned; zero: none
	Offset  int64     // where it is in the file
	Err     error     // why, for ExportNotOpened
}

// Error names everything that is known. Names are quoted.
func (e *ExportError) Error() string {
	var b strings.Builder
	b.WriteString("byok: export: ")
	switch {
	case e.Record != 0 && e.Count > 1:
		fmt.Fprintf(&b, "records %d to %d", e.Record, e.Record+e.Count-1)
	case e.Record != 0:
		fmt.Fprintf(&b, "record %d", e.Record)
		if e.Name != "" {
			fmt.Fprintf(&b, " %+q", e.Name)
		}
	case e.DataKey != (DataKeyID{}):
		fmt.Fprintf(&b, "data key %s", e.DataKey)
	case e.Count > 1:
		fmt.Fprintf(&b, "%d frames", e.Count)
	default:
		b.WriteString("the file")
	}
	fmt.Fprintf(&b, " at byte %d: %s", e.Offset, e.Problem)
	if e.Err != nil {
		b.WriteString(": " + strings.TrimPrefix(e.Err.Error(), "byok: "))
		if e.Record != 0 && e.DataKey != (DataKeyID{}) {
			fmt.Fprintf(&b, " (data key %s)", e.DataKey)
		}
	}
	return b.String()
}

// Unwrap returns Err.
func (e *ExportError) Unwrap() error { return e.Err }

// Harmless reports whether nothing is lost by it.
func (e *ExportError) Harmless() bool { return e.Problem == ExportCopyDamaged }

// The reasons of ExportNotOpened that are not KMS's.
var (
	// ErrExportKey: the export does not have the record's data key.
	ErrExportKey = newError(ErrNotFound, "its data key is not in the export, or both copies are damaged")
	// ErrExportUntrusted: the data key is wrapped by no CMK that the caller named.
	ErrExportUntrusted = newError(ErrKeyID, "its data key is wrapped by a CMK that was not named")
)
