"""One completion on its way, and the group of those that go on from the same prefix."""

from dataclasses import dataclass, field

from corl.rollout.request import Completion, FinishReason, Request, SupportsDecode


@dataclass(slots=True, eq=False)
class Sample:
    """`ids` counts from the end of the prompt; its last token is never in the cache yet."""

    request: Request
    name: str
    index: int
    seed: int
    stop_ids: frozenset[int]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason = "carried"  # until it ends
    pages: list[int] = field(default_factory=list)
    promised: int = 0  # pages admission has set aside beyond those held
    row: int = -1
    birth: int = -1

    @property
    def finished(self) -> bool:
        return self.finish_reason != "carried"

    @property
    def length(self) -> int:
        """Tokens of prompt and completion so far."""
        return len(self.request.prompt_ids) + len(self.ids)

    def tokens_left(self, steps: int) -> int:
        """Tokens that `steps` decode steps can still draw."""
        return min(steps, self.request.max_tokens - len(self.ids))

    def accept(self, token: int, logprob: float, tokenizer: SupportsDecode | None = None) -> bool:
        """Take the next token; True when it ends the sample."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in self.stop_ids or (self.request.stop_strings and self._completes_stop_string(tokenizer)):
            self.finish_reason = "stop"
        elif len(self.ids) >= self.request.max_tokens:
            self.finish_reason = "length"
        return self.finished

    def completion(self) -> Completion:
        return Completion(self.name, self.index, self.ids, self.logprobs, self.finish_reason)

    def _completes_stop_string(self, tokenizer: SupportsDecode | None) -> bool:
        assert tokenizer is not None, "check_requests lets no stop string through without one"
        # every token of a match holds at least one of its bytes; 4 more, since a tokenizer may trim the text's start
        strings = self.request.stop_strings
        text = tokenizer.decode(self.ids[-max(len(string.encode(errors="surrogatepass")) for string in strings) - 4 :])
        return any(string in text for string in strings)


@dataclass(slots=True, eq=False)
class Group:
    """Samples of a request that go on from one prefix: the prompt, for a recomputed sample also what it had drawn."""

    request: Request
    prefix: list[int]
    samples: list[Sample]
    pages: list[int] = field(default_factory=list)
    again: bool = False  # its prefix went through the model before, and was given up

    @classmethod
    def of_one(cls, sample: Sample) -> "Group":
        """A sample that goes on alone from all it has."""
        return cls(sample.request, [*sample.request.prompt_ids, *sample.ids], [sample], again=True)
