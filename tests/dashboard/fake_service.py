"""A stand-in for the service: the same paths and JSON shapes, on a real socket, with figures made up.

Run it by hand to work on the page: `python -m tests.dashboard.fake_service 8000`.
"""

import json
import math
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]

KEY = "sk_fake"
START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 28
VARIANTS = ("none", "socks", "insoles", "race-pack")


def interval(value: float, half: float) -> Json:
    return {"value": value, "ci_low": value - half, "ci_high": value + half}


def missing(reason: str) -> Json:
    return {"value": None, "ci_low": None, "ci_high": None, "reason": reason}


def metric(value: float, half: float, lift: float, lift_half: float, prob: float, base: float) -> Json:
    return {
        **interval(value, half),
        "ci_prob": 0.95,
        "numerator": 1,
        "denominator": 1,
        "lift_abs": interval(lift * base, lift_half * base),
        "lift_rel": interval(lift, lift_half),
        "prob_best": prob,
        "prob_beats_control": prob,
        "expected_loss": 0.0,
        "method": "test",
    }


def null_metric(reason: str) -> Json:
    return {
        **missing(reason),
        "ci_prob": 0.95,
        "numerator": 0,
        "denominator": 0,
        "lift_abs": missing(reason),
        "lift_rel": missing(reason),
        "prob_best": None,
        "prob_beats_control": None,
        "expected_loss": None,
        "method": None,
        "reason": reason,
    }


def variant_report(key: str, place: int) -> Json:
    """A variant's block; the further down the list, the more it earns and the more it is returned."""
    control, lift = place == 0, 0.03 * place
    share = (0.10, 0.62, 0.21, 0.07)[place]
    take = null_metric("no_offer") if control else metric(0.06 + 0.02 * place, 0.004, 0, 0, 0.6, 1)
    if not control:
        take["lift_abs"] = take["lift_rel"] = missing("no_offer")
        take["prob_beats_control"] = None
    prob = (0.01, 0.93, 0.05, 0.01)[place]
    beats = (0.0, 0.987, 0.81, 0.42)[place]

    def built(base: float, half: float, by: float, lower: bool = False) -> Json:
        block = metric(base * (1 + by), half, by, 0.021, prob, base)
        block["prob_beats_control"] = None if control else (1 - beats if lower else beats)
        if control:
            block["lift_abs"] = block["lift_rel"] = interval(0.0, 0.0)
        return block

    metrics = {
        "aov": built(8159.0, 96.0, lift),
        "aov_net": built(7721.0, 110.0, lift / 2),
        "take_rate": take,
        "click_through_rate": null_metric("no_offer") if control else metric(0.14, 0.01, 0, 0, 0.5, 1),
        "revenue_per_unit": built(2650.0, 61.0, lift),
        "margin_per_unit": built(612.0, 14.0, lift * 0.9),
        "conversion_rate": built(0.3247, 0.006, -0.003 * place),
        "cart_abandonment_rate": built(0.412, 0.008, 0.004 * place, lower=True),
        "refund_rate": built(0.071, 0.005, 0.05 * place, lower=True),
        "refund_value_rate": built(0.055, 0.005, 0.05 * place, lower=True),
        "rating_mean": null_metric("insufficient_data"),
        "ltv_90d": null_metric("insufficient_data"),
        "surveys_per_order": built(0.21, 0.01, 0.01),
    }
    return {
        "key": key,
        "is_control": control,
        "share": share,
        "assigned": 4200 + 3000 * place,
        "exposed": 4000 + 2900 * place,
        "units": 4000,
        "metrics": metrics,
    }


def normal_density(mean: float, sd: float) -> Json:
    xs = [mean + sd * (i - 50) / 12.5 for i in range(101)]
    return {"x": xs, "y": [math.exp(-((x - mean) ** 2) / (2 * sd**2)) / (sd * 2.5066) for x in xs]}


def guardrail(
    key: str, variant: str, mean: float, sd: float, margins: tuple[float, float, float], state: str
) -> Json:
    return {
        "metric": key,
        "variant": variant,
        "state": state,
        "prob_breach": {"warn": 0.31, "throttle": 0.08, "kill": 0.0004},
        "margins": dict(zip(("warn", "throttle", "kill"), margins, strict=True)),
        "absolute": key == "rating_mean",
        "lift": interval(mean, 1.96 * sd),
        "density": normal_density(mean, sd),
    }


