"""A wiki's API: the same crawl as over its dump, politely, whatever the server does."""

import email.utils
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corl.cli import main
from corl.rods.agent.api import ApiSource
from corl.rods.agent.api_client import ApiClient, Manners
from corl.rods.agent.command import crawl_from
from corl.rods.agent.crawl import CrawlPlan, crawl
from corl.rods.agent.request_cache import RequestCache

FILES = ("pages.xml", "visits.jsonl", "manifest.json")
WHO = "someone@example.org"
SEEDED = CrawlPlan(floor=-10.0, titles=("Glarnosis", "Lone drug"))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def outcomes(folder: Path) -> dict[str, str]:
    lines = (folder / "visits.jsonl").read_text().splitlines()
    return {visit["title"]: visit["outcome"] for visit in map(json.loads, lines)}


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(wiki, tmp_path: Path, clock: Clock):
    cache = RequestCache(tmp_path / "requests.sqlite")
    yield ApiClient(wiki.url, Manners(WHO, retries=3), cache, sleep=clock.sleep, clock=lambda: clock.now)
    cache.close()


def test_every_kind_of_title(wiki, tmp_path: Path) -> None:
    manifest = crawl_from(tmp_path / "out", SEEDED, api=wiki.url, contact=WHO, pause_s=0.0)
    assert outcomes(tmp_path / "out") == {
        "Glarnosis": "entity", "Lone drug": "entity", "Kepler syndrome": "entity", "Vandolol": "entity",
        "Prudosis": "entity", "Vobble fever": "entity", "Section disease": "entity", "Glarnella": "no_box",
        "Vando blocker": "no_box", "Trosk (disambiguation)": "disambiguation", "Old prudosis": "redirect",
        "Double old prudosis": "redirect", "Part of prudosis": "redirect_elsewhere", "Ring A": "redirect",
        "Ring B": "redirect_circle", "Heat spells": "normalised", "Heat spell": "missing",
        "Nowhere rash": "missing", "Marn exposure": "missing",
    }  # fmt: skip
    assert manifest["answers"] == len(wiki.requests)
    assert manifest["source"] == {"api": wiki.url}


def test_as_over_the_dump(wiki, dump: Path, tmp_path: Path) -> None:
    """The same visits in the same order for the same reasons; revisions of redirects are the dump's alone."""
    # the API alone tells of a normalised title
    wiki.pages = {title: text.replace("[[Heat spells]]", "heat") for title, text in wiki.pages.items()}
    dump.write_text(dump.read_text().replace("[[Heat spells]]", "heat"))
    crawl_from(tmp_path / "dump", SEEDED, dump=dump)
    crawl_from(tmp_path / "api", SEEDED, api=wiki.url, contact=WHO, pause_s=0.0)

    def entities(folder: Path) -> list[dict]:
        found = [json.loads(line) for line in (folder / "visits.jsonl").read_text().splitlines()]
        return [{**visit, "n": 0} for visit in found if visit["outcome"] in ("entity", "no_box")]

    assert entities(tmp_path / "api") == entities(tmp_path / "dump")
    assert "Glarn's disease" in (tmp_path / "api" / "pages.xml").read_text()


def test_a_disambiguation_that_only_the_wiki_knows(wiki, client: ApiClient, tmp_path: Path) -> None:
    properties = {**wiki._page("Prudosis", True), "pageprops": {"disambiguation": ""}}
    wiki.faults = [(200, {}, json.dumps({"batchcomplete": True, "query": {"pages": [properties]}}).encode())]
    plan = CrawlPlan(titles=("Prudosis",))
    crawl(ApiSource(client, ()), tmp_path / "out", plan)
    assert outcomes(tmp_path / "out") == {"Prudosis": "disambiguation"}
    assert "Prudosis" not in (tmp_path / "out" / "pages.xml").read_text()


def test_seeds_by_transclusion(wiki, tmp_path: Path) -> None:
    wiki.seeds_an_answer = 2
    manifest = crawl_from(tmp_path / "out", CrawlPlan(), api=wiki.url, contact=WHO, pause_s=0.0)
    assert manifest["seeds"] == 7
    asked = [query["eititle"] for query in wiki.requests if "eititle" in query]
    assert len(set(asked)) == 4 and asked.count("Template:Infobox medical condition (new)") == 3
    assert [q.get("eicontinue") for q in wiki.requests[1:4]] == [None, "2", "4"]


