"""A small invented wiki, as a dump and behind a local server that answers in the MediaWiki API's layouts."""

import gzip
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import escape

import pytest


def disease(*parameters: str, rest: str = "") -> str:
    lines = "\n".join(f"| {parameter}" for parameter in parameters)
    return f"{{{{Infobox medical condition (new)\n{lines}\n}}}}\nInvented.\n{rest}"


def drug(*parameters: str) -> str:
    lines = "\n".join(f"| {parameter}" for parameter in parameters)
    return f"{{{{Infobox drug\n{lines}\n}}}}\nInvented.\n"


PAGES = {
    "Glarnosis": disease(
        "symptoms = [[Vobble fever]], [[Nowhere rash]]", "causes = ''[[Glarnella]]''", "medication = [[Vandolol]]",
        "differential = [[Prudosis]], [[Old prudosis]]", "frequency = 3 per million",
        rest="==Causes==\nIt follows [[Marn exposure]] and [[Section disease]].\n",
    ),
    "Prudosis": disease("symptoms = [[Vobble fever]], [[Trosk (disambiguation)]]", "frequency = 20% of people"),
    "Vobble fever": disease("symptoms = [[Heat spells]]", "frequency = 10% of people"),
    "Section disease": disease("symptoms = [[Heat spells]]"),
    "Vandolol": drug("class = [[Vando blocker]]", "uses = [[Glarnosis]], [[Ring A]]", "metabolism = [[Far#Liver]]"),
    "Lone drug": drug("class = [[Vando blocker]]", "uses = [[Kepler syndrome]]", "side_effects = [[Prudosis|P]]"),
    "Kepler syndrome": disease("symptoms = [[Double old prudosis]], [[Part of prudosis]]", "frequency = 1 per million"),
    "Glarnella": "'''Glarnella''' is invented.\n[[Category:Bacteria]]",
    "Trosk (disambiguation)": "{{disambiguation}}\n* [[Prudosis]]\n* [[Glarnosis]]",
    "Vando blocker": "No box.\n[[Category:Drug classes]]",
}  # fmt: skip
REDIRECTS = {
    "Old prudosis": "Prudosis", "Double old prudosis": "Old prudosis", "Part of prudosis": "Prudosis#Part",
    "Ring A": "Ring B", "Ring B": "Ring A", "Glarn's disease": "Glarnosis",
}  # fmt: skip


def export(pages: dict[str, str], redirects: dict[str, str]) -> str:
    """The wiki as a dump; revisions as the server gives them."""
    parts = ["<mediawiki><siteinfo/>\n"]
    for number, (title, text) in enumerate(pages.items(), 1):
        parts.append(
            f"<page><title>{escape(title)}</title><ns>0</ns><id>{number}</id><revision><id>{100 + number}</id>"
            f'<text xml:space="preserve">{escape(text)}</text></revision></page>\n'
        )
    for title, target in redirects.items():
        parts.append(
            f'<page><title>{escape(title)}</title><ns>0</ns><redirect title="{escape(target.partition("#")[0])}" />'
            f"<revision><id>9</id><text>#REDIRECT [[{target}]]</text></revision></page>\n"
        )
    return "".join([*parts, "</mediawiki>\n"])