def unknown_guardrail(key: str, variant: str) -> Json:
    return {
        "metric": key,
        "variant": variant,
        "state": "unknown",
        "prob_breach": None,
        "margins": {"warn": 2, "throttle": 5, "kill": 10},
        "absolute": True,
        "lift": missing("insufficient_data"),
        "density": None,
        "reason": "insufficient_data",
    }


def verdict() -> Json:
    sentence = (
        "socks earns +0.17 EUR margin per visitor (95 % credible interval +0.03 to +0.29) more than none "
    )
    sentence += "and keeps every guardrail."
    return {
        "variant": "socks",
        "kind": "healthy",
        "reason": "margin_up_and_held",
        "sentence": sentence,
        "sentences": {
            "en": sentence,
            "it": "socks conviene e rispetta tutti i limiti.",
            "ro": "socks merită și respectă toate limitele.",
        },
    }


def report() -> Json:
    now = START + timedelta(days=DAYS)
    guardrails: list[Json] = []
    for place, key in enumerate(VARIANTS[1:], start=1):
        guardrails += [
            guardrail("conversion_rate", key, -0.003 * place, 0.008, (0.01, 0.02, 0.04), "ok"),
            guardrail(
                "refund_rate",
                key,
                0.05 * place**2,
                0.06,
                (0.10, 0.20, 0.40),
                ("ok", "warn", "throttle")[place - 1],
            ),
            guardrail("cart_abandonment_rate", key, 0.004, 0.009, (0.02, 0.04, 0.08), "ok"),
            unknown_guardrail("rating_mean", key),
        ]
    return {
        "experiment": "checkout-addon",
        "currency": "EUR",
        "generated_at": now.isoformat(),
        "folded_through": now.isoformat(),
        "policy_version": 60,
        "unit": "visitor",
        "anchor": "assignment",
        "window": "7d",
        "matured": True,
        "objective": "margin_per_unit",
        "from": None,
        "to": None,
        "segment": None,
        "units_assigned": 34800,
        "units_exposed": 33400,
        "variants": [variant_report(key, place) for place, key in enumerate(VARIANTS)],
        "guardrails": guardrails,
        "checks": [
            {"name": "maturity", "state": "info", "detail": "34800 of 41200 units have their window closed"},
            {
                "name": "crossover",
                "state": "ok",
                "detail": "70 of 34800 units were seen in two variants (0.20%)",
            },
            {
                "name": "cost_unknown",
                "state": "warn",
                "detail": "12 orders have no cost, so margin is unknown",
            },
        ],
        "days": [
            {
                "day": (START + timedelta(days=day)).date().isoformat(),
                "variant": key,
                "assigned": 1240 * (1 + day % 3) // 4 + 40 * place,
                "units": 300,
            }
            for day in range(DAYS)
            for place, key in enumerate(VARIANTS)
        ],
        "verdict": verdict(),
        "value_remaining": {"leader": "socks", "per_unit": 3.2, "units_per_week": 9000, "per_week": 28800},
    }


def policy() -> Json:
    versions: list[Json] = []
    for number in range(60):
        pull = 1 - math.exp(-max(0, number - 6) / 14)
        best = {
            "none": 0.25 - 0.24 * pull,
            "socks": 0.25 + 0.68 * pull,
            "insoles": 0.25 - 0.2 * pull,
            "race-pack": 0.25 - 0.24 * pull,
        }
        shares = {key: 0.02 + 0.84 * value for key, value in best.items()}
        shares["none"] += 0.08
        versions.append(
            {
                "policy_version": number + 1,
                "epoch": number + 1,
                "published_at": (START + timedelta(hours=11 * number)).isoformat(),
                "cause": "shares_moved" if number else "started",
                "burn_in": number < 6,
                "held": None,
                "promoted": None,
                "sets": [
                    {
                        "candidates": list(VARIANTS),
                        "shares": shares,
                        "prob_best": None if number < 6 else best,
                        "posteriors": {key: {"mean": 600.0, "sd": 7.0, "n": 8000} for key in VARIANTS},
                    }
                ],
            }
        )
    return {
        "experiment": "checkout-addon",
        "policy_version": 60,
        "epoch": 60,
        "published_at": versions[-1]["published_at"],
        "cause": "shares_moved",
        "policy": {"kind": "thompson", "objective": "margin_per_unit", "control_share": 0.1, "floor": 0.02},
        "burn_in": False,
        "held": None,
        "sets": versions[-1]["sets"],
        "guardrails": [],
        "versions": versions,
    }