def test_texts_over_several_answers(wiki, tmp_path: Path) -> None:
    crawl_from(tmp_path / "one", SEEDED, api=wiki.url, contact=WHO, pause_s=0.0)
    requests = len(wiki.requests)
    wiki.texts_an_answer = 1
    crawl_from(tmp_path / "many", SEEDED, api=wiki.url, contact=WHO, pause_s=0.0)
    assert len(wiki.requests) > 2 * requests
    for name in ("pages.xml", "visits.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()


def test_manners(wiki, client: ApiClient, clock: Clock) -> None:
    source = ApiSource(client, ())
    source.fetch(["Glarnosis"])
    source.fetch([f"{'Long title ' * 20}{i}" for i in range(50)])
    assert wiki.methods == ["GET", "POST"]
    assert clock.slept == [1.0]
    for query, headers in zip(wiki.requests, wiki.headers, strict=True):
        assert query["maxlag"] == "5" and query["redirects"] == "1"
        assert headers["Accept-Encoding"] == "gzip"
        assert headers["User-Agent"].startswith("corl") and WHO in headers["User-Agent"]
    assert wiki.most_busy == 1


def test_nothing_is_asked_twice(wiki, tmp_path: Path) -> None:
    crawl_from(tmp_path / "out", SEEDED, api=wiki.url, contact=WHO, pause_s=0.0)
    asked = [json.dumps(query, sort_keys=True) for query in wiki.requests]
    titles = [title for query in wiki.requests for title in query["titles"].split("|")]
    assert len(set(asked)) == len(asked) and len(set(titles)) == len(titles)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "crawl.sqlite").unlink()  # begun anew, over what was answered before
    crawl_from(tmp_path / "out", SEEDED, api=wiki.url, contact=WHO, pause_s=0.0)
    assert len(wiki.requests) == len(asked)
    assert contents(tmp_path / "out") == before


MAXLAG = json.dumps({"error": {"code": "maxlag", "info": "Waiting for db1: 7 seconds lagged.", "lag": 7}}).encode()


@pytest.mark.parametrize(
    ("faults", "slept"),
    [
        ([(200, {"Retry-After": "7"}, MAXLAG)], [7.0]),
        ([(429, {"Retry-After": "40"}, b"slow down")], [40.0]),
        ([(503, {}, b"<html>"), (500, {}, b""), (502, {}, b"")], [1.0, 2.0, 4.0]),
        ([(200, {}, b"<html>not JSON</html>")], [1.0]),
        ([(200, {"Content-Encoding": "gzip"}, b"not gzip")], [1.0]),
        ([(429, {"Retry-After": "0"}, b"")], [1.0]),  # never less than the pause
    ],
)
def test_back_off(wiki, client: ApiClient, clock: Clock, faults: list, slept: list[float]) -> None:
    wiki.faults = list(faults)
    (page,) = ApiSource(client, ()).fetch(["Glarnella"])
    assert page.outcome == "page" and b"invented" in page.raw
    assert clock.slept == slept
    assert len(wiki.requests) == len(faults) + 1


def test_retry_after_as_a_date(wiki, client: ApiClient, clock: Clock) -> None:
    wiki.faults = [(429, {"Retry-After": email.utils.formatdate(time.time() + 100, usegmt=True)}, b"")]
    ApiSource(client, ()).fetch(["Glarnella"])
    assert 60 < clock.slept[0] <= 100


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([(503, {}, b"")] * 4, "gave no answer in 4 tries"),
        ([(429, {"Retry-After": "7200"}, b"")], "wants 7200 s of rest"),
        ([(404, {}, b"")], "answers HTTP 404"),
        ([(403, {}, b"")], "answers HTTP 403"),
        ([(200, {}, b"[]")], "answers with a list"),
        ([(200, {}, b'{"error": {"code": "badvalue", "info": "no"}}')], "refuses: badvalue: no"),
    ],
)
def test_what_cannot_be_helped(wiki, client: ApiClient, faults: list, message: str) -> None:
    wiki.faults = list(faults)
    with pytest.raises(ValueError, match=message):
        ApiSource(client, ()).fetch(["Glarnella"])
    assert len(wiki.requests) == len(faults)


def test_a_circle_of_continues(wiki, client: ApiClient) -> None:
    wiki.faults = [(200, {}, b'{"continue": {"rvcontinue": "1"}, "query": {}}')] * 3
    with pytest.raises(ValueError, match="continues in a circle"):
        ApiSource(client, ()).fetch(["Glarnella"])


