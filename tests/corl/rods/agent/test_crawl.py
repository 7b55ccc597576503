"""The crawl over a dump: order, budget, floor, log lines, and the same bytes however it is interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corl.cli import main
from corl.rods.agent.command import crawl_from
from corl.rods.agent.crawl import CrawlPlan
from corl.rods.agent.frontier import Frontier
from corl.rods.extraction.extract import extract
from corl.rods.extraction.synthetic_dump import write_dump
from corl.rods.graph import load_graph

FILES = ("pages.xml", "visits.jsonl", "manifest.json")
ALL = CrawlPlan(floor=-10.0)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def visits(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "visits.jsonl").read_text().splitlines()]


def outcomes(folder: Path) -> dict[str, str]:
    return {visit["title"]: visit["outcome"] for visit in visits(folder)}


def test_from_one_seed_all_that_is_linked(dump: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = crawl_from(out, CrawlPlan(floor=-10.0, titles=("glarnosis",)), dump=dump)
    assert outcomes(out) == {
        "Glarnosis": "entity", "Vandolol": "entity", "Prudosis": "entity", "Vobble fever": "entity",
        "Section disease": "entity", "Old prudosis": "redirect", "Ring A": "redirect", "Ring B": "redirect_circle",
        "Glarnella": "no_box", "Vando blocker": "no_box", "Trosk (disambiguation)": "disambiguation",
        "Nowhere rash": "missing", "Marn exposure": "missing", "Heat spells": "missing",
    }  # fmt: skip
    assert manifest["stopped"] == "frontier_empty"
    assert manifest["entities"] == {"disease": 4, "drug": 1}
    assert manifest["source"]["dump_date"] == "2024-01-01"
    assert manifest["outcomes"]["missing"] == 3
    assert len(visits(out)) == manifest["visits"] == 14
    assert [visit["n"] for visit in visits(out)] == list(range(1, 15))


def test_a_visit_says_why_and_what_it_gained(dump: Path, tmp_path: Path) -> None:
    crawl_from(tmp_path / "out", CrawlPlan(floor=-10.0, titles=("Glarnosis",)), dump=dump)
    by_title = {visit["title"]: visit for visit in visits(tmp_path / "out")}
    first = visits(tmp_path / "out")[0]
    assert first["title"] == "Glarnosis" and first["revision"] == "101"
    assert first["why"] == {"slot": "seed", "from": None, "depth": 0, "links": 1}
    assert first["rarity"] == "rare" and first["type"] == "disease"
    # itself; fever, rash, bacterium, drug, two differentials; the two of the prose have no type that fits
    assert first["gained"]["nodes"] == first["gained"]["edges"] + 1
    assert first["gained"]["strong"] == 6
    assert first["gained"]["queued"] == 8
    drug = by_title["Vandolol"]
    assert drug["why"] == {"slot": "infobox:medication", "from": "Glarnosis", "depth": 1, "links": 1}
    assert drug["parts"]["depth"] == -0.1
    # indicated_for is treated_with_drug read backwards: the page of the disease had brought that edge
    assert drug["gained"]["edges"] == 2
    assert by_title["Section disease"]["why"]["slot"] == "section:Causes"
    assert by_title["Nowhere rash"]["gained"] == {"nodes": 0, "edges": 0, "strong": 0, "queued": 0}
    assert by_title["Prudosis"]["why"]["links"] == 2  # the redirect's link counts for its target
    for visit in visits(tmp_path / "out"):
        assert visit["score"] == pytest.approx(sum(visit["parts"].values()))


def test_infobox_links_before_section_links(dump: Path, tmp_path: Path) -> None:
    plan = CrawlPlan(floor=-10.0, titles=("Glarnosis",), batch=1)
    crawl_from(tmp_path / "out", plan, dump=dump)
    why = [visit["why"] for visit in visits(tmp_path / "out") if visit["why"]["from"] == "Glarnosis"]
    infobox = [slot["slot"].startswith("infobox:") for slot in why]
    assert infobox == sorted(infobox, reverse=True) and {True, False} == set(infobox)


def test_rare_ones_are_preferred_while_they_lack(dump: Path, tmp_path: Path) -> None:
    crawl_from(tmp_path / "out", CrawlPlan(floor=-10.0, entities=1), dump=dump)
    assert [v["title"] for v in visits(tmp_path / "out") if v["outcome"] == "entity"] == ["Glarnosis"]
    crawl_from(tmp_path / "out", CrawlPlan(floor=-10.0, entities=7), dump=dump)
    parts = {v["title"]: v["parts"]["rarity"] for v in visits(tmp_path / "out")}
    assert parts["Glarnosis"] == 0.3 and parts["Kepler syndrome"] == 0.0  # nothing lacks after the first
    assert parts["Prudosis"] == 0.0


def test_seeds_are_the_pages_with_a_box(dump: Path, tmp_path: Path) -> None:
    manifest = crawl_from(tmp_path / "a", ALL, dump=dump)
    assert manifest["seeds"] == 7
    manifest = crawl_from(
        tmp_path / "b", CrawlPlan(boxes=("Template:Infobox drug",), titles=("Prudosis",)), dump=dump
    )  # fmt: skip
    assert manifest["seeds"] == 3
    with pytest.raises(ValueError, match="no article to begin with"):
        crawl_from(tmp_path / "c", CrawlPlan(boxes=("Infobox ship",)), dump=dump)


def test_budget_and_going_on_with_a_higher_one(dump: Path, tmp_path: Path) -> None:
    small = crawl_from(tmp_path / "grown", CrawlPlan(entities=2), dump=dump)
    assert small["stopped"] == "entity_budget" and sum(small["entities"].values()) == 2
    assert (tmp_path / "grown" / "pages.xml").read_text().count("{{Infobox") == 2
    crawl_from(tmp_path / "grown", CrawlPlan(entities=5), dump=dump)
    crawl_from(tmp_path / "fresh", CrawlPlan(entities=5), dump=dump)
    assert contents(tmp_path / "grown") == contents(tmp_path / "fresh")
    with pytest.raises(ValueError, match="holds 5 entities already and --entities is 4"):
        crawl_from(tmp_path / "grown", CrawlPlan(entities=4), dump=dump)


def test_floor(dump: Path, tmp_path: Path) -> None:
    plan = CrawlPlan(titles=("Glarnosis",), floor=0.9)
    manifest = crawl_from(tmp_path / "out", plan, dump=dump)
    assert manifest["stopped"] == "score_floor"
    assert "Marn exposure" not in outcomes(tmp_path / "out") and "Vandolol" in outcomes(tmp_path / "out")
    assert all(visit["score"] >= 0.9 for visit in visits(tmp_path / "out") if visit["outcome"] == "entity")
    assert crawl_from(tmp_path / "none", CrawlPlan(titles=("Glarnosis",), floor=5), dump=dump)["visits"] == 0


def test_extraction_reads_the_pages(dump: Path, tmp_path: Path) -> None:
    crawl_from(tmp_path / "out", ALL, dump=dump)
    found = extract(tmp_path / "out" / "pages.xml", tmp_path / "graph")
    assert found.read == 7 and found.skipped == {"no_box": 2, "disambiguation": 1}
    extract(dump, tmp_path / "whole")
    for name in ("nodes.tsv", "edges.tsv", "aliases.tsv"):
        assert (tmp_path / "graph" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    load_graph(tmp_path / "graph")
    aliases = (tmp_path / "graph" / "aliases.tsv").read_text()
    assert "Glarn's disease" in aliases and "Part of prudosis" not in aliases


def test_interrupted_at_any_step_the_same_bytes(dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = CrawlPlan(floor=-10.0, batch=3)
    crawl_from(tmp_path / "whole", plan, dump=dump)
    log, attempt, calls = Frontier.log, 0, 0

    class Killed(BaseException):
        pass

    def killed_sometimes(self, *values):
        nonlocal calls
        calls += 1
        line = log(self, *values)
        if calls == 1 + attempt % 6:  # before its transaction ends
            raise Killed
        return line

    monkeypatch.setattr(Frontier, "log", killed_sometimes)
    for attempt in range(100):  # noqa: B007
        calls = 0
        try:
            crawl_from(tmp_path / "killed", plan, dump=dump)
            break
        except Killed:
            assert not (tmp_path / "killed" / "manifest.json").exists()
    assert attempt > 5
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_sigkill_and_again(tmp_path: Path) -> None:
    write_dump(tmp_path / "d.xml", diseases=25)
    command = [sys.executable, "-m", "corl.cli", "rods", "crawl", "--dump", str(tmp_path / "d.xml"), "--batch", "5"]
    plan = CrawlPlan(batch=5)
    crawl_from(tmp_path / "whole", plan, dump=tmp_path / "d.xml")
    log = tmp_path / "killed" / "visits.jsonl"
    for lines in (3, 60):
        process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], stdout=subprocess.DEVNULL)
        while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < lines):
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed" / "manifest.json").exists()  # else it was through before it was killed
    crawl_from(tmp_path / "killed", plan, dump=tmp_path / "d.xml")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_another_crawl_in_the_folder(dump: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    crawl_from(out, CrawlPlan(entities=2), dump=dump)
    with pytest.raises(ValueError, match="another floor, titles"):
        crawl_from(out, CrawlPlan(entities=3, floor=0.1, titles=("Prudosis",)), dump=dump)
    dump.write_text(dump.read_text().replace("Invented.", "Changed."))
    with pytest.raises(ValueError, match="another source"):
        crawl_from(out, CrawlPlan(entities=3), dump=dump)


def test_two_at_once(dump: Path, tmp_path: Path) -> None:
    import fcntl

    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another crawl is at work"):
            crawl_from(out, ALL, dump=dump)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"entities": 0}, "--entities is 0"), ({"batch": 51}, "--batch is 51"), ({"floor": float("nan")}, "--floor")],
)
def test_wrong_plans(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrawlPlan(**values)


def test_the_command(dump: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = tmp_path / "seeds.txt"
    seeds.write_text("# first ones\nPrudosis\n\n")
    words = ["rods", "crawl", "--dump", str(dump), "--out", str(tmp_path / "out"), "--seed", "Lone drug"]
    main([*words, "--seeds", str(seeds), "--entities", "2"])
    told = capsys.readouterr().out
    assert "2 entities" in told and "stopped: entity_budget" in told
    with pytest.raises(SystemExit) as stop:
        main([*words, "--contact", "a@b.org"])
    assert stop.value.code == 2
    assert "--contact and --pause belong to --api" in capsys.readouterr().err
