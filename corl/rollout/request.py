"""What a caller asks of the engine, what it gets back, and every rule a request can break."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, Protocol

FinishReason = Literal["stop", "length", "carried"]


class SupportsDecode(Protocol):
    """A tokenizer, as far as the engine needs one."""

    def decode(self, ids: list[int], /) -> str: ...


@dataclass(frozen=True, slots=True)
class Request:
    """`n` completions of one prompt.

    max_tokens       completion tokens at most, the stop token included
    temperature      0 is greedy; its logprobs are those at temperature 1
    top_k, top_p     0 and 1.0 leave the distribution whole
    stop_ids         token ids that end a sample; () means none
    stop_strings     texts that end a sample at the token that completes them; the engine needs a tokenizer
    id               keys the draws; None becomes the index in the list given to the engine
    expected_tokens  the caller's guess of a sample's length: longer ones start first
    """

    prompt_ids: Sequence[int]
    n: int = 1
    max_tokens: int = 512
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop_ids: Sequence[int] = ()
    stop_strings: Sequence[str] = ()
    id: str | None = None
    expected_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample: token ids (with the stop token, where one ended it) and their logprobs in nats, equally long.

    finish_reason  "stop": a stop id or string ended it; "length": max_tokens did; "carried": it is not finished
    """

    id: str
    sample: int
    ids: list[int]
    logprobs: list[float]
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Carried:
    """A request that an early stop left unfinished.

    step         of the call that began it: it keys the draws of its samples until they end
    completions  all n of them, in sample order; those with finish_reason "carried" go on
    """

    step: int
    completions: Sequence[Completion]


def expected_length(request: Request) -> float:
    """Completion tokens a sample is expected to take."""
    return request.max_tokens if request.expected_tokens is None else request.expected_tokens


def check_requests(
    requests: Sequence[Request], *, vocab_size: int, max_positions: int, kv_tokens: int, has_tokenizer: bool
) -> list[str]:
    """The id of every request, None replaced by its index. Raises ValueError for the first rule broken."""
    names: dict[str, int] = {}
    for index, request in enumerate(requests):
        name = str(index) if request.id is None else request.id
        if not isinstance(name, str):
            raise ValueError(f"request {index}: id={name!r} must be a string or None")
        if name in names:
            raise ValueError(f"request {index}: id={name!r} is also that of request {names[name]}; ids must differ")
        names[name] = index
        problem = _own_problem(request, has_tokenizer) or _size_problem(request, vocab_size, max_positions, kv_tokens)
        if problem:
            raise ValueError(f"request {name!r}: {problem}")
    return list(names)


def check_carried(requests: Sequence[Request], names: Sequence[str], carried: Mapping[str, Carried]) -> None:
    """Raises ValueError for carried samples that are not those of their request."""
    by_name = dict(zip(names, requests, strict=True))
    for name, group in carried.items():
        request = by_name.get(name)
        if request is None:
            raise ValueError(f"carried: {name!r} is the id of no request; ask for it again")
        if [c.sample for c in group.completions] != list(range(request.n)):
            raise ValueError(f"carried: request {name!r} has n={request.n}; give its samples 0 to {request.n - 1}")
        for c in group.completions:
            tokens, what = len(c.ids), f"carried: sample {c.sample} of {name!r}"
            if len(c.logprobs) != tokens:
                raise ValueError(f"{what} has {tokens} ids and {len(c.logprobs)} logprobs; give one for each")
            if c.finish_reason == "carried" and tokens >= request.max_tokens:
                raise ValueError(
                    f"{what} has {tokens} tokens already, max_tokens is {request.max_tokens}; give the one it began with"
                )


def _own_problem(request: Request, has_tokenizer: bool) -> str | None:
    expected = request.expected_tokens
    if len(request.prompt_ids) == 0:
        return "prompt_ids is empty; give at least one token"
    if request.n < 1:
        return f"n={request.n} must be at least 1"
    if request.max_tokens < 1:
        return f"max_tokens={request.max_tokens} must be at least 1"
    if not (isfinite(request.temperature) and request.temperature >= 0):
        return f"temperature={request.temperature} must be a finite number >= 0 (0 is greedy)"
    if request.top_k < 0:
        return f"top_k={request.top_k} must be >= 0 (0 keeps every token)"
    if not 0 < request.top_p <= 1:
        return f"top_p={request.top_p} must lie in (0, 1] (1 keeps every token)"
    if expected is not None and not (isfinite(expected) and expected >= 0):
        return f"expected_tokens={expected} must be a finite number >= 0 or None"
    if isinstance(request.stop_strings, str) or not all(isinstance(s, str) and s for s in request.stop_strings):
        return f"stop_strings={request.stop_strings!r} must be a sequence of non-empty strings"
    if request.stop_strings and not has_tokenizer:
        return "stop_strings need text; give Engine(..., tokenizer=...) or use stop_ids"
    return None


def _size_problem(request: Request, vocab_size: int, max_positions: int, kv_tokens: int) -> str | None:
    low, high = min(request.prompt_ids), max(request.prompt_ids)
    if low < 0 or high >= vocab_size:
        return f"prompt_ids holds {low if low < 0 else high}; ids must lie in [0, {vocab_size})"
    length, wanted = len(request.prompt_ids), len(request.prompt_ids) + request.max_tokens
    for limit, what in ((max_positions, "positions of the model"), (kv_tokens, "tokens of the KV cache (kv_tokens)")):
        if wanted > limit:
            return f"prompt of {length} + max_tokens={request.max_tokens} exceeds the {limit} {what}; lower max_tokens"
    return None
