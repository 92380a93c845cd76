"""A reader of byok envelopes, version 1, written from SPEC.md and c2sp.org/FLOE alone.

It exists to be another one: it shares no code with the Go library and no
structure either, so that the two agree only where the specification says the
same to both. It needs Python 3.11, its standard library, and AES-GCM from the
package `cryptography` (Debian: python3-cryptography). It is slow, it keeps the whole
message in memory, and it does not promise to erase a key: to check, not to use.

    open_envelope(key, tenant, purpose, aad, envelope) -> bytes

opens REF and ANY envelopes when given the data key, and ALL envelopes when given all
shares, one after the other in the order of the recipients. KMS, leases and registrations are not its business (steps 5
to 7 and 10 of SPEC.md's "Opening").

As a program it reads requests from standard input and answers on standard output:

    request   five fields: key, tenant, purpose, aad, envelope; each u32 length | bytes
    answer    u8 result | u32 length | plaintext
    result    0 opened   1 malformed   2 refused   3 the caller's arguments
"""

import hmac
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Malformed(Exception):
    """The bytes are no envelope of version 1: public, and says why."""


class Refused(Exception):
    """A cryptographic refusal. It does not say why."""


class BadArgument(Exception):
    """The caller's tenant, purpose, aad or key is beyond the limits."""


SEGMENT_LENGTHS = (4096, 65536, 1048576)
REF, ANY, ALL = 0, 1, 2


