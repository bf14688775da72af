"""The report of a run: figures redone by hand, one file without requests, the same bytes each time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sim.report.lifts import coverage, fans, true_lift
from sim.report.markup import element
from sim.report.opening import sentence
from sim.report.page import page_of, write_page
from sim.report.plot import Axis, Plot
from sim.report.scales import round_ticks, short_money, whole
from sim.report.series import (
    best_single,
    given_in,
    guardrail_states,
    part_in,
    profit,
    published,
    regret,
    troubled,
)
from sim.report.tables import variants_table
from sim.runner.command import run_command
from sim.runner.run import Run
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios import scenarios
from sim.worlds.truth import true_lifts, truth
from tests.sim.report_runs import DAYS, WINDOW, plain_run

VOID = {"meta", "link"}


class Reader(HTMLParser):
    """The elements of a page; fails where one is not closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data


def test_the_sentence_tells_what_can_be_redone_on_paper() -> None:
    """Earned 1,100, 1,120 and 1,140 a day, nothing earns 1,000: 120 a day more, 840 a week, that is 8.40.
    Regret is 280 of 1,400: a fifth. Of 100 customers 9 saw worse."""
    assert sentence(plain_run()) == (
        "Against no offers it earned €8.40 a week more; regret was 20 % of what could be had; "
        "9 % of customers saw something worse than nothing."
    )


def test_the_sentence_of_a_loss_and_of_nothing_either_way() -> None:
    run = plain_run(1)
    worse = replace(run.replications[0], expected_minor=np.full(DAYS, 990.0))
    same = replace(run.replications[0], expected_minor=np.full(DAYS, 1_000.0 - 1e-9))
    assert "earned €0.70 a week less;" in sentence(Run(run.settings, (worse,)))
    assert "earned neither more nor less;" in sentence(Run(run.settings, (same,)))


def test_series_are_cumulative_and_begin_at_nothing() -> None:
    run = plain_run()
    days = np.arange(DAYS + 1)
    found = profit(run)
    np.testing.assert_allclose(regret(run).mean, 280.0 * days)
    np.testing.assert_allclose(regret(run).quantiles[2], 280.0 * days)
    np.testing.assert_allclose(found.earned.mean, 120.0 * days)
    np.testing.assert_allclose(found.earned.quantiles[0], 102.0 * days)  # 5 % between 100 and 120
    np.testing.assert_allclose(found.oracle.mean, 400.0 * days)
    np.testing.assert_allclose(found.best.mean, 300.0 * days)


def test_a_newcomer_earns_nothing_before_it_comes() -> None:
    """Socks for all would be best, but from day 10 on: 1,000 for 10 days, 1,300 for 4."""
    run = plain_run(1)
    world = run.settings.scenario.world
    effects = tuple(
        replace(effect, arrives=10) if effect.variant == "socks" else effect for effect in world.effects
    )
    scenario = replace(run.settings.scenario, world=replace(world, effects=effects))
    run = Run(replace(run.settings, scenario=scenario), run.replications)
    one = run.replications[0]
    assert best_single(run, one).sum() == 10 * 1_000 + 4 * 1_300
    assert one.if_all_minor[0].tolist() == [1_000.0, 800.0, 1_300.0], "the run itself stays as it was"
    assert true_lift(scenario, "socks", 9) is None
    assert true_lift(scenario, "pro-shoe", 9) is not None


def test_a_plot_places_what_it_draws() -> None:
    """The frame leaves 58 pixels at the left, 12 at the right, 12 above and 44 below of 400 x 250."""
    axes = Axis([0, 5, 10], whole, "day"), Axis([-50, 0, 50], whole, "")
    plot = Plot(*axes)
    plot.line([0, 5, 10], [-50, 0, 50], "line")
    plot.steps([0, 0], [50, 25], "band")
    drawn = plot.svg("what there is to see")
    assert 'points="58.0,206.0 223.0,109.0 388.0,12.0"' in drawn
    assert 'points="58.0,12.0 91.0,12.0 91.0,60.5 124.0,60.5 124.0,109.0 91.0,109.0 91.0,109.0 58.0' in drawn
    assert re.findall(r">(-?\d+)</text>", drawn) == ["-50", "0", "50", "0", "5", "10"]


