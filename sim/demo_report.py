"""The demo's report as tables for a terminal, with the truth that only a simulation knows beside it."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from experiments.money import exponent
from sim.shop.api import Json
from sim.shop.truth import VariantTruth


def print_report(console: Console, report: Json, true_values: Mapping[str, VariantTruth]) -> None:
    """Every variant with its money, its side effects and the truth; guardrails and verdict below."""
    currency = report["currency"]
    table = Table(title=f"{report['experiment']}: {report['units_assigned']} visitors", title_justify="left")
    for heading in ("variant", "share", "visitors", "take rate", "AOV", "conversion", "refund rate"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for heading in (f"margin per visitor, {currency}", "95 % interval", "true", "P(best)"):
        table.add_column(heading, justify="right")
    for variant in report["variants"]:
        metrics: Json = variant["metrics"]
        margin = metrics["margin_per_unit"]
        table.add_row(
            variant["key"] + (" (control)" if variant["is_control"] else ""),
            _percent(variant["share"]),
            str(variant["assigned"]),
            _percent(_value(metrics, "take_rate")),
            _money(_value(metrics, "aov"), currency),
            _percent(_value(metrics, "conversion_rate")),
            _percent(_value(metrics, "refund_rate")),
            _money(margin["value"], currency),
            f"{_money(margin.get('ci_low'), currency)} to {_money(margin.get('ci_high'), currency)}",
            _money(true_values[variant["key"]].margin_per_unit, currency),
            _percent(margin.get("prob_best")),
        )
    console.print(table)
    for guardrail in report["guardrails"]:
        if guardrail["state"] not in ("ok", "unknown"):
            console.print(
                f"guardrail {guardrail['metric']} of {guardrail['variant']}: {guardrail['state']}",
                highlight=False,
            )
    console.print(f"verdict: {report['verdict']['sentence']}", highlight=False)


def shares_line(policy: Json) -> str:
    """The current shares of the candidate set seen most, on one line."""
    if not policy["sets"]:
        return "no shares yet"
    shares: Mapping[str, float] = policy["sets"][0]["shares"]
    return "  ".join(f"{key} {share:.0%}" for key, share in shares.items())


def _value(metrics: Json, key: str) -> float | None:
    return metrics[key]["value"] if key in metrics else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _money(minor: float | None, currency: str) -> str:
    digits = exponent(currency)
    return "-" if minor is None else f"{minor / 10**digits:.{digits}f}"
