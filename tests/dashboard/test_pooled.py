"""The pooled model's last fit on the page: by segment when it holds, a plain word when it does not."""

import pytest

from dashboard import pooled, reading, words
from tests.dashboard.fake_analysis import REFUSED, analysis, result

ABOUT = words.metric("margin_per_unit")


def test_segments_stand_with_the_largest_first_and_a_variant_without_units_has_none() -> None:
    rows = pooled.segment_rows(ABOUT, ["socks", "insoles"], result(), "margin_per_unit", "visitor")
    names = [
        next(name for name in ("All", "new", "returning", "No segment") if name in row[0]) for row in rows
    ]
    assert names == ["All", "new", "returning", "No segment"]
    assert "+€0.14" in rows[0][1]
    assert "plain +€0.18" in rows[0][1]
    assert "P(beats control) 97.0" in rows[0][1]
    assert rows[3][2] == "<td>–</td>"


def test_one_segment_alone_is_no_second_row() -> None:
    found = {**result(), "segments": {"": result()["variants"]}}
    assert len(pooled.segment_rows(ABOUT, ["socks"], found, "margin_per_unit", "visitor")) == 1


def test_a_refusal_is_plain_words_first_and_each_kind_once() -> None:
    first, runs, law = pooled.state_words(analysis("refused"))
    assert "no figures" in first
    assert runs.startswith("The sampler's runs disagree. Conversion: R-hat")
    assert law.count("look different from the real data") == 1
    assert "91.2" in law
    assert "90.1" in law
    assert pooled.state_words(analysis("done")) == []
    few = [{"code": "insufficient_data", "detail": "6 units bought, 20 are needed: wait"}]
    assert pooled.state_words(analysis("refused", reasons=few)) == [
        "The last fit was refused, so there are no figures.",
        "6 units bought, 20 are needed: wait.",
    ]


def test_the_page_shows_the_newest_fit_and_fetches_its_figures_once(fake, page_of) -> None:
    fake.analyses = [analysis(number="2"), analysis(number="3")]
    page = page_of(fake.url)
    page.assert_calm()
    assert "By segment, all at once" in page.html
    assert "rialto.db.analyses/3/draws.nc" in page.html
    page.app.run()
    fetched = [path for path, _ in fake.seen if "/analyses/" in path]
    assert fetched == ["/v1/experiments/checkout-addon/analyses/3"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("running", "It is being fitted."),
        ("failed", "The last fit ended without a result."),
        ("refused", None),
    ],
)
def test_an_earlier_fit_stands_in_but_not_for_one_that_was_refused(fake, page_of, state, said) -> None:
    fake.analyses = [analysis(number="2"), analysis(state, number="3")]
    page = page_of(fake.url)
    page.assert_calm()
    assert (said or "was refused, so there are no figures") in page.html
    assert ("draws.nc" in page.html) == (said is not None)
    assert (REFUSED[0]["detail"].partition(":")[2] in page.html) == (said is None)


def test_where_no_fit_was_asked_for_nothing_is_said(fake, page_of) -> None:
    assert "pooled model" not in page_of(fake.url).html
    assert reading.number(True) is None