class Cursor:
    """Reads from the front of bytes; what is not there is Malformed."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, n):
        if n > len(self.data) - self.at:
            raise Malformed("cut short")
        self.at += n
        return self.data[self.at - n : self.at]

    def u8(self):
        return self.take(1)[0]

    def u16(self):
        return int.from_bytes(self.take(2), "big")


def is_name(b, most):
    return 1 <= len(b) <= most and all(0x21 <= c <= 0x7E for c in b)


def parse(envelope):
    """Returns policy, data key id, tenant, recipients, CORE and PAYLOAD (MUST-1 to MUST-7)."""
    c = Cursor(envelope)
    if c.take(4) != b"byok":
        raise Malformed("magic")
    if c.u8() != 1:
        raise Malformed("version")
    if c.u8() != 1:
        raise Malformed("suite")
    policy = c.u8()
    if policy not in (REF, ANY, ALL):
        raise Malformed("policy")
    if c.u8() != 0:
        raise Malformed("flags")
    key_id = c.take(16)
    tenant = c.take(c.u8())
    if not is_name(tenant, 128):
        raise Malformed("tenant")
    core = envelope[: c.at]
    recipients = []
    if policy != REF:
        section = c.take(c.u16())
        if len(section) > 16384:
            raise Malformed("section")
        recipients = parse_recipients(section, policy)
    return policy, key_id, tenant, recipients, core, envelope[c.at :]


def parse_recipients(section, policy):
    c = Cursor(section)
    count = c.u8()
    if not (2 if policy == ALL else 1) <= count <= 8:
        raise Malformed("count")
    recipients = []
    for _ in range(count):
        provider = c.take(c.u8())
        key = c.take(c.u16())
        wrapped = c.take(c.u16())
        if not is_name(provider, 32) or not is_name(key, 2048) or not 1 <= len(wrapped) <= 6144:
            raise Malformed("recipient")
        # Python compares tuples member by member, and bytes as unsigned bytes.
        if recipients and not recipients[-1][:2] < (provider, key):
            raise Malformed("order")
        recipients.append((provider, key, wrapped))
    if c.at != len(section):
        raise Malformed("slack")
    return recipients


def hkdf_extract(salt, ikm):
    return hmac.digest(salt, ikm, "sha384")


def hkdf_expand(prk, info, n):
    """RFC 5869, for as many blocks as it takes."""
    out, block, i = b"", b"", 1
    while len(out) < n:
        block = hmac.digest(prk, block + info + bytes([i]), "sha384")
        out += block
        i += 1
    return out[:n]


def combine_shares(key_id, shares):
    """The data key of policy ALL, from the shares in the order of the recipients."""
    if any(len(s) != 32 for s in shares):
        raise Refused()
    ikm = b"".join(struct.pack(">H", len(s)) + s for s in shares)
    prk = hkdf_extract(b"byok/v1/all\0" + key_id, ikm)
    return hkdf_expand(prk, b"byok/v1/data-key\0", 32)


def payload_aad(core, purpose, aad):
    return b"".join(
        (b"byok/v1/payload\0", struct.pack(">I", len(core)), core, struct.pack(">H", len(purpose)), purpose,
         struct.pack(">I", len(aad)), aad)
    )


def floe_segment_length(payload):
    """The parameters, which are public: AEAD 0, KDF 0, a segment length of three, IVs of 32 bytes."""
    if len(payload) < 74:
        raise Refused()
    aead, kdf, length, iv_length = struct.unpack(">BBII", payload[:10])
    if aead != 0 or kdf != 0 or iv_length != 32 or length not in SEGMENT_LENGTHS:
        raise Malformed("FLOE parameters")
    return length


def floe_open(key, aad, payload):
    segment_length = floe_segment_length(payload)
    parameters_and_iv = payload[:42]

    def derive(from_key, purpose, n):
        return hkdf_expand(from_key, parameters_and_iv + purpose + aad, n)

    if not hmac.compare_digest(derive(key, b"HEADER_TAG:", 32), payload[42:74]):
        raise Refused()
    message_key = derive(key, b"MESSAGE_KEY:", 48)
    at, position, plaintext = 74, 0, []
    while True:
        if position >= 1 << 40:
            raise Refused()
        if position % (1 << 20) == 0:
            aes = AESGCM(derive(message_key, b"DEK:" + struct.pack(">Q", position), 32))
        here = payload[at : at + 4]
        final = here != b"\xff\xff\xff\xff"
        if final:
            length = int.from_bytes(here, "big")
            if len(here) < 4 or not 32 <= length <= segment_length or at + length != len(payload):
                raise Refused()
        else:
            length = segment_length
            if at + length > len(payload):
                raise Refused()
        nonce, sealed = payload[at + 4 : at + 16], payload[at + 16 : at + length]
        try:
            plaintext.append(aes.decrypt(nonce, sealed, struct.pack(">QB", position, final)))
        except InvalidTag:
            raise Refused() from None
        if final:
            return b"".join(plaintext)
        at, position = at + length, position + 1


def check_arguments(tenant, purpose, aad):
    purpose_bytes = b"abcdefghijklmnopqrstuvwxyz0123456789._-"
    if not is_name(tenant, 128):
        raise BadArgument("tenant")
    if not 1 <= len(purpose) <= 64 or any(c not in purpose_bytes for c in purpose):
        raise BadArgument("purpose")
    if len(aad) > 8192:
        raise BadArgument("aad")


def open_envelope(key, tenant, purpose, aad, envelope):
    """The steps of "Opening" that need no KMS, in their order."""
    check_arguments(tenant, purpose, aad)
    policy, key_id, named, recipients, core, payload = parse(envelope)
    if named != tenant:
        raise Refused()
    floe_segment_length(payload)
    if policy == ALL:
        if len(key) != 32 * len(recipients):
            raise Refused()
        key = combine_shares(key_id, [key[i : i + 32] for i in range(0, len(key), 32)])
    if len(key) != 32:
        raise Refused()
    return floe_open(key, payload_aad(core, purpose, aad), payload)


def serve(requests, answers):
    def field():
        n = requests.read(4)
        if len(n) < 4:
            return None
        return requests.read(int.from_bytes(n, "big"))

    while True:
        fields = [field() for _ in range(5)]
        if None in fields:
            return
        result, plaintext = 0, b""
        try:
            plaintext = open_envelope(*fields)
        except Malformed:
            result = 1
        except Refused:
            result = 2
        except BadArgument:
            result = 3
        answers.write(struct.pack(">BI", result, len(plaintext)) + plaintext)
        if not requests.peek(1):
            answers.flush()
            return


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
