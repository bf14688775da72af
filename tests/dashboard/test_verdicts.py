"""The verdict in three languages, chosen in a box and kept in the page's address."""

import pytest

from dashboard import verdicts, words
from tests.dashboard import fake_service

KINDS = ("toxic", "harmful", "healthy", "promising", "no_difference", "insufficient_data")


@pytest.mark.parametrize("tongue", ["it", "ro"])
def test_every_verdict_has_a_word_of_its_own_in_every_language(tongue: str) -> None:
    report = fake_service.report()
    said = set[str]()
    for kind in KINDS:
        report["verdict"]["kind"] = kind
        html = verdicts.banner(report, "socks", tongue)
        assert html.count(f'lang="{tongue}"') == 2
        assert report["verdict"]["sentences"][tongue] in html
        assert f"{words.state(kind)[2]}<" not in html, kind
        said.add(html)
    assert len(said) == len(KINDS)


def test_a_sentence_that_a_service_of_old_lacks_is_said_in_english() -> None:
    report = fake_service.report()
    del report["verdict"]["sentences"]
    html = verdicts.banner(report, "socks", "it")
    assert report["verdict"]["sentence"] in html
    assert "Healthy" in html
    assert 'lang="it"' not in html


def test_the_language_is_chosen_in_a_box_and_kept_in_the_address(fake, page_of) -> None:
    page = page_of(fake.url)
    page.app.selectbox(key="language").select("ro").run()
    page.assert_calm()
    assert page.app.query_params["lang"] in ("ro", ["ro"])
    assert "socks merită" in page.html
    assert "Sănătoasă" in page.html


@pytest.mark.parametrize(("asked", "said"), [("it", "socks conviene"), ("xx", "more than none and keeps")])
def test_the_address_chooses_the_language(fake, page_of, asked: str, said: str) -> None:
    page = page_of(fake.url, lang=asked)
    page.assert_calm()
    assert said in page.html
