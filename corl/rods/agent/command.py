"""`corl rods crawl`: a source opened by what the user named, and the crawl over it."""

from pathlib import Path
from typing import Any

from corl.rods.agent.api import ApiSource
from corl.rods.agent.api_client import ApiClient, Manners
from corl.rods.agent.crawl import CrawlPlan, crawl
from corl.rods.agent.dump import DumpSource
from corl.rods.agent.request_cache import RequestCache
from corl.rods.agent.sources import Source
from corl.rods.extraction.box import library_version

INDEX, REQUESTS = "dump-index.sqlite", "requests.sqlite"


def crawl_from(
    out: str | Path,
    plan: CrawlPlan,
    *,
    dump: str | Path | None = None,
    api: str | None = None,
    contact: str | None = None,
    pause_s: float | None = None,
) -> dict[str, Any]:
    """Crawl a dump, or the wiki at `api` on behalf of `contact`. Raises ValueError as `crawl` does."""
    source: Source
    if (dump is None) == (api is None):
        raise ValueError("give --dump FILE or --api URL, one of the two")
    if dump is not None and (contact is not None or pause_s is not None):
        raise ValueError("--contact and --pause belong to --api; a dump is read from the disk")
    if api is not None and not contact:
        raise ValueError(
            "--api needs --contact: a wiki wants to know whom to write to; give your mail address, "
            "a web page or User:NAME"
        )
    manners = _manners(contact, pause_s) if contact else None
    library_version()  # fails now, not after an hour of indexing or a thousand requests
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{out} cannot be written ({error.strerror}); choose another folder") from error
    if dump is not None:
        source = DumpSource(dump, folder / INDEX)
    else:
        assert api is not None and manners is not None
        cache = RequestCache(folder / REQUESTS)
        source = ApiSource(ApiClient(api, manners, cache), cache)
    try:
        return crawl(source, folder, plan)
    finally:
        source.close()


def _manners(contact: str, pause_s: float | None) -> Manners:
    return Manners(contact) if pause_s is None else Manners(contact, pause_s)


def read_titles(path: str | Path) -> tuple[str, ...]:
    """A file of titles, one a line; empty lines and those behind a # are left out."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as text ({error}); give a file with one title a line") from error
    return tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
