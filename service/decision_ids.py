"""Decision ids: the row they name and a MAC under the store's secret.

They need no index and cannot be guessed; another store's id fails the MAC and so does not exist.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from dataclasses import dataclass
from hashlib import blake2b

PREFIX = "d_"
_ROW = struct.Struct(">IQH")
_MAC_BYTES = 8


@dataclass(frozen=True, slots=True)
class DecisionRef:
    """The assignment a decision id names."""

    experiment_no: int
    unit_no: int
    period: int


def encode(secret: bytes, ref: DecisionRef) -> str:
    """The decision id of an assignment."""
    row = _ROW.pack(ref.experiment_no, ref.unit_no, ref.period)
    return PREFIX + base64.urlsafe_b64encode(row + _mac(secret, row)).rstrip(b"=").decode()


def decode(secret: bytes, decision_id: str) -> DecisionRef | None:
    """The assignment it names; None when this store never issued it."""
    text = decision_id.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    row, mac = raw[: _ROW.size], raw[_ROW.size :]
    if len(row) != _ROW.size or not hmac.compare_digest(mac, _mac(secret, row)):
        return None
    ref = DecisionRef(*_ROW.unpack(row))
    return ref if encode(secret, ref) == decision_id else None


def _mac(secret: bytes, row: bytes) -> bytes:
    return blake2b(row, digest_size=_MAC_BYTES, key=secret, person=b"decision").digest()
