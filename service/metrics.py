"""Counts of what was answered, for `/metrics` (Prometheus text format). Routes are patterns, never ids."""

from __future__ import annotations

from collections import Counter, defaultdict


class Metrics:
    """Requests by method, route and status, and the time they took."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests[method, route, status] += 1
        self._seconds[route] += seconds

    def exposition(self, *, writer_queue: int) -> str:
        """The text Prometheus reads."""
        lines = ["# HELP rialto_requests_total Requests answered.", "# TYPE rialto_requests_total counter"]
        for (method, route, status), count in sorted(self._requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            lines.append(f"rialto_requests_total{{{labels}}} {count}")
        lines += [
            "# HELP rialto_request_seconds_sum Time spent answering, by route.",
            "# TYPE rialto_request_seconds_sum counter",
        ]
        lines += [
            f'rialto_request_seconds_sum{{route="{route}"}} {seconds:.6f}'
            for route, seconds in sorted(self._seconds.items())
        ]
        lines += [
            "# HELP rialto_writer_queue Writes that wait for their commit.",
            "# TYPE rialto_writer_queue gauge",
            f"rialto_writer_queue {writer_queue}",
            "",
        ]
        return "\n".join(lines)
