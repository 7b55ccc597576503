"""The parts of a score, and what a page is read to lead to."""

import pytest

from corl.rods.agent.reading import read
from corl.rods.agent.scoring import (
    NOVELTY_WEIGHT,
    POINT,
    RARITY_WEIGHT,
    Score,
    novelty_of_link,
    novelty_of_page,
    prior_of_box,
    prior_of_link,
    rarity_need,
    rarity_part,
)
from corl.rods.graph.schema import NODE_TYPES


def test_every_type_has_a_prior_and_infobox_links_come_first() -> None:
    kinds = ("", *NODE_TYPES)
    best_of_sections = max(prior_of_link(kind, infobox=False) for kind in kinds)
    assert min(prior_of_link(kind, infobox=True) for kind in kinds) >= best_of_sections
    assert prior_of_box("disease") == prior_of_link("disease", infobox=True) == POINT
    assert prior_of_link("specialty", infobox=True) < prior_of_link("symptom", infobox=True) < POINT


@pytest.mark.parametrize(("rare", "known", "need"), [(0, 0, POINT), (0, 9, POINT), (1, 4, 500), (1, 2, 0), (3, 3, 0)])
def test_need_falls_until_half_are_rare(rare: int, known: int, need: int) -> None:
    assert rarity_need(rare, known) == need


def test_rarity_and_novelty() -> None:
    worth = [rarity_part(rarity, POINT) for rarity in ("rare", "uncommon", "", "common")]
    assert worth == [RARITY_WEIGHT, RARITY_WEIGHT // 2, RARITY_WEIGHT // 2, 0]
    assert rarity_part("rare", 0) == 0
    assert novelty_of_link(1) == NOVELTY_WEIGHT and novelty_of_link(3) == NOVELTY_WEIGHT // 3
    assert [novelty_of_page(0, 0), novelty_of_page(1, 4), novelty_of_page(4, 4)] == [0, 75, 300]
    assert Score(1000, 20, 3, 400).total == 623


def test_a_page_read() -> None:
    text = (
        "{{Infobox medical condition (new)\n| symptoms = [[Wobbling]], dry toes\n| medication = [[Wobbling]]\n"
        "| differential = [[Aardosis]]\n}}\n==Causes==\n[[Zed virus]] and [[Wobbling]].\n[[Category:Rare diseases]]"
    )
    raw = f"<page><title>Glarnosis</title><ns>0</ns><revision><id>4</id><text>{text}</text></revision></page>".encode()
    found = read(raw, "Glarnosis")
    assert (found.outcome, found.type, found.rarity, found.revision) == ("entity", "disease", "rare", "4")
    # each once, at its best slot
    assert [(link.key, link.slot) for link in found.links] == [
        ("Wobbling", "infobox:medication"), ("Aardosis", "infobox:differential"), ("Zed virus", "section:Causes"),
    ]  # fmt: skip
    assert ("Aardosis", "differential_of", "Glarnosis", True) in found.edges  # a symmetric one, ends in order
    assert ("Glarnosis", "has_symptom", "Dry toes", True) in found.edges
    assert ("Glarnosis", "caused_by", "Zed virus", False) in found.edges


@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        (b"<page><title>A</title><ns>4</ns></page>", "other_namespace"),
        (b"<page><title>A</title><ns>0</ns><text>plain</text></page>", "no_box"),
        (b"<page><title>List of a</title><ns>0</ns><text>plain</text></page>", "list_page"),
        (b"<page><title>A</title><ns>0</ns><text>{{Drugbox\n| a = & </text></page>", "malformed_xml"),
        (b"", "no_box"),
    ],
)
def test_pages_that_bring_nothing(raw: bytes, outcome: str) -> None:
    assert read(raw, "A").outcome == outcome