def changes() -> list[Json]:
    """A throttle and its end, a kill and its resume, a breaker that tripped; and one nobody acts on."""

    def one(subject: str, variant: str | None, before: str, after: str, numbers: Json, cause: str) -> Json:
        kind = "guardrail" if variant else "breaker"
        at = "2026-03-07T08:00:00Z"
        named = {"kind": kind, "subject": subject, "variant": variant, "before": before, "after": after}
        return {"at": at, "policy_version": 9, **named, "cause": cause, "numbers": numbers}

    odds = {"warn": 0.9999, "throttle": 0.97, "kill": 0.31}
    rail = {"prob_breach": odds, "units": 1840.0, "units_control": 5200.0, "reason": None}
    return [
        one("conversion_rate", "socks", "unknown", "ok", rail, "shares_moved"),
        one("conversion_rate", "race-pack", "ok", "throttle", rail, "guardrail"),
        one("conversion_rate", "race-pack", "throttle", "kill", rail, "guardrail"),
        one("conversion_rate", "race-pack", "kill", "throttle", rail, "resumed"),
        one("outcomes", None, "closed", "tripped", {"detail": "0 outcomes in the last hours"}, "breaker"),
        one("rating_mean", "socks", "throttle", "warn", {"reason": "insufficient_data"}, "edited"),
    ]


def experiment(key: str = "checkout-addon", state: str = "running") -> Json:
    return {
        "key": key,
        "state": state,
        "version": 1,
        "created_at": START.isoformat(),
        "started_at": None if state == "draft" else START.isoformat(),
        "document": {
            "key": key,
            "name": "An add-on at checkout",
            "hypothesis": "socks at checkout raise margin per visitor and hurt nothing",
            "touchpoint": "checkout",
            "unit": "visitor",
            "currency": "EUR",
            "policy": {"kind": "thompson", "objective": "margin_per_unit"},
            "metrics": [{"key": "surveys_per_order", "kind": "ratio", "event": "survey", "direction": "up"}],
        },
        "variants": [{"key": variant, "state": "active"} for variant in VARIANTS],
    }


class FakeService:
    """The server with what it answers; change the attributes between requests."""

    def __init__(self, port: int = 0) -> None:
        self.experiments = [experiment()]
        self.report, self.policy = report(), policy()
        self.changes: list[Json] = []
        self.analyses: list[Json] = []
        self.refuse: int | None = None  # 401 or 403 for every call
        self.raw: dict[str, tuple[int, bytes]] = {}  # path -> an answer of its own
        self.page_size = 200
        self.seen: list[tuple[str, dict[str, str]]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                status, body = service.answer(parts.path, query, self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def answer(self, path: str, query: dict[str, str], authorization: str) -> tuple[int, bytes]:
        self.seen.append((path, query))
        if path in self.raw:
            return self.raw[path]
        if authorization != f"Bearer {KEY}":
            return problem(401, "this key is unknown or revoked")
        if self.refuse is not None:
            return problem(self.refuse, "the key has no scope read")
        if path == "/v1/experiments":
            start = int(query.get("cursor", 0))
            end = start + self.page_size
            more = str(end) if end < len(self.experiments) else None
            return ok({"items": self.experiments[start:end], "next_cursor": more})
        key = path.removeprefix("/v1/experiments/").partition("/")[0]
        if key not in {item["key"] for item in self.experiments}:
            return problem(404, f"there is no experiment {key}")
        if "/analyses" in path:
            return self.analysis_answer(path.rpartition("/analyses")[2].removeprefix("/"))
        if path.endswith("/guardrail-changes"):
            return ok({"items": self.changes, "next_cursor": None})
        return ok(self.report if path.endswith("/report") else self.policy)

    def analysis_answer(self, number: str) -> tuple[int, bytes]:
        """All without their figures, or one with them."""
        if not number:
            return ok({"items": [{**one, "result": None} for one in self.analyses], "next_cursor": None})
        return ok(next(one for one in self.analyses if one["id"] == number))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def ok(body: Json) -> tuple[int, bytes]:
    return 200, json.dumps(body).encode()


def problem(status: int, detail: str) -> tuple[int, bytes]:
    return status, json.dumps({"type": "about:blank", "status": status, "detail": detail}).encode()


if __name__ == "__main__":
    print(FakeService(int(sys.argv[1])).url, flush=True)