def test_guardrail_states_are_parts_of_replications() -> None:
    """Of three, pro-shoe stays at warn in one; in two it is throttled on day 4 and killed from day 5 on."""
    states = guardrail_states(plain_run())
    assert part_in(states, 1, "warn").tolist() == [0, 0, 1, *[1 / 3] * (DAYS - 3)]
    assert part_in(states, 1, "throttle").tolist() == [0, 0, 0, 2 / 3, *[0] * (DAYS - 4)]
    assert part_in(states, 1, "kill").tolist() == [0, 0, 0, 0, *[2 / 3] * (DAYS - 4)]
    assert troubled(states) == [1]


def test_a_fan_holds_the_truth_of_closed_windows_only() -> None:
    """The windows of three days have closed of those who came on days 0 to 3 at the look on day 6."""
    run = plain_run()
    (fan,) = fans(run, most=3)
    assert fan.variant == "socks"
    assert fan.days.tolist() == [7, 14]
    assert fan.named.tolist() == [3, 3]
    assert fan.quantiles[2].tolist() == [151.0, 181.0]
    assert fan.interval.tolist() == [[50.0, 120.0], [250.0, 250.0]]
    scenario = run.settings.scenario
    by_day = [
        true_lifts(truth(scenario.world, day=day, window=WINDOW), "none")["socks"].absolute
        for day in range(4)
    ]
    weights = np.array(scenario.world.season.weekday_traffic[:4])  # it starts on a Monday
    assert fan.truth[0] == pytest.approx(np.average(by_day, weights=weights), rel=1e-12)
    assert true_lift(scenario, "socks", 2) is None, "nobody's window has closed"


def test_coverage_counts_the_last_looks_that_hold_the_truth() -> None:
    run = plain_run()
    true = true_lift(run.settings.scenario, "socks", 13)
    assert true is not None
    assert coverage(run) == (3, 3)
    first = run.replications[0]
    wrong = replace(first, looks=(replace(first.looks[-1], lift_low=true + 1, lift_high=true + 2),))
    silent = replace(first, looks=(replace(first.looks[-1], lift_low=None),))
    assert coverage(Run(run.settings, (wrong, silent, run.replications[1]))) == (1, 2)


def test_a_policy_by_segment_shows_what_each_segment_was_given() -> None:
    run = plain_run(1)
    assert published(run)[0, 0].tolist() == [0.2, 0.1, 0.7]
    assert given_in(run, 0)[0, 0].tolist() == [15 / 29, 4 / 29, 10 / 29]
    assert given_in(run, 2)[0, 0].tolist() == [0, 2 / 22, 20 / 22]
    scenario = replace(
        run.settings.scenario,
        experiment=replace(
            run.settings.scenario.experiment, policy=scenarios()["segment_flip"].experiment.policy
        ),
    )
    split = Run(replace(run.settings, scenario=scenario), run.replications)
    titles = re.findall(r"Who got the traffic[^<]*", page_of(split))
    assert titles == [f"Who got the traffic: {name}" for name in ("new", "loyal", "price_sensitive")]
    assert "At the end: none (control) 51.7 %, socks 34.5 %, pro-shoe 13.8 %." in page_of(split)
    assert "At the end: none (control) 10.2 %, socks 81.6 %, pro-shoe 8.2 %." in page_of(split)


def test_a_run_of_months_counts_what_segments_were_given_by_the_week(monkeypatch: pytest.MonkeyPatch) -> None:
    run = plain_run(2)
    monkeypatch.setattr("sim.report.series.MONTHS_D", run.settings.scenario.days - 1)
    week = given_in(run, 0)
    for number, one in enumerate(run.replications):
        for day in range(len(one.customers)):
            last = one.by_segment[max(0, day - 6) : day + 1, :, 0].sum(axis=0)
            assert np.allclose(week[number, day], last / last.sum())


def test_the_table_of_variants_has_truth_beside_what_was_found() -> None:
    read = Reader(variants_table(plain_run()))
    assert read.text.index("socks") < read.text.index("none (control)") < read.text.index("pro-shoe")
    lifts = true_lifts(truth(plain_run().settings.scenario.world, window=WINDOW), "none")
    assert f"+€{lifts['socks'].absolute / 100:.2f}" in read.text
    assert "+€1.81" in read.text, "the mean of the last looks: 180, 181 and 182"


