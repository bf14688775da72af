"""Decision ids: the row they name and a MAC under the store's secret.

They need no index and cannot be guessed; another store's id fails the MAC and so does not exist.
"""

from __future__ import annotations

import hmac
import struct
from binascii import a2b_base64, b2a_base64
from hashlib import blake2b
from typing import NamedTuple

PREFIX = "d_"
_ROW = struct.Struct(">IQH")
_MAC_BYTES = 8
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")


class DecisionRef(NamedTuple):
    """The assignment a decision id names."""

    experiment_no: int
    unit_no: int
    period: int


def encode(secret: bytes, ref: DecisionRef) -> str:
    """The decision id of an assignment."""
    row = _ROW.pack(*ref)
    return _text(row + _mac(secret, row))


def decode(secret: bytes, decision_id: str) -> DecisionRef | None:
    """The assignment it names; None when this store never issued it."""
    try:
        raw = a2b_base64(decision_id[len(PREFIX) :].encode().translate(_FROM_URL) + b"==")
    except ValueError:
        return None
    row, mac = raw[: _ROW.size], raw[_ROW.size :]
    # The decoder is lenient: only what is written as we write it has been issued.
    if len(row) != _ROW.size or _text(raw) != decision_id or not hmac.compare_digest(mac, _mac(secret, row)):
        return None
    return DecisionRef._make(_ROW.unpack(row))


def _text(raw: bytes) -> str:
    """URL-safe base64 by hand: the module of that name takes twice the time."""
    return PREFIX + b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode()


def _mac(secret: bytes, row: bytes) -> bytes:
    return blake2b(row, digest_size=_MAC_BYTES, key=secret, person=b"decision").digest()
