"""A token bucket per publishable key and client address: what a browser may ask in a second."""

from __future__ import annotations

import math
from dataclasses import dataclass

BUCKETS_MAX = 50_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class RateLimiter:
    """Token buckets that refill with time; a bucket that is full again is forgotten when many are kept."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def wait_s(self, key_id: str, address: str, now_s: float) -> int:
        """Take a token: 0 when there was one, else the whole seconds until there is."""
        if len(self._buckets) >= BUCKETS_MAX:
            self._forget_full(now_s)
        bucket = self._buckets.setdefault((key_id, address), _Bucket(float(self._burst), now_s))
        bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.at_s) * self._rate_per_s)
        bucket.at_s = now_s
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0
        return max(1, math.ceil((1 - bucket.tokens) / self._rate_per_s))

    def _forget_full(self, now_s: float) -> None:
        refill_s = self._burst / self._rate_per_s
        self._buckets = {k: b for k, b in self._buckets.items() if now_s - b.at_s < refill_s}
