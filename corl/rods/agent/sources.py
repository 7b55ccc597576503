"""What a source of pages must do: name its seeds and hand over pages by title."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one title: a `<page>` element in `raw`, or another `outcome` than page.

    A title that was normalised or is known for a redirect has a `target`; its target is told in the same answer.
    """

    title: str
    outcome: str  # page, normalised, missing, invalid, interwiki, no_text, ..
    raw: bytes = b""
    target: str = ""
    disambiguation: bool = False  # the wiki itself says so
    redirects: tuple[tuple[str, bytes], ...] = ()  # title and `<page>` element of what redirects here


class Source(Protocol):
    identity: dict[str, Any]  # a crawl may only go on over the same one

    def seeds(self, boxes: Sequence[str]) -> Iterator[tuple[str, str]]:
        """(title, box) of every article with one of the boxes, in an order of its own."""
        ...

    def fetch(self, titles: Sequence[str]) -> list[Fetched]:
        """The pages of `titles`, redirects followed: every title of a chain is told, its end last."""
        ...

    def counts(self) -> dict[str, int]:
        """For the manifest: equal for equal crawls, however often they were killed."""
        ...

    def close(self) -> None: ...
