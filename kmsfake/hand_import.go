package kmsfake

import (
	"bytes"
	"time"
)

// ImportMaterial imports key material by the owner's hand, without wrapping and
// token: new material into a key that has none, the same again into one that has.
// The key must have been created with Origin EXTERNAL. A zero validTo never
// expires. What KMS would refuse as not being that key's material fails the test.
func (k *Key) ImportMaterial(raw []byte, validTo time.Time) {
	k.f.helper()
	var err error
	k.edit("ImportMaterial", func(ks *keyState) {
		if !ks.imported() {
			err = incorrectMaterial("the origin of " + ks.ARN() + " is " + string(ks.Origin) + ".")
			return
		}
		var m *material
		if m, err = k.f.st.accept(ks, bytes.Clone(raw), "", "", k.f.now()); err == nil {
			m.Expires = validTo
		}
	})
	if err != nil {
		k.f.misuse("ImportMaterial: %v", err)
	}
}

// DeleteMaterial deletes the imported material that encrypts. The key is pending
// import until the same material is imported again.
func (k *Key) DeleteMaterial() {
	k.f.helper()
	k.edit("DeleteMaterial", func(ks *keyState) {
		if m := ks.current(); ks.imported() && m != nil {
			m.drop()
			ks.afterLoss()
		}
	})
}
