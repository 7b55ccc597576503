"""One polite request at a time to a MediaWiki API, after https://www.mediawiki.org/wiki/API:Etiquette.

A User-Agent that names a person to write to, gzip, maxlag, a pause between requests, and patience: the server's
Retry-After counts for more than any schedule of ours.
"""

import email.utils
import gzip
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from corl.rods.agent.request_cache import RequestCache

MAX_WAIT_S = 600.0  # a server that wants more is left alone
MAX_ANSWER = 256 << 20
LONG_URL = 2000  # bytes beyond which a request is posted
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
_TRANSIENT_CODE = re.compile(r"^(?:maxlag|ratelimited|readonly|internal_api_error_.*|timeout|too-?many.*)$")


@dataclass(frozen=True, slots=True)
class Manners:
    """How a wiki is asked. `contact`: an address or a web page, as the Wikimedia User-Agent policy wants it."""

    contact: str
    pause_s: float = 1.0  # between the end of a request and the next
    maxlag_s: int = 5
    retries: int = 8
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        person = re.fullmatch(r"[^\s@()]+@[^\s@()]+\.[^\s@()]+|https?://[^\s()]+|User:[^\s()]+", self.contact or "")
        if not person:
            raise ValueError(
                f"--contact is {self.contact!r}; a wiki wants to know whom to write to: "
                "give your mail address, a web page or User:NAME"
            )
        if not self.contact.isascii():
            raise ValueError(f"--contact is {self.contact!r}; a header takes ASCII only")
        if not 0 <= self.pause_s <= MAX_WAIT_S:
            raise ValueError(f"--pause is {self.pause_s}; give 0 to {MAX_WAIT_S:.0f} seconds")
        if self.retries < 0 or self.timeout_s <= 0 or self.maxlag_s < 0:
            raise ValueError("retries and maxlag are 0 or more, a timeout more than 0")

    @property
    def user_agent(self) -> str:
        return f"corl-rods-crawl/{version('corl')} ({self.contact}) python-urllib"


class ApiClient:
    """Answers of one API by their parameters; those in the cache cost no request."""

    def __init__(
        self,
        url: str,
        manners: Manners,
        cache: RequestCache,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"--api is {url!r}; give a wiki's api.php, as https://en.wikipedia.org/w/api.php")
        self.url, self._manners, self._cache = url, manners, cache
        self._sleep, self._clock = sleep, clock
        self._next = 0.0  # not before this moment
        self.sent = 0

    def pages_of(self, params: dict[str, str]) -> Iterator[dict[str, Any]]:
        """Every answer to a query, `continue` followed to its end."""
        going: dict[str, str] = {}
        seen = set()
        while True:
            answer = self.query({**params, **going})
            yield answer
            if "continue" not in answer:
                return
            going = {name: str(value) for name, value in answer["continue"].items()}
            mark = json.dumps(going, sort_keys=True)
            if mark in seen:
                raise ValueError(f"{self.url} continues in a circle ({mark}); it is no MediaWiki API, or a broken one")
            seen.add(mark)

    def query(self, params: dict[str, str]) -> dict[str, Any]:
        """One answer. Raises ValueError where the wiki refuses it or stays out of reach."""
        params = {"action": "query", "format": "json", "formatversion": "2", **params}
        key = self._cache.key(self.url, params)
        answer = self._cache.get(key)
        if answer is None:
            answer = self._ask({**params, "maxlag": str(self._manners.maxlag_s)})
            self._cache.put(key, answer)
        return answer

    def _ask(self, params: dict[str, str]) -> dict[str, Any]:
        problem = ""
        for attempt in range(self._manners.retries + 1):
            self._wait()
            told, after = self._send(params)
            self._next = self._clock() + self._manners.pause_s
            if isinstance(told, dict):
                return told
            problem = told
            wait = min(2.0**attempt, 60.0) if after is None else after
            if wait > MAX_WAIT_S:
                raise ValueError(
                    f"{self.url} wants {wait:.0f} s of rest ({problem}); start the same command again then"
                )
            self._next = self._clock() + max(wait, self._manners.pause_s)
        raise ValueError(
            f"{self.url} gave no answer in {self._manners.retries + 1} tries ({problem}); what was answered is kept: "
            "start the same command again later"
        )

    def _wait(self) -> None:
        if (left := self._next - self._clock()) > 0:
            self._sleep(left)

    def _send(self, params: dict[str, str]) -> tuple[dict[str, Any] | str, float | None]:
        """The answer, or a passing problem in words and how long the server wants to be left alone."""
        body = urllib.parse.urlencode(params)
        long = len(body) > LONG_URL
        request = urllib.request.Request(
            self.url if long else f"{self.url}?{body}",
            data=body.encode() if long else None,
            headers={"User-Agent": self._manners.user_agent, "Accept-Encoding": "gzip", "Accept": "application/json"},
        )
        self.sent += 1
        try:
            with urllib.request.urlopen(request, timeout=self._manners.timeout_s) as reply:
                after = _retry_after(reply.headers)
                data = _unpack(reply.read(MAX_ANSWER), reply.headers)
            answer = json.loads(data)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in _TRANSIENT_STATUS:
                    return f"HTTP {error.code}", _retry_after(error.headers)
                raise ValueError(
                    f"{self.url} answers HTTP {error.code} {error.reason}; is it a wiki's api.php, and is "
                    "--contact an address that it accepts?"
                ) from error
        except (OSError, http.client.HTTPException, EOFError, zlib.error, ValueError) as error:
            # unreachable, cut off, timed out, or a page of a proxy instead of JSON
            return f"{type(error).__name__}: {error}", None
        if not isinstance(answer, dict):
            raise ValueError(f"{self.url} answers with a {type(answer).__name__}; it is no MediaWiki API")
        if refusal := answer.get("error"):
            code, info = str(refusal.get("code")), str(refusal.get("info"))
            if _TRANSIENT_CODE.match(code):
                return f"{code}: {info}", after
            raise ValueError(f"{self.url} refuses: {code}: {info}")
        return answer, None


def _unpack(data: bytes, headers: Any) -> bytes:
    return gzip.decompress(data) if headers.get("Content-Encoding", "").lower() == "gzip" else data


def _retry_after(headers: Any) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date; None where there is none to be read."""
    value = (headers.get("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, then.timestamp() - time.time())