def test_odd_answers(wiki, client: ApiClient) -> None:
    found = {page.title: page.outcome for page in ApiSource(client, ()).fetch(["A|B", "A<b", "xx:Cold", "Nothing"])}
    assert found == {"A|B": "invalid", "A<b": "invalid", "xx:Cold": "interwiki", "Nothing": "missing"}
    hidden = {"pages": [{"ns": 0, "title": "Vandolol", "pageid": 1, "revisions": [{"revid": 1, "slots": {}}]}]}
    wiki.faults = [(200, {}, json.dumps({"batchcomplete": True, "query": hidden}).encode())]
    told = ApiSource(client, ()).fetch(["Vandolol", "Lost in the answer"])
    assert [page.outcome for page in told] == ["no_text", "unanswered"]


def test_a_page_that_would_break_an_export(wiki, tmp_path: Path) -> None:
    wiki.pages = {"Glar \"x\" & 'y'": wiki.pages["Glarnosis"] + "</text></revision></page>\x0b<page> & ]]>"}
    wiki.redirects = {'Q "z"': "Glar \"x\" & 'y'"}
    plan = CrawlPlan(titles=('Q "z"',))
    crawl_from(tmp_path / "out", plan, api=wiki.url, contact=WHO, pause_s=0.0)
    from corl.rods.extraction.extract import extract

    assert extract(tmp_path / "out" / "pages.xml", tmp_path / "graph").read == 1
    assert 'Q "z"' in (tmp_path / "graph" / "aliases.tsv").read_text()


@pytest.mark.parametrize("contact", ["", "someone", "a b@c.org", "x@y.org\r\nEvil: 1", "m\u00fc@x.org"])
def test_no_contact(wiki, tmp_path: Path, contact: str) -> None:
    with pytest.raises(ValueError, match="--contact"):
        crawl_from(tmp_path / "out", SEEDED, api=wiki.url, contact=contact)
    assert not wiki.requests


def test_no_contact_on_the_command_line(wiki, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["rods", "crawl", "--api", wiki.url, "--out", str(tmp_path / "out")])
    assert stop.value.code == 2 and "--api needs --contact" in capsys.readouterr().err
    assert not wiki.requests


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://x/api.php", "en.wikipedia.org", "http://x/?a=b"])
def test_no_api(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="--api is"):
        crawl_from(tmp_path / "out", SEEDED, api=url, contact=WHO)


def test_a_server_that_throttles_all_the_time(wiki, tmp_path: Path, clock: Clock) -> None:
    crawl_from(tmp_path / "calm", SEEDED, api=wiki.url, contact=WHO, pause_s=0.0)
    faults = [(429, {"Retry-After": "3"}, b""), (200, {"Retry-After": "5"}, MAXLAG), (500, {}, b"")]
    wiki.at_request = lambda number: wiki.faults.append(faults[number % 3]) if number % 2 else None
    cache = RequestCache(tmp_path / "r.sqlite")
    client = ApiClient(wiki.url, Manners(WHO), cache, sleep=clock.sleep, clock=lambda: clock.now)
    crawl(ApiSource(client, cache), tmp_path / "rough", SEEDED)
    cache.close()
    assert contents(tmp_path / "rough") == contents(tmp_path / "calm")
    assert sum(clock.slept) > 5


@pytest.mark.slow
def test_sigkill_in_the_middle_of_a_request(wiki, tmp_path: Path) -> None:
    words = ["rods", "crawl", "--api", wiki.url, "--contact", WHO, "--pause", "0", "--batch", "2", "--floor", "-10"]
    command = [sys.executable, "-m", "corl.cli", *words, "--seed", "Glarnosis", "Lone drug"]
    plan = CrawlPlan(floor=-10.0, titles=("Glarnosis", "Lone drug"), batch=2)
    crawl_from(tmp_path / "whole", plan, api=wiki.url, contact=WHO, pause_s=0.0)
    whole = len(wiki.requests)
    for at in (2, 5):
        begun = len(wiki.requests)
        process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], stdout=subprocess.DEVNULL)
        wiki.at_request = lambda n, p=process, last=begun + at: os.kill(p.pid, signal.SIGKILL) if n == last else None
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "killed" / "manifest.json").exists()
    wiki.at_request = lambda number: None
    crawl_from(tmp_path / "killed", plan, api=wiki.url, contact=WHO, pause_s=0.0)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    # only the two requests that were killed before their answer came were asked again
    assert len(wiki.requests) - whole == whole + 2
