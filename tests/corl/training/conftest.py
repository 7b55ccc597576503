"""A session whose solver answers from a table instead of from an engine."""

from types import SimpleNamespace

import pytest
import torch

from corl.config import Config, Data, Model, Parallel, Run
from corl.curriculum.pool import Pool
from corl.parallel import World
from corl.rollout.stats import EngineStats
from corl.rollout.weights import SwapReport
from corl.training.session import Data as SessionData
from corl.training.session import RunState, Session


class StubSolver:
    """Sample s of an item is correct where correct(item id, s) says so; `calls` are (purpose, step, item ids)."""

    def __init__(self, correct, make_attempt):
        self.correct, self.make_attempt = correct, make_attempt
        self.calls, self.swaps = [], 0
        self.engine = SimpleNamespace(
            swap_weights=self._swap, last_stats=EngineStats(), max_seqs=8, tensor_parallel=None
        )

    def _swap(self, decoder):
        self.swaps += 1
        return SwapReport(640, 0.25)

    def attempt(self, prompts, sampling, *, step, expected=None, carried=None, enough=None):
        assert not carried and enough is None, "this solver finishes what it starts"
        self.calls.append((sampling.purpose, step, [p.item.id for p in prompts]))
        assert self.swaps > 0, "sampled before the engine saw the weights"
        return [
            [
                self.make_attempt(p.item.id, s, bool(self.correct(p.item.id, s)), length=2 + s % 3)
                for s in range(sampling.samples)
            ]
            for p in prompts
        ]


@pytest.fixture
def make_session(make_prompt, make_attempt, tmp_path):
    """make_session(tiers, correct, **replacements): one training item per tier, at step 0 of stage rl1."""

    def make(tiers, correct=lambda item, sample: False, *, tokens=16384, world=None, **replacements) -> Session:
        train = [make_prompt(k, tier, length=3 + k % 4) for k, tier in enumerate(tiers)]
        config = Config(
            stages=["rl1"],
            run=Run(dir=str(tmp_path), seed=3),
            model=Model(path="embedded"),
            data=Data(train=["embedded"]),
            parallel=Parallel(tokens_per_micro_batch=tokens),
        )
        (tmp_path / "rollouts").mkdir(exist_ok=True)
        fields = {
            "config": config,
            "run_dir": tmp_path,
            "world": world or World(0, 1, torch.device("cpu"), None),
            "decoder": None,
            "parameters": {},
            "tokenizer": None,
            "solver": StubSolver(correct, make_attempt),
            "data": SessionData(train, [], [], []),
            "pool": Pool([p.item for p in train]),
            "state": RunState("rl1"),
            "log": None,
            "stage_source": None,
        }
        return Session(**(fields | replacements))

    return make
