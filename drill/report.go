package drill

import (
	"strconv"
	"time"

	"github.com/byok-go/byok"
)

// Verdict sums up a Report.
type Verdict string

// The verdicts.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"         // a promise was broken; Findings say which
	Inconclusive Verdict = "inconclusive" // no promise was seen broken, but nothing was shown either; Findings say why
)

// Report is what a drill measured. Its times are by the clock of the process that ran Revoke.
type Report struct {
	Verdict  Verdict    `json:"verdict"`
	Findings []string   `json:"findings"` // why the Verdict is not Pass; empty if it is
	Tenant   string     `json:"tenant"`
	Key      byok.KeyID `json:"key"`
	Setting  string     `json:"setting"` // Config.Setting
	ByHand   bool       `json:"by_hand"` // people denied the key and gave it back
	MaxAge   Millis     `json:"max_age_ms"`

	// Began is when Revoke was called. Stop and Restore are instants: asked for, and
	// acknowledged by whoever did it. They are zero if it did not come to that.
	Began           time.Time `json:"began"`
	StopAsked       time.Time `json:"stop_asked,omitzero"`
	Stop            time.Time `json:"stop,omitzero"`
	RestoreAsked    time.Time `json:"restore_asked,omitzero"`
	Restore         time.Time `json:"restore,omitzero"`
	Ended           time.Time `json:"ended"`
	ClockStrayed    Millis    `json:"clock_strayed_ms"`     // wall clock against monotonic clock, from Began to Ended
	KMSPermitted    *Millis   `json:"kms_permitted_ms"`     // from Stop to when the last request was issued that the KMS still permitted; null if there was none
	KMSDenied       *Millis   `json:"kms_denied_ms"`        // from Stop to the KMS's first denial; null if there was none
	Propagation     Millis    `json:"propagation_ms"`       // KMSPermitted, or 0: how long the stop took to spread inside the KMS
	Bound           Millis    `json:"bound_ms"`             // from Stop to when nothing may be served any more: Propagation + MaxAge
	FirstDenial     *Millis   `json:"first_denial_ms"`      // from Stop to the first operation that was refused, anywhere
	LastFirstDenial *Millis   `json:"last_first_denial_ms"` // from Stop to the first denial in the worker that was last to have one
	LastSuccess     *Millis   `json:"last_success_ms"`      // from Stop to the issue of the last operation that succeeded, anywhere; null if none did
	AfterDenial     Count     `json:"after_denial"`         // issued after the first denial in the same worker
	AfterBound      Count     `json:"after_bound"`          // issued after Bound
	Recovery        *Millis   `json:"recovery_ms"`          // from Restore until the slowest worker sealed and opened again; null if one did not
	Workers         []Worked  `json:"workers"`
}

// Count is what was tried in a time in which nothing may succeed.
type Count struct {
	Tried     int `json:"tried"`
	Succeeded int `json:"succeeded"` // must be 0
}

// Worked is one worker's part. Its times count as in Report.
type Worked struct {
	Worker      int     `json:"worker"`
	Served      int     `json:"served"` // operations that succeeded before Stop was asked for
	Failed      int     `json:"failed"` // operations that were neither served nor denied, in the whole drill
	Wrong       int     `json:"wrong"`  // canaries that opened to something else
	KMSDenials  int     `json:"kms_denials"`
	FirstDenial *Millis `json:"first_denial_ms"`
	LastSuccess *Millis `json:"last_success_ms"`
	AfterDenial Count   `json:"after_denial"`
	AfterBound  Count   `json:"after_bound"`
	Recovery    *Millis `json:"recovery_ms"`
	// RecoveryLimit is what was left of the back-off at Restore, the time of the KMS
	// requests of the recovery, and an allowance for the machine: 1 s, and three
	// times the 90th percentile of this worker's refusals.
	RecoveryLimit Millis `json:"recovery_limit_ms"`
}

// Millis is a duration that JSON has in milliseconds.
type Millis time.Duration

// MarshalJSON implements json.Marshaler.
func (m Millis) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(m)/1e6, 'f', -1, 64), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Millis) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err == nil {
		*m = Millis(f * 1e6)
	}
	return err
}

func (m Millis) String() string {
	return strconv.FormatFloat(time.Duration(m).Seconds(), 'f', 2, 64) + " s"
}
