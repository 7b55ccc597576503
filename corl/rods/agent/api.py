"""A wiki behind the MediaWiki API as a source: articles by transclusion of a box, and by title, 50 at a time."""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape

from corl.rods.agent.api_client import ApiClient
from corl.rods.agent.reading import key_of
from corl.rods.agent.sources import Fetched

BOXES = ("Infobox medical condition", "Infobox medical condition (new)", "Infobox drug", "Drugbox")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class ApiSource:
    """Pages of the wiki at `client`'s URL. What it was once answered is the cache's: see `api_client`."""

    def __init__(self, client: ApiClient, answered: Any) -> None:
        self._client, self._answered = client, answered
        self.identity: dict[str, Any] = {"api": client.url}

    def seeds(self, boxes: Sequence[str]) -> Iterator[tuple[str, str]]:
        for box in boxes or BOXES:
            name = re.sub(r"^template\s*:\s*", "", box.strip(), flags=re.I)
            params = {
                "list": "embeddedin", "eititle": f"Template:{name}", "einamespace": "0", "eilimit": "max",
                "eifilterredir": "nonredirects",
            }  # fmt: skip
            for answer in self._client.pages_of(params):
                for page in answer.get("query", {}).get("embeddedin", []):
                    yield page["title"], name

    def fetch(self, titles: Sequence[str]) -> list[Fetched]:
        # a bar would cut the title in two; no article's title holds one
        found = [Fetched(title, "invalid") for title in titles if "|" in title or not title]
        asked = [title for title in titles if title and "|" not in title]
        if not asked:
            return found
        params = {
            "prop": "revisions|pageprops|redirects", "rdprop": "title|fragment", "rdlimit": "max", "rdnamespace": "0",
            "rvprop": "ids|timestamp|content", "rvslots": "main",
            "ppprop": "disambiguation", "redirects": "1", "titles": "|".join(asked),
        }  # fmt: skip
        pages: dict[str, dict[str, Any]] = {}
        steps: dict[str, tuple[str, str, str]] = {}  # title -> (how, where to, section)
        other_wikis: set[str] = set()
        for answer in self._client.pages_of(params):
            query = answer.get("query", {})
            for step in query.get("normalized", []):
                steps[step["from"]] = ("normalised", step["to"], "")
            for step in query.get("redirects", []):
                steps[step["from"]] = ("redirect", step["to"], step.get("tofragment", ""))
            other_wikis.update(wiki["title"] for wiki in query.get("interwiki", []))
            for page in query.get("pages", []):
                # one page's properties may come over several answers
                known = pages.setdefault(page.get("title", ""), {})
                known.update({**page, "redirects": [*known.get("redirects", []), *page.get("redirects", [])]})
        told: set[str] = set()
        for title in asked:
            found += self._chain(title, steps, pages, other_wikis, told)
        return found

    def _chain(self, title: str, steps: dict, pages: dict, other_wikis: set[str], told: set[str]) -> Iterator[Fetched]:
        """What became of a title, of what it was normalised to, of what that redirects to, and so on."""
        while title not in told:
            told.add(title)
            how, to, section = steps.get(title, ("", "", ""))
            if not how:
                yield _end(title, pages.get(title), other_wikis)
                return
            if how == "normalised":
                if key_of(title) != key_of(to):  # else one page under one key
                    yield Fetched(title, "normalised", target=to)
            else:
                yield Fetched(title, "page", _redirect_page(title, to, section))
                if section:
                    return
            title = to

    def counts(self) -> dict[str, int]:
        return {"answers": len(self._answered)}

    def close(self) -> None:
        self._answered.close()


def _end(title: str, page: dict[str, Any] | None, other_wikis: set[str]) -> Fetched:
    if title in other_wikis:
        return Fetched(title, "interwiki")
    if page is None:
        return Fetched(title, "unanswered")
    for outcome in ("invalid", "missing", "special"):
        if page.get(outcome):
            return Fetched(title, "other_namespace" if outcome == "special" else outcome)
    revision = (page.get("revisions") or [{}])[0]
    slot = revision.get("slots", {}).get("main", {})
    if slot.get("contentmodel", "wikitext") != "wikitext" or not isinstance(slot.get("content"), str):
        return Fetched(title, "no_text")  # hidden, or no article
    raw = _page(title, page.get("ns", 0), page.get("pageid", 0), "", slot["content"], revision)
    others = {
        other["title"]: _redirect_page(other["title"], title, other.get("fragment", "")) for other in page["redirects"]
    }
    return Fetched(
        title, "page", raw, disambiguation="disambiguation" in page.get("pageprops", {}),
        redirects=tuple(sorted(others.items())),
    )  # fmt: skip


def _redirect_page(title: str, target: str, section: str) -> bytes:
    """The API tells where a redirect leads, not its text: this is what the text says."""
    text = f"#REDIRECT [[{target}#{section}]]" if section else f"#REDIRECT [[{target}]]"
    return _page(title, 0, 0, target, text, {})


def _page(title: str, ns: int, number: int, redirect: str, text: str, revision: dict[str, Any]) -> bytes:
    """A page in the layout of MediaWiki's export."""
    lines = [f"<page><title>{_xml(title)}</title><ns>{int(ns)}</ns>"]
    if number:
        lines.append(f"<id>{int(number)}</id>")
    if redirect:
        lines.append(f'<redirect title="{_xml(redirect)}" />')
    stamp = f"<timestamp>{_xml(str(revision['timestamp']))}</timestamp>" if revision.get("timestamp") else ""
    number_of = f"<id>{int(revision['revid'])}</id>" if revision.get("revid") else ""
    lines.append(f'<revision>{number_of}{stamp}<text xml:space="preserve">{_xml(text)}</text></revision></page>')
    return "".join(lines).encode()


def _xml(text: str) -> str:
    return escape(_NO_XML.sub("", text), {'"': "&quot;"})
