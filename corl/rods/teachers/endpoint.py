"""Any OpenAI-compatible endpoint, through the `openai` client (the extra `llm`)."""

import asyncio
import os
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from corl.rods.teachers.pace import TryLater
from corl.rods.teachers.store import Reply
from corl.rods.teachers.stored import Ask

_HOPELESS = frozenset({401, 402, 403, 404, 405})  # whatever is asked
_LATER = frozenset({408, 409, 425, 429})


class Endpoint:
    """A Source over HTTP.

    base_url     as the client wants it: http://host:8000/v1
    key_from     the environment variable that holds the key; where it is not set, a local server will not ask
    timeout_s    of a whole request
    request      further fields of the request body (reasoning_effort, top_p); null leaves out one of ours (seed)
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key_from: str = "OPENAI_API_KEY",
        timeout_s: float = 300.0,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise ValueError("a teacher behind a URL needs the openai client; pip install 'corl[llm]'") from error
        self.model, self.base_url, self.timeout_s = model, base_url, timeout_s
        self.params: dict[str, Any] = {"request": dict(request)} if request else {}
        self._request = dict(request or {})
        self._errors = openai
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=os.environ.get(key_from) or "none",
            max_retries=0,  # the waits are ours: they are counted, budgeted and shared
            timeout=timeout_s,
        )

    async def answer(self, ask: Ask) -> Reply:
        body = {
            "max_tokens": ask.max_tokens,
            "temperature": ask.temperature,
            "seed": int(ask.key[:7], 16),  # servers that honour it then repeat themselves
        } | self._request
        try:
            async with asyncio.timeout(self.timeout_s):  # the client's own counts from byte to byte
                made = await self._client.chat.completions.create(
                    model=self.model,
                    messages=list(ask.messages),  # type: ignore[arg-type]
                    extra_body={name: value for name, value in body.items() if value is not None},
                )
        except (TimeoutError, self._errors.APITimeoutError) as error:
            raise TryLater(f"no answer within {self.timeout_s:g} s", lost=True) from error
        except self._errors.APIStatusError as error:
            return self._refused(error)
        except self._errors.APIConnectionError as error:
            raise TryLater(f"no connection ({error.__cause__ or error})") from error
        except (self._errors.APIError, ValueError) as error:  # a body that is not JSON, or not the protocol's
            raise TryLater(f"malformed reply ({_short(error)})", lost=True) from error
        return _reply(made, ask)

    def _refused(self, error: Any) -> Reply:
        """What an HTTP error means: later, never for this request, or never at all."""
        status, said = error.status_code, f"HTTP {error.status_code} ({_short(error)})"
        if status == 429 and "insufficient_quota" in str(error.code):
            raise ValueError(f"{self.base_url}: {said}; what was answered is kept, repeat the command to go on")
        if status in _LATER or status >= 500:
            raise TryLater(said, after_s=retry_after(error.response.headers)) from error
        if status in _HOPELESS:
            raise ValueError(f"{self.base_url}: {said}; check the URL, --model and the API key")
        return Reply(None, 0, 0, refusal=f"refused: {said}")

    async def close(self) -> None:
        await self._client.close()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the headers ask to wait, whole or broken, or until a date; None where they do not say."""
    if milliseconds := headers.get("retry-after-ms"):
        return _seconds(milliseconds, 1e-3)
    if not (value := headers.get("retry-after")):
        return None
    if (seconds := _seconds(value, 1.0)) is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def _seconds(text: str, unit: float) -> float | None:
    try:
        seconds = float(text) * unit
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _reply(made: Any, ask: Ask) -> Reply:
    """The first choice's text, what the model thought aloud in front of it. Raises TryLater for anything else."""
    try:
        message = made.choices[0].message
        content, refusal = message.content, getattr(message, "refusal", None)
        # Servers that split the thinking off put it here, by either name.
        thought = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
        usage = getattr(made, "usage", None)
        counted = [getattr(usage, f"{side}_tokens", None) for side in ("prompt", "completion")]
    except (AttributeError, IndexError, TypeError) as error:
        raise TryLater(f"malformed reply ({_short(made)})", lost=True) from error
    text = content if isinstance(content, str) else refusal if isinstance(refusal, str) else ""
    if isinstance(thought, str) and thought.strip() and "<think>" not in text:
        text = f"<think>{thought.strip()}</think>\n{text}"
    # A server that counts nothing is charged with bytes, which are never fewer than tokens.
    asked = sum(len(message["content"].encode(errors="replace")) for message in ask.messages)
    said = min(ask.max_tokens, len(text.encode(errors="replace")))
    tokens = [n if type(n) is int and n >= 0 else most for n, most in zip(counted, (asked, said), strict=True)]
    return Reply(text, tokens[0], tokens[1])


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:197] + "..."
