package byok

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// The flags of a legal waiver, as REST and the audit log name them.
const (
	FlagDataLossRisk  = "acknowledge_data_loss_risk"
	FlagKeyManagement = "acknowledge_key_management_responsibility"
	FlagNoLiability   = "acknowledge_no_liability"
)

// Waiver is the text that a tenant acknowledges before its key can be used:
// who holds a key can lose it, and the data with it. The wording is the
// platform's; a change of it needs a new Version, and a new acknowledgement for
// the next activation.
type Waiver struct {
	Version       string // 1 to 64 bytes of [A-Za-z0-9._-]
	EffectiveDate string // RFC 3339 full-date, such as "2026-01-01"
	Title         string
	Text          string // at most 32 KiB, with Title and Flags
	Flags         WaiverFlags
}

// WaiverFlags is the wording of the three statements, each of which is
// acknowledged by itself.
type WaiverFlags struct {
	DataLossRisk  string
	KeyManagement string
	NoLiability   string
}

// SHA256 returns the hex SHA-256 of everything in w, each field preceded by its
// length in 8 bytes: what an acknowledgement is kept with.
func (w Waiver) SHA256() string {
	h := sha256.New()
	var n [8]byte
	for _, s := range []string{w.Version, w.EffectiveDate, w.Title, w.Text,
		w.Flags.DataLossRisk, w.Flags.KeyManagement, w.Flags.NoLiability} {
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	return hex.EncodeToString(h.Sum(nil))
}

const maxWaiver = 32 << 10

func (w Waiver) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: waiver: %s", ErrArgument, what) }
	if len(w.Version) < 1 || len(w.Version) > 64 || !only(w.Version, isVersionByte) {
		return bad("version must be 1 to 64 bytes of [A-Za-z0-9._-]")
	}
	if _, err := time.Parse(time.DateOnly, w.EffectiveDate); err != nil {
		return bad("effective date must look like 2026-01-31")
	}
	size := len(w.Title) + len(w.Text)
	for _, s := range []string{w.Title, w.Text, w.Flags.DataLossRisk, w.Flags.KeyManagement, w.Flags.NoLiability} {
		if s == "" {
			return bad("title, text and the wording of each flag are required")
		}
	}
	size += len(w.Flags.DataLossRisk) + len(w.Flags.KeyManagement) + len(w.Flags.NoLiability)
	if size > maxWaiver || len(encodeItem(Ref{}, 0, waiverItem{layoutVersion, w}).Value) > MaxItemValue {
		return bad("longer than 32 KiB, or than 64 KiB with control characters and quotes escaped")
	}
	return nil
}

func isVersionByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

func only(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

// Acknowledgement is a tenant's acceptance of a waiver: all three must be true.
type Acknowledgement struct {
	DataLossRisk, KeyManagement, NoLiability bool
	Version                                  string // "" is the current one; another than the current is refused
}

// WaiverStatus says what a tenant has acknowledged.
type WaiverStatus struct {
	Acknowledged         bool      // the current waiver
	AcknowledgedAt       time.Time // of the newest acknowledgement; zero: none
	AcknowledgedBy       string
	AcknowledgedVersion  string
	AcknowledgedSHA256   string
	CurrentVersion       string
	CurrentSHA256        string
	NeedsAcknowledgement bool // for the next activation
}

// DefaultWaiver is a sound text to start from. Have your lawyers read it.
func DefaultWaiver() Waiver {
	return Waiver{
		Version:       "1.0",
		EffectiveDate: "2026-01-01",
		Title:         "Customer-managed encryption keys: what you take on",
		Text: `You have asked us to encrypt your data under a key that you manage in your own
key management service ("your key"). Please read what follows before you turn
this on.

1. What happens. Your data is encrypted with data keys, and each data key can be
   used only with the help of your key. We hold no copy of your key, and there is
   no master key, recovery key or back door with which we could read your data
   without it.

2. If your key is unavailable, your data is unavailable. While your key cannot be
   reached, is disabled, or its policy does not let us in, everything that needs
   your encrypted data stops. We cannot work around this. It resumes by itself
   when access to your key returns.

3. If your key is gone, your data is gone. If your key or its key material is
   deleted, all data encrypted under it, backups included, is lost for good.
   Nobody can recover it: not you, not us, not the provider of your key
   management service.

4. What you look after. You are responsible for your key: its existence, its
   policy, who may administer it, its rotation and deletion settings, the account
   it lives in, and the charges of its provider.

5. How revoking works. When you take away our access, our systems stop using your
   key within the time that our documentation states, once the change has taken
   effect at the provider. Data that was legitimately read before is not
   recalled.

6. Liability. As far as the law allows, we are not liable for loss or
   unavailability of data that results from your key being unavailable, revoked
   or deleted. Nothing here limits a liability that cannot be limited by law, or
   replaces the agreement between us where that gives you more.`,
		Flags: WaiverFlags{
			DataLossRisk:  "I understand that if our key or its material is deleted, all data encrypted under it is lost permanently, and that nobody can recover it.",
			KeyManagement: "I accept that we are responsible for the availability, policy, rotation and protection of our key.",
			NoLiability:   "I accept that, as far as the law allows, the platform is not liable for data that is lost or unavailable because of our key.",
		},
	}
}
