"""What a caller asks of the engine, what it gets back, and every rule a request can break."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from numbers import Real
from operator import index
from reprlib import repr as short
from typing import Any, Literal, Protocol, get_args

TINY, HUGE = 1e-30, 1e30  # of what logits are divided by in fp32, where more would leave infinities and NaN
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
) -> dict[str, Request]:
    """Copies of the requests by id, None replaced by the index. Raises ValueError for the first rule broken.

    The copies hold Python's own numbers in tuples: NumPy's small integers wrap around, a tensor's elements equal no
    int, and a list may change while the engine works.
    """
    checked: dict[str, Request] = {}
    for place, request in enumerate(requests):
        if not isinstance(request, Request):
            raise ValueError(f"request {place} is a {type(request).__name__}; give a corl.Request")
        name = str(place) if request.id is None else request.id
        if not isinstance(name, str):
            raise ValueError(f"request {place}: id={name!r} must be a string or None")
        if name in checked:
            twin = list(checked).index(name)
            raise ValueError(f"request {place}: id={name!r} is also that of request {twin}; ids must differ")
        own = checked[name] = _own_copy(request, f"request {name!r}: ")
        problem = _own_problem(own, has_tokenizer) or _size_problem(own, vocab_size, max_positions, kv_tokens)
        if problem:
            raise ValueError(f"request {name!r}: {problem}")
    return checked


def check_carried(requests: Mapping[str, Request], carried: Mapping[str, Carried], *, vocab_size: int) -> None:
    """Raises ValueError for carried samples that are not those of their request."""
    for name, group in carried.items():
        request = requests.get(name)
        if request is None:
            raise ValueError(f"carried: {name!r} is the id of no request; ask for it again")
        integer(f"carried: step of {name!r}", group.step)
        if [c.sample for c in group.completions] != list(range(request.n)):
            raise ValueError(f"carried: request {name!r} has n={request.n}; give its samples 0 to {request.n - 1}")
        for c in group.completions:
            tokens, what = len(c.ids), f"carried: sample {c.sample} of {name!r}"
            if len(c.logprobs) != tokens:
                raise ValueError(f"{what} has {tokens} ids and {len(c.logprobs)} logprobs; give one for each")
            if c.finish_reason not in get_args(FinishReason):
                raise ValueError(f"{what}: finish_reason={c.finish_reason!r} must be one of {get_args(FinishReason)}")
            if c.finish_reason != "carried" and not tokens:
                raise ValueError(f"{what} has ended without a token; give it as the engine returned it")
            wrong = [i for i in integers(f"{what}: ids", c.ids) if not 0 <= i < vocab_size]
            if wrong:
                raise ValueError(f"{what} holds {wrong[0]}; ids must lie in [0, {vocab_size})")
            if c.finish_reason == "carried" and tokens >= request.max_tokens:
                raise ValueError(
                    f"{what} has {tokens} tokens already, max_tokens is {request.max_tokens}; use the one it began with"
                )


def integer(what: str, value: Any, at_least: int | None = None) -> int:
    """A Python int; ValueError naming `what` for anything that is no integer, or below `at_least`."""
    try:
        number = index(value)
    except TypeError:
        raise ValueError(f"{what}={value!r} must be an integer") from None
    if at_least is not None and number < at_least:
        raise ValueError(f"{what}={value} must be at least {at_least}")
    return number


def integers(what: str, values: Any) -> tuple[int, ...]:
    """Of a sequence, an array or a tensor of one dimension."""
    try:
        return tuple(map(index, values.tolist() if hasattr(values, "tolist") else values))
    except TypeError:
        raise ValueError(f"{what}={short(values)} must be a sequence of integers") from None


def _number(what: str, value: Any) -> float:
    if not isinstance(value, Real):
        raise ValueError(f"{what}={value!r} must be a number")
    return float(value)


def _own_copy(request: Request, who: str) -> Request:
    expected, strings = request.expected_tokens, request.stop_strings
    if isinstance(strings, str) or not isinstance(strings, Iterable):
        raise ValueError(f"{who}stop_strings={strings!r} must be a sequence of non-empty strings")
    return replace(
        request,
        prompt_ids=integers(who + "prompt_ids", request.prompt_ids),
        n=integer(who + "n", request.n),
        max_tokens=integer(who + "max_tokens", request.max_tokens),
        temperature=_number(who + "temperature", request.temperature),
        top_k=integer(who + "top_k", request.top_k),
        top_p=_number(who + "top_p", request.top_p),
        stop_ids=integers(who + "stop_ids", request.stop_ids),
        stop_strings=tuple(strings),
        expected_tokens=None if expected is None else _number(who + "expected_tokens", expected),
    )


def _own_problem(request: Request, has_tokenizer: bool) -> str | None:
    expected = request.expected_tokens
    if len(request.prompt_ids) == 0:
        return "prompt_ids is empty; give at least one token"
    if request.n < 1:
        return f"n={request.n} must be at least 1"
    if request.max_tokens < 1:
        return f"max_tokens={request.max_tokens} must be at least 1"
    if not (request.temperature == 0 or TINY <= request.temperature <= HUGE):
        return f"temperature={request.temperature} must be 0 (greedy) or lie in [{TINY}, {HUGE}]"
    if not 0 <= request.top_k < 2**63:
        return f"top_k={request.top_k} must be >= 0 (0 keeps every token) and fit into 64 bits"
    if not TINY <= request.top_p <= 1:
        return f"top_p={request.top_p} must lie in (0, 1], above {TINY} (1 keeps every token)"
    if expected is not None and not (isfinite(expected) and expected >= 0):
        return f"expected_tokens={expected} must be a finite number >= 0 or None"
    if not all(isinstance(string, str) and string for string in request.stop_strings):
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
