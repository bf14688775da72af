"""The page of an evaluation: one file without requests, the figures of the JSON, the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.ope_log import rows, write_csv, write_mapping
from tests.sim.test_ope_command import as_json, asked, estimates
from tests.sim.test_ope_slates import slates
from tests.sim.test_report import Reader
from tests.sim.test_report_browser import CUT, OVERFLOW, Browser
from tests.sim.test_report_browser import browser as browser

NASTY = "<b>socks & bundle</b>"


def page(log: Path, mapping: Path, *arguments: str, code: int = 0) -> str:
    out = log.parent / "reports" / "out.html"
    done = asked(log, mapping, *arguments, "--report", str(out))
    assert done.exit_code == code, done.output
    assert f"the report: {out}" in done.stderr
    return out.read_text("utf-8")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    made = [row | {"offer": NASTY if row["offer"] == "bundle" else row["offer"]} for row in rows(3000)]
    return write_csv(tmp_path / "log.csv", made)


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    bandit = {"kind": "thompson", "control": "none", "floor": 0.05, "burn_in": 10}
    return write_mapping(tmp_path / "m.yaml", policies={"bandit": bandit})


def test_the_page_says_what_the_json_says(log: Path, mapping: Path) -> None:
    text = page(log, mapping, "--policy", "bandit", "--seed", "3")
    found, read = as_json(log, mapping, "--policy", "bandit", "--seed", "3"), Reader(text)
    named = estimates(found)
    assert f"By sndr it would have earned {named['sndr']['value']:.4g} a decision" in read.text
    assert f"the log's own policy earned {found['logged']['value']:.4g}" in read.text
    for one in named.values():
        assert f"{one['value']:.6g}" in read.text
    assert NASTY in read.text  # as text: escaped
    assert NASTY not in text
    assert read.tags.count("figure") == 3
    for name, value in (("seed", "3"), ("folds", "5"), ("learner", "mean"), ("policy", "bandit (thompson)")):
        assert f"{name}{value}" in read.text.replace("\n", "")


def test_nothing_is_asked_of_anybody_and_the_bytes_are_the_same(log: Path, mapping: Path) -> None:
    text = page(log, mapping, "--policy", "bandit")
    assert text == page(log, mapping, "--policy", "bandit")
    read = Reader(text)
    assert not {"script", "img", "iframe"} & set(read.tags)
    asks = [value for key, value in read.attributes if key in ("src", "href")]
    assert asks == ["data:,"]


def test_a_log_that_cannot_tell_says_so_on_its_page(log: Path, mapping: Path) -> None:
    new = {"kind": "fixed", "shares": {"none": 1, "hat": 1}}
    hats = write_mapping(
        log.with_name("hats.yaml"), policies={"new": new}, actions=["none", "socks", NASTY, "hat"]
    )
    text = Reader(page(log, hats, "--policy", "new", "--estimators", "ips,snips", code=1)).text
    assert "What it would have earned cannot be told from this log" in text
    assert "Refused: this log cannot say by weights" in text
    assert "refuse: 50.00% of the candidate's shares are on actions the log never took" in text
    found = log.read_text("utf-8").splitlines()
    cells = found[1].split(",")
    cells[4] = "0"
    log.write_text("\n".join([found[0], ",".join(cells), *found[2:]]), "utf-8")
    text = Reader(page(log, mapping, "--policy", "uniform", code=1)).text
    assert "their weights cannot be told" in text
    assert "By dm it would have earned" in text


def test_slates_have_a_page_too(tmp_path: Path) -> None:
    log, mapping = slates(tmp_path, "independently")
    text = Reader(page(log, mapping, "--policy", "bandit", "--bootstrap", "200")).text
    assert "By joint it would have earned" in text
    assert "200 bootstrap draws of units" in text
    assert Reader(page(log, mapping, "--policy", "logged")).tags.count("figure") == 2


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_cut_in_a_browser(browser: Browser, log: Path, mapping: Path, width: int) -> None:
    page(log, mapping, "--policy", "bandit")
    opened = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.goto((log.parent / "reports" / "out.html").as_uri())
    assert said == []
    assert opened.evaluate(OVERFLOW) == 0
    assert opened.evaluate(CUT) == []
    opened.close()
