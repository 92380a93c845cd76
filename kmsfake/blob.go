package kmsfake

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sort"
	"strings"
)

// A ciphertext blob, version 1, as long as AWS's within a few bytes:
//
//	"KF" 2 | version 1 | account 12 | len(region) 1 | region | key id 16
//	| material id 32 | salt 32 | header tag 16 | nonce 12 | ciphertext | tag 16
//
// A multi-Region key, whose blobs open in every Region that has a member of it,
// leaves the region empty; its key id is then an mrk- one.
//
// Everything before the nonce is the header. It is additional data of the
// AES-256-GCM that follows, together with the encryption context, so a blob is
// bound to its key's ARN (or its multi-Region id) and its key material. The header tag is a MAC under a
// secret of this KMS: a header that was tampered with, or that another KMS made,
// is refused before any key is looked up, so that flipping a bit of the key id
// is InvalidCiphertext like any other flip and no way to ask which keys exist.
//
// Each blob has its own AES key, HMAC(material, salt), as AWS derives one.
const (
	blobMagic   = "KF\x01"
	blobKeyID   = 16
	blobSalt    = 32
	blobTag     = 16
	materialLen = 32
)

// blobHeader is what a blob says about itself.
type blobHeader struct {
	account, region, keyID string // region "": of a multi-Region key
	material               string // hex, as KeyMaterialId
	raw                    []byte // through the header tag
	sealed                 []byte // nonce, ciphertext, tag
}

// arnIn is the ARN that the blob's key has in a Region, if it can be there at all.
func (h *blobHeader) arnIn(region string) (arn string, ok bool) {
	return keyARN(region, h.account, h.keyID), h.region == "" || h.region == region
}

// names reports whether a blob is of a key.
func (h *blobHeader) names(k *keyState) bool {
	arn, ok := h.arnIn(k.Region)
	return ok && arn == k.ARN()
}

var errBlob = errors.New("not a blob of this KMS")

// seal encrypts under one material of k.
func seal(secret []byte, k *keyState, m *material, plaintext []byte, ec map[string]string) []byte {
	b := make([]byte, 0, 160+len(plaintext))
	b = append(b, blobMagic...)
	b = append(b, k.Account...)
	region := k.Region
	if k.Primary != "" {
		region = ""
	}
	b = append(b, byte(len(region)))
	b = append(b, region...)
	b = append(b, rawKeyID(k.ID)...)
	mid, _ := hex.DecodeString(m.ID)
	b = append(b, mid...)
	var salt [blobSalt]byte
	rand.Read(salt[:])
	b = append(b, salt[:]...)
	b = append(b, headerTag(secret, b)...)
	return append(b, aead(m.Key, salt[:]).Seal(nil, nil, plaintext, additional(b, ec))...)
}

// parseBlob reads and authenticates the header.
func parseBlob(secret, blob []byte) (*blobHeader, error) {
	const fixed = len(blobMagic) + 12 + 1
	if len(blob) < fixed || string(blob[:len(blobMagic)]) != blobMagic {
		return nil, errBlob
	}
	region := int(blob[fixed-1])
	end := fixed + region + blobKeyID + sha256.Size + blobSalt
	if len(blob) < end+blobTag+12+16 {
		return nil, errBlob
	}
	if !hmac.Equal(blob[end:end+blobTag], headerTag(secret, blob[:end])) {
		return nil, errBlob
	}
	at := fixed + region
	id := formatUUID([16]byte(blob[at : at+blobKeyID]))
	if region == 0 {
		id = "mrk-" + strings.ReplaceAll(id, "-", "")
	}
	return &blobHeader{
		account:  string(blob[len(blobMagic) : fixed-1]),
		region:   string(blob[fixed:at]),
		keyID:    id,
		material: hex.EncodeToString(blob[at+blobKeyID : at+blobKeyID+sha256.Size]),
		raw:      blob[:end+blobTag],
		sealed:   blob[end+blobTag:],
	}, nil
}

func (h *blobHeader) open(m *material, ec map[string]string) ([]byte, error) {
	end := len(h.raw) - blobTag
	return aead(m.Key, h.raw[end-blobSalt:end]).Open(nil, nil, h.sealed, additional(h.raw, ec))
}

func headerTag(secret, header []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write(header)
	return mac.Sum(nil)[:blobTag]
}

// aead is AES-256-GCM with random nonces: the only GCM that FIPS mode leaves us.
func aead(key, salt []byte) cipher.AEAD {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("kmsfake blob v1"))
	mac.Write(salt)
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		panic("kmsfake: internal error: " + err.Error())
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("kmsfake: internal error: " + err.Error())
	}
	return gcm
}

// additional is the data that a blob authenticates beside its plaintext. Each
// string of the context carries its length: written one after the other,
// {a: "bc"} and {ab: "c"} would be the same bytes, and a ciphertext made for one
// tenant would open for another. Emulators have had exactly this bug.
func additional(header []byte, ec map[string]string) []byte {
	keys := make([]string, 0, len(ec))
	for k := range ec {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	ad := binary.BigEndian.AppendUint32(nil, uint32(len(header)))
	ad = append(ad, header...)
	ad = binary.BigEndian.AppendUint32(ad, uint32(len(keys)))
	for _, k := range keys {
		for _, s := range [2]string{k, ec[k]} {
			ad = binary.BigEndian.AppendUint32(ad, uint32(len(s)))
			ad = append(ad, s...)
		}
	}
	return ad
}