@dataclass
class Wiki:
    """Answers queries; `faults` are given instead, one a request, while there are any."""

    pages: dict[str, str] = field(default_factory=lambda: dict(PAGES))
    redirects: dict[str, str] = field(default_factory=lambda: dict(REDIRECTS))
    texts_an_answer: int = 50
    seeds_an_answer: int = 500
    faults: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    at_request: Callable[[int], None] = lambda number: None
    url: str = ""
    busy: int = 0
    most_busy: int = 0

    def answer(self, query: dict[str, str]) -> dict:
        assert query["action"] == "query" and query["format"] == "json" and query["formatversion"] == "2"
        if query.get("list") == "embeddedin":
            box = query["eititle"].removeprefix("Template:").lower() + "\n"
            found = [title for title, text in self.pages.items() if text.lower().startswith("{{" + box)]
            start = int(query.get("eicontinue", "0"))
            shown = found[start : start + self.seeds_an_answer]
            answer: dict = {"query": {"embeddedin": [{"pageid": 1, "ns": 0, "title": title} for title in shown]}}
            if start + len(shown) < len(found):
                answer["continue"] = {"eicontinue": str(start + len(shown)), "continue": "-||"}
            return answer
        return self._titles(query)

    def _titles(self, query: dict[str, str]) -> dict:
        titles = query["titles"].split("|")
        assert len(titles) <= 50
        told: dict = {}
        ends: list[str] = []
        for title in titles:
            if title.startswith("xx:"):
                told.setdefault("interwiki", []).append({"title": title, "iw": "xx"})
                continue
            if title == "Heat  spells" or title == "Heat spells":
                told.setdefault("normalized", []).append({"fromencoded": False, "from": title, "to": "Heat spell"})
                title = "Heat spell"
            seen = set()
            while title in self.redirects and title not in seen:
                seen.add(title)
                to, _, section = self.redirects[title].partition("#")
                step = {"from": title, "to": to, **({"tofragment": section} if section else {})}
                if step not in told.setdefault("redirects", []):
                    told["redirects"].append(step)
                title = to
            if title not in seen:
                ends.append(title)
        ends = list(dict.fromkeys(ends))
        start = int(query.get("rvcontinue", "0"))
        told["pages"] = [self._page(title, start <= i < start + self.texts_an_answer) for i, title in enumerate(ends)]
        if start + self.texts_an_answer < len(ends):
            return {"continue": {"rvcontinue": str(start + self.texts_an_answer), "continue": "||"}, "query": told}
        return {"batchcomplete": True, "query": told}

    def _page(self, title: str, with_text: bool) -> dict:
        if "<" in title:
            return {"title": title, "invalidreason": "invalid characters", "invalid": True}
        if title not in self.pages:
            return {"ns": 0, "title": title, "missing": True}
        number = list(self.pages).index(title) + 1
        page: dict = {"pageid": number, "ns": 0, "title": title}
        if with_text:
            slot = {"contentmodel": "wikitext", "contentformat": "text/x-wiki", "content": self.pages[title]}
            page["revisions"] = [{"revid": 100 + number, "parentid": 0, "slots": {"main": slot}}]
            here = [(name, *to.partition("#")[::2]) for name, to in self.redirects.items()]
            page["redirects"] = [
                {"title": name, **({"fragment": part} if part else {})} for name, to, part in here if to == title
            ]
            if "{{disambiguation" in self.pages[title]:
                page["pageprops"] = {"disambiguation": ""}
        return page


class _Handler(BaseHTTPRequestHandler):
    wiki: Wiki

    def do_GET(self) -> None:
        self._serve(urllib.parse.urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _serve(self, text: str) -> None:
        wiki = self.wiki
        wiki.busy += 1
        wiki.most_busy = max(wiki.most_busy, wiki.busy)
        query = dict(urllib.parse.parse_qsl(text))
        wiki.requests.append(query)
        wiki.headers.append(dict(self.headers))
        wiki.methods.append(self.command)
        wiki.at_request(len(wiki.requests))
        status, headers, body = wiki.faults.pop(0) if wiki.faults else (200, {}, b"")
        if not body and status == 200:
            body, headers = gzip.compress(json.dumps(wiki.answer(query)).encode()), {"Content-Encoding": "gzip"}
        wiki.busy -= 1
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # the client was killed

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def wiki(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wiki]:
    monkeypatch.setenv("no_proxy", "*")
    wiki = Wiki()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"wiki": wiki}))
    wiki.url = f"http://127.0.0.1:{server.server_port}/w/api.php"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield wiki
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "invented-20240101.xml"
    path.write_text(export(PAGES, REDIRECTS), encoding="utf-8")
    return path


@pytest.fixture
def export_wiki() -> Callable[[dict[str, str], dict[str, str]], str]:
    return export