def test_the_page_is_whole_asks_for_nothing_and_tells_every_plot_in_words() -> None:
    page = page_of(plain_run())
    read = Reader(page)
    assert not {"script", "iframe", "img", "object", "base", "form"} & set(read.tags)
    assert {key for key, _ in read.attributes} & {"src", "srcset", "onload", "href"} == {"href"}
    assert [value for key, value in read.attributes if key == "href"] == ["data:,"]
    assert not re.search(r"https?://|url\(|@import|@font-face", page)
    alts = [value for key, value in read.attributes if key == "aria-label"]
    assert len(alts) == read.tags.count("figcaption") == 6
    assert all(value and len(value) > 40 for value in alts)
    for said in (
        "The toxic upsell",
        "Guardrails: pro-shoe",
        "median of 2 that had one",
        "by the look that decided, of 3: healthy 2, undecided 1.",
        "Lift of margin per visitor: socks",
        "names in 3 of 3. The check of the sample ratio warned at 1 of 6 looks.",
        "SHOE-1",
    ):
        assert said in read.text


def test_what_a_file_says_is_escaped() -> None:
    """A title from a file of somebody else's cannot bring a script into the page."""
    page = page_of(plain_run(1, title="<script>alert(1)</script>", claim='"><img src=x onerror=alert(2)>'))
    read = Reader(page)
    assert "script" not in read.tags
    assert "img" not in read.tags
    assert "<script>alert(1)</script>" in read.text
    assert element("p", "a < b", title='"') == '<p title="&quot;">a &lt; b</p>'


def test_an_interrupted_run_says_so_and_one_without_results_too() -> None:
    run = plain_run()
    part = Run(run.settings, run.replications[:1])
    assert "Interrupted" in page_of(part)
    assert "1 of 3 replications" in page_of(part)
    none = Reader(page_of(Run(run.settings, ())))
    assert "nothing to show" in none.text
    assert "Settings" in none.text


def test_a_run_by_sampling_shows_no_looks_and_says_what_it_left_out(tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    sizes = ["--replications", "3", "--customers", "900", "--days", "9", "--evaluation", "sampled"]
    result = CliRunner().invoke(
        run_command, ["fatigue", *sizes, "--executor", "serial", "--report", str(page)]
    )
    assert result.exit_code == 0, result.output
    read = Reader(page.read_text("utf-8"))
    assert read.tags.count("figcaption") == 3
    assert "Decided by sampling, which leaves out: guardrails," in read.text
    assert "Share of the customers, day by day" in read.text
    assert "Published" not in read.text
    assert "verdict, median" not in read.text


def test_the_same_run_is_the_same_bytes(tmp_path: Path) -> None:
    """Also in another process, where sets and hashes fall differently."""
    write_page(plain_run(), tmp_path / "new" / "one.html")
    code = (
        "import sys; from pathlib import Path; from sim.report.page import write_page; "
        "from tests.sim.report_runs import plain_run; write_page(plain_run(), Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "other.html")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        check=True,
    )
    assert (tmp_path / "other.html").read_bytes() == (tmp_path / "new" / "one.html").read_bytes()


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(
            one, id=one.key, marks=[pytest.mark.slow] if max(one.arrives.values(), default=0) > 60 else []
        )
        for one in scenarios().values()
    ],
)
def test_every_scenario_has_its_report(scenario: Scenario, tmp_path: Path) -> None:
    latest = max(effect.arrives for effect in scenario.world.effects)
    days = latest + 2 if latest else 2 if len(scenario.world.effects) > 50 else 4
    page = tmp_path / "out.html"
    sizes = ["--replications", "2", "--customers", "800", "--days", str(days), "--look-every", "366d"]
    sizes += ["--cadence", "20d" if latest else "1d"]  # a look a day until it comes would take long
    command = [scenario.key, *sizes, "--executor", "serial", "--report", str(page)]
    result = CliRunner().invoke(run_command, command)
    assert result.exit_code == 0, result.output
    read = Reader(page.read_text("utf-8"))
    for said in (scenario.title, scenario.claim, scenario.ground_truth, "Who got the traffic"):
        assert said in read.text
    assert "nan" not in page.read_text("utf-8").split("<body>")[1].replace("finance", "")


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 0.37), (-13, 11), (-5, 0), (0, 9_999_999), (3, 3), (0, 1e-9)]
)
def test_ticks_are_round_few_and_go_round_what_is_drawn(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    steps = np.diff(ticks)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12
    np.testing.assert_allclose(steps, steps[0])
    digits = f"{steps[0]:.6e}".rstrip("0123456789+-").rstrip("e").rstrip("0").rstrip(".")
    assert digits in ("1", "2", "2.5", "5")


def test_amounts_of_currencies_without_a_sign_or_cents() -> None:
    assert short_money("JPY")(12_000) == "¥12k"
    assert short_money("RON")(-12_000) == "-RON 120"
