"""Requests at a constant rate, whatever the answers do, from a process of its own.

A closed loop sends the next request when the last is answered, so a stall delays few requests and looks
small. Here every request has the instant it is due, fixed before anything is sent, and its latency counts
from that instant: what a stall holds up counts as held up. A request that cannot be sent when due, since
all connections wait for answers, is sent as soon as one is free; one never answered counts with the time it
was waited for.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rounds import percentile
from benchmarks.wrk import BenchmarkFailed

CONNECTIONS = 64
GRACE_S = 5.0
WARM_UP_S = 0.3  # at the start of each run, not counted: connections open, caches fill
UNIT = b"<new>"


@dataclass(slots=True)
class Tally:
    """When requests were due, sent and answered, in seconds from the start."""

    due: Sequence[float]
    sent: list[float] = field(default_factory=list)
    answered: dict[int, float] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)  # answers that were not what was asked for

    def latencies(self, end: float, warm_up_s: float = 0.0) -> list[float]:
        """Seconds from due to answered, in order of due; what is unanswered has waited until the end."""
        return [
            self.answered.get(number, end) - due for number, due in enumerate(self.due) if due >= warm_up_s
        ]

    def lateness(self) -> list[float]:
        """Seconds from due to sent: what the generator itself, or the lack of a free connection, adds."""
        return [sent - due for sent, due in zip(self.sent, self.due, strict=False)]


def due_times(rate: float, seconds: float) -> list[float]:
    """Evenly spaced instants.

    >>> due_times(4, 1)
    [0.0, 0.25, 0.5, 0.75]
    """
    return [number / rate for number in range(round(rate * seconds))]


def summary(tally: Tally, end: float, warm_up_s: float = 0.0) -> dict[str, Any]:
    """The figures of one run, in milliseconds."""
    latencies = [1000 * latency for latency in tally.latencies(end, warm_up_s)]
    lateness = [1000 * late for late in tally.lateness()]
    return {
        "requests": len(tally.due),
        "answered": len(tally.answered),
        "strange": len(tally.strange),
        "first_strange": tally.strange[0] if tally.strange else "",
        **{
            f"p{100 * share:g}_ms": round(percentile(latencies, share), 3)
            for share in (0.5, 0.9, 0.99, 0.999)
        },
        "late_p99_ms": round(percentile(lateness, 0.99), 3),
    }


def measure(
    port: int, request: Mapping[str, str], wanted: str, rate: float, seconds: float
) -> dict[str, Any]:
    """Run the generator in a process of its own. `wanted` stands in every answer that counts."""
    asked = {"port": port, "rate": rate, "seconds": seconds, "wanted": wanted, **request}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.open_loop"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    if done.returncode:
        raise BenchmarkFailed(f"the open loop ended with {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def drive(
    port: int, head: bytes, body: bytes, wanted: bytes, due: Sequence[float], prefix: bytes, grace_s: float
) -> tuple[Tally, float]:
    """Send every request when it is due; the tally and the end, in seconds from the start."""
    tally = Tally(due)
    sockets = [_connect(port) for _ in range(CONNECTIONS)]
    free: deque[socket.socket] = deque(sockets)
    under_way: dict[int, tuple[socket.socket, int, bytearray]] = {}
    poll = select.epoll()
    for connection in sockets:
        poll.register(connection.fileno(), select.EPOLLIN)
    start = time.perf_counter() + 0.01
    total, last = len(due), due[-1] + grace_s
    try:
        while (now := time.perf_counter() - start) < last and len(tally.answered) < total:
            number = len(tally.sent)
            if number < total and free and due[number] <= now:
                connection = free.popleft()
                unit = b"%b%010d" % (prefix, number)
                content = body.replace(UNIT, unit)
                tally.sent.append(now)
                connection.sendall(b"%b%d\r\n\r\n%b" % (head, len(content), content))
                under_way[connection.fileno()] = (connection, number, bytearray())
                continue
            pause = due[number] - now if number < total and free else 0.05
            # The poll itself waits whole milliseconds; select on it waits as short as it takes.
            if select.select([poll], [], [], max(pause, 0.0))[0]:
                for handle, _ in poll.poll(0):
                    _receive(handle, under_way, free, tally, wanted, start)
        return tally, time.perf_counter() - start
    finally:
        poll.close()
        for connection in sockets:
            connection.close()


def _receive(
    handle: int,
    under_way: dict[int, tuple[socket.socket, int, bytearray]],
    free: deque[socket.socket],
    tally: Tally,
    wanted: bytes,
    start: float,
) -> None:
    if handle not in under_way:
        raise BenchmarkFailed("the server closed a connection nothing was asked on")
    connection, number, received = under_way[handle]
    part = connection.recv(65536)
    if not part:
        raise BenchmarkFailed("the server closed a connection instead of answering")
    received += part
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0 or len(received) < head_end + 4 + _length(received[:head_end]):
        return
    tally.answered[number] = time.perf_counter() - start
    if not received.startswith(b"HTTP/1.1 200") or wanted not in received:
        tally.strange.append(received[:400].decode("utf-8", "replace"))
    del under_way[handle]
    free.append(connection)


def _length(head: bytearray) -> int:
    at = head.lower().find(b"\r\ncontent-length:")
    if at < 0:
        raise BenchmarkFailed(f"an answer without Content-Length: {bytes(head[:200])!r}")
    return int(head[at + 17 :].split(b"\r\n", 1)[0])


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _main() -> None:
    asked = json.load(sys.stdin)
    lines = [f"POST {asked['path']} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in asked["headers"].items()]
    head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode()
    due = due_times(asked["rate"], asked["seconds"] + WARM_UP_S)
    prefix = f"{time.time_ns():x}".encode()
    gc.collect()
    gc.disable()  # a pause of ours would be counted as the server's
    tally, end = drive(
        asked["port"], head, asked["body"].encode(), asked["wanted"].encode(), due, prefix, GRACE_S
    )
    json.dump(summary(tally, end, WARM_UP_S), sys.stdout)


if __name__ == "__main__":
    _main()
