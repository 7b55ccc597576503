"""Groups that an early stop of the engine left over: kept with tokens, log-probs and policy versions until their turn.

A prompt drawn for over-sampling ends in one of three ways: its group is trained on, carried into the next step, or
finished with the newest weights when the stage ends.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

from corl.evaluation.attempts import Attempt
from corl.grading import Grade
from corl.rollout.request import Carried, Completion

Versions = tuple[tuple[int, int], ...]  # (policy version, tokens) in the order drawn


@dataclass(frozen=True, slots=True)
class CarriedGroup:
    """The samples of one prompt so far, all of them, in sample order. step: of the run that drew the prompt; it keys
    every draw of the samples and the control's coins, however many steps they take."""

    item_id: str
    step: int
    attempts: list[Attempt]

    @property
    def complete(self) -> bool:
        return all(attempt.finished for attempt in self.attempts)

    @property
    def tokens(self) -> int:
        return sum(len(attempt.ids) for attempt in self.attempts)

    def for_engine(self, request_id: str) -> Carried:
        samples = [Completion(request_id, a.sample, a.ids, a.logprobs, a.finish_reason) for a in self.attempts]
        return Carried(self.step, samples)

    def plain(self) -> dict[str, Any]:
        """For JSON; `carried_group` is the inverse."""
        return asdict(self)


def carried_group(plain: dict[str, Any]) -> CarriedGroup:
    attempts = [
        Attempt(**raw | {"grade": Grade(**raw["grade"]), "versions": tuple((v, n) for v, n in raw["versions"])})
        for raw in plain["attempts"]
    ]
    return CarriedGroup(plain["item_id"], plain["step"], attempts)


def prompts_to_draw(prompts_per_step: int, oversample: float, carried: int) -> int:
    """New prompts of a step that has `carried` groups already."""
    return max(0, ceil(prompts_per_step * oversample - 1e-9) - carried)  # 10 * 1.1 is a little above 11


def with_versions(attempts: Sequence[Attempt], before: CarriedGroup | None, version: int) -> list[Attempt]:
    """The attempts with `version` entered for the tokens that they did not have `before`."""
    runs: list[Versions] = [()] * len(attempts) if before is None else [a.versions for a in before.attempts]
    return [
        replace(attempt, versions=_extended(versions, len(attempt.ids), version))
        for attempt, versions in zip(attempts, runs, strict=True)
    ]


def _extended(versions: Versions, tokens: int, version: int) -> Versions:
    drawn = tokens - sum(count for _, count in versions)
    assert drawn >= 0, f"{-drawn} carried tokens are lost"
    if not drawn:
        return versions
    if versions and versions[-1][0] == version:  # the update in between was skipped
        return (*versions[:-1], (version, versions[-1][1] + drawn))
    return (*versions, (version, drawn))
