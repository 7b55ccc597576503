"""Pages by seeking: plain, compressed, in one stream or many, whole or damaged."""

import bz2
from pathlib import Path

import pytest

import corl.rods.agent.dump_index as dump_index
from corl.rods.agent.dump import DumpSource

FILLING = "x" * 5000


@pytest.fixture
def text(export_wiki) -> str:
    pages = {f"Page {i:03}": f"{{{{Drugbox\n| tradename = N{i}\n}}}}\n\u00e9{i} {FILLING[: 40 * i]}" for i in range(60)}
    return export_wiki(pages, {"Other 7": "Page 007", "Another 7": "Page 007", "Nowhere": "Gone"})


def streams(text: str, size: int) -> bytes:
    data = text.encode()
    return b"".join(bz2.compress(data[i : i + size]) for i in range(0, len(data), size))


def fetched(path: Path, titles: list[str]) -> list[tuple[str, str, bytes]]:
    source = DumpSource(path, path.parent / "index.sqlite")
    try:
        return [(page.title, page.outcome, page.raw) for page in source.fetch(titles)]
    finally:
        source.close()


TITLES = ["Page 059", "page 000", "Page_031", "Page 032", "Other 7", "Nowhere", "Gone", "a<b", "Page 007"]


@pytest.mark.parametrize("size", [700, 4096, 10**6])
@pytest.mark.parametrize("max_stream", [1000, 4 << 20])
def test_a_compressed_dump_is_a_plain_one(
    text: str, tmp_path: Path, size: int, max_stream: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams cut anywhere, shorter and longer than what is worth unpacking."""
    monkeypatch.setattr(dump_index, "MAX_STREAM", max_stream)
    monkeypatch.setattr(dump_index, "BLOCK", 1 << 10)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "d.xml").write_text(text, encoding="utf-8")
    (tmp_path / "d.xml.bz2").write_bytes(streams(text, size))
    plain = fetched(tmp_path / "plain" / "d.xml", TITLES)
    assert fetched(tmp_path / "d.xml.bz2", TITLES) == plain
    assert [outcome for _, outcome, _ in plain] == ["page"] * 6 + ["missing", "invalid", "page"]
    for title, outcome, raw in plain:
        if outcome == "page":
            assert raw.startswith(b"<page><title>" + title.encode()) and raw.endswith(b"</page>")


def test_redirects_come_with_their_target(text: str, tmp_path: Path) -> None:
    (tmp_path / "d.xml").write_text(text, encoding="utf-8")
    source = DumpSource(tmp_path / "d.xml", tmp_path / "index.sqlite")
    (page,) = source.fetch(["Page 007"])
    source.close()
    assert [title for title, _ in page.redirects] == ["Another 7", "Other 7"]


def test_the_index_is_made_once_and_again_for_another_dump(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.xml"
    path.write_text(text, encoding="utf-8")
    fetched(path, ["Page 001"])
    build = dump_index._build
    monkeypatch.setattr(dump_index, "_build", lambda *_: pytest.fail("made twice"))
    assert fetched(path, ["Page 001"])[0][1] == "page"
    monkeypatch.setattr(dump_index, "_build", build)
    path.write_text(text.replace("Page 001", "Page 901"), encoding="utf-8")
    assert [outcome for _, outcome, _ in fetched(path, ["Page 001", "Page 901"])] == ["missing", "page"]
    (tmp_path / "index.sqlite").write_bytes(b"not a database" * 100)
    assert fetched(path, ["Page 901"])[0][1] == "page"


def test_a_page_too_large_costs_itself_alone(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_index, "MAX_PAGE", 2000)
    monkeypatch.setattr(dump_index, "BLOCK", 500)
    (tmp_path / "d.xml").write_text(text, encoding="utf-8")
    found = {title: outcome for title, outcome, _ in fetched(tmp_path / "d.xml", ["Page 020", "Page 059", "Other 7"])}
    assert found == {"Page 020": "page", "Page 059": "missing", "Other 7": "page"}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("d.xml.bz2", bz2.compress(b"<page><title>A</title></page>" * 99)[:-9], "damaged or ends early"),
        ("d.xml.bz2", b"", "holds no article"),
        ("d.xml.bz2", b"plain text", "damaged or ends early"),
        ("d.xml", b"<mediawiki></mediawiki>", "holds no article"),
        ("d.txt", b"<page></page>", "no file of a MediaWiki XML dump"),
    ],
)
def test_no_dump(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        DumpSource(tmp_path / name, tmp_path / "index.sqlite")
    assert not (tmp_path / "index.sqlite").exists()
