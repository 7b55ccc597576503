"""What the stages of a run share: the sharded model, the engine, the data, the pool, the position, the logs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from corl.checkpoint import checkpoint_name, load_tensors, prune_checkpoints, save_checkpoint
from corl.config import Config, Optim, weights_mode
from corl.curriculum.pool import Pool
from corl.data.items import Trace
from corl.data.tokenizer import Tokenizer
from corl.evaluation.attempts import Attempt, Prompt, Sampling, Solver
from corl.evaluation.evaluate import Evaluation, evaluate
from corl.model.decoder import Decoder
from corl.observe.metrics import MetricsLog
from corl.parallel import Parameters, World
from corl.rollout.weights import SwapReport
from corl.training.carry import CarriedGroup, with_versions
from corl.training.optimizer import optimizer_tensors
from corl.training.trainer import Trainer, Update
from corl.training.weights import WeightSource


class StoppedError(RuntimeError):
    """The run cannot go on as configured. Every rank raises it alike; the checkpoints written so far are whole."""


class BadStepsError(StoppedError):
    """Too many steps in a row had a loss or a gradient norm that is not finite."""


@dataclass(slots=True)
class RunState:
    """Position and history of a run: with weights, optimiser and pool, all that a resume needs.

    All random choices are keyed by (run.seed, step, ids), so the position is the random state.
    """

    stage: str  # the one that runs, or "done"
    step: int = 0  # over the whole run
    stage_step: int = 0
    updates: int = 0  # applied in this stage
    policy_version: int = 0  # updates applied in the whole run
    bad_streak: int = 0
    rewards: list[float] = field(default_factory=list)  # per step of this stage
    zero_variance: list[float] = field(default_factory=list)
    best: dict[str, Any] | None = None
    ablation: list[dict[str, Any]] = field(default_factory=list)
    lineage: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, stage: str) -> None:
        self.stage, self.stage_step, self.updates, self.bad_streak = stage, 0, 0, 0
        self.rewards, self.zero_variance = [], []


@dataclass(slots=True)
class Data:
    train: list[Prompt]
    dev: list[Prompt]
    held_out: list[Prompt]
    traces: list[Trace]
    encoded_traces: list[tuple[list[int], int]] = field(default_factory=list)  # ids and prompt length of each
    longest_train: int = field(init=False, default=0)  # tokens of the longest training prompt

    def __post_init__(self) -> None:
        self.longest_train = max((len(prompt.ids) for prompt in self.train), default=0)


@dataclass(slots=True)
class Session:
    config: Config
    run_dir: Path
    world: World
    decoder: Decoder
    parameters: Parameters
    tokenizer: Tokenizer
    solver: Solver
    data: Data
    pool: Pool
    state: RunState
    log: MetricsLog | None  # rank 0 alone writes
    stage_source: WeightSource  # the weights the present stage started from
    resume_optimizer_from: Path | None = None
    carried: list[CarriedGroup] = field(default_factory=list)  # into the next step of this stage

    @property
    def checkpoints(self) -> Path:
        return self.run_dir / "checkpoints"

    def trainer(self, optim: Optim, total_steps: int) -> Trainer:
        """A trainer with a fresh optimiser, or with the one of the checkpoint this run was resumed from."""
        self.leave_rollout()  # an evaluation may have been the last to use the memory
        keep = weights_mode(self.config) == "shared"
        shard = self.config.parallel.reshard_after_forward
        trainer = Trainer(
            self.decoder, self.parameters, self.world, optim, total_steps, keep_gathered=keep, shard_gradients=shard
        )
        if self.resume_optimizer_from is not None:
            tensors = optimizer_tensors(self.parameters, trainer.optimizer)
            load_tensors(self.resume_optimizer_from, {f"optimizer.{k}": v for k, v in tensors.items()})
            self.resume_optimizer_from = None
        return trainer

    def swap_weights(self) -> SwapReport:
        """Let the engine see the weights as the last update left them."""
        report = self.solver.engine.swap_weights(self.decoder)
        if self.config.rollout.verify_swap:
            self.solver.engine.verify_weights(self.decoder)
        return report

    def leave_rollout(self) -> None:
        """Free what only a rollout needs on a GPU: the KV cache, and the weights that the engine has of its own."""
        if self.world.device.type == "cuda":
            self.solver.engine.sleep()

    def account(self, update: Update) -> None:
        """Count an update, applied or skipped."""
        if update.applied:
            self.state.updates += 1
            self.state.policy_version += 1
            self.state.bad_streak = 0
        else:
            self.state.bad_streak += 1

    def stop_if_stuck(self, update: Update) -> None:
        """Raises BadStepsError once config.max_bad_steps updates in a row were skipped, `update` the last of them."""
        if self.state.bad_streak >= self.config.max_bad_steps:
            raise BadStepsError(
                f"step {self.state.step}: {self.state.bad_streak} updates in a row were not finite (loss "
                f"{update.loss}, gradient norm {update.grad_norm}); the last one's items: "
                f"{', '.join(update.bad_items[:8])}; no checkpoint was overwritten"
            )

    def evaluate(self, prompts: list[Prompt], samples: int) -> Evaluation:
        self.swap_weights()
        max_tokens = self.config.eval.max_tokens
        return evaluate(self.solver, prompts, samples=samples, max_tokens=max_tokens, step=self.state.step)

    def evaluate_when_due(self) -> Evaluation | None:
        """Held-out accuracy every eval.every steps; the best one so far pins its checkpoint."""
        settings = self.config.eval
        if settings.every is None or self.state.stage_step % settings.every:
            return None
        result = self.evaluate(self.data.held_out[: settings.limit], settings.samples)
        better = self.state.best is None or result.accuracy > self.state.best["accuracy"]
        if better and not self.state.bad_streak:  # the checkpoint of a skipped step is never written
            name = checkpoint_name(self.state.step, self.state.stage)
            self.state.best = {"step": self.state.step, "accuracy": result.accuracy, "checkpoint": name}
        return result

    def attempt_into_pool(
        self,
        prompts: list[Prompt],
        sampling: Sampling,
        *,
        carried: Sequence[CarriedGroup] = (),
        enough: int | None = None,
    ) -> list[list[Attempt]]:
        """Attempt `prompts` with the engine's weights and enter passes and lengths into the pool; a collective.

        carried  of some of the prompts: they go on from there, and first, since what was left over is long
        enough   stop once so many prompts have all their attempts; the pool hears of those alone
        """
        version, before = self.state.policy_version, {group.item_id: group for group in carried}
        expected = {item: tokens for item, tokens in self.pool.expected_tokens().items() if item not in before}
        so_far = {(name := sampling.request_id(item_id)): group.for_engine(name) for item_id, group in before.items()}
        found = self.solver.attempt(
            prompts, sampling, step=self.state.step, expected=expected, carried=so_far, enough=enough
        )
        pairs = zip(prompts, found, strict=True)
        attempts = [with_versions(samples, before.get(prompt.item.id), version) for prompt, samples in pairs]
        for prompt, samples in zip(prompts, attempts, strict=True):
            if all(a.finished for a in samples):
                self.pool.observe(
                    prompt.item.id,
                    version,
                    len(samples),
                    sum(a.grade.correct and a.grade.format_ok for a in samples),
                    sum(len(a.ids) for a in samples) / len(samples),
                )
        return attempts

    def checkpoint_when_due(self, trainer: Trainer, *, ended: bool) -> None:
        """Save every checkpoint.every steps and where the best accuracy was read; never on a skipped step.

        The step that ends a stage is left to the pipeline, which saves once the stage is closed.
        """
        if ended or self.state.bad_streak:
            return
        best_now = self.state.best is not None and self.state.best["step"] == self.state.step
        if self.state.stage_step % self.config.checkpoint.every == 0 or best_now:
            self.save(self.state.stage, trainer)

    def save(self, stage: str, trainer: Trainer | None) -> None:
        tensors: dict[str, torch.Tensor] = {f"model.{k}": v for k, v in self.parameters.items()}
        if trainer is not None:
            moments = optimizer_tensors(self.parameters, trainer.optimizer)
            tensors |= {f"optimizer.{k}": v for k, v in moments.items()}
        name = checkpoint_name(self.state.step, stage)
        carried = [group.plain() for group in self.carried]
        save_checkpoint(
            self.checkpoints, name, tensors, asdict(self.state), self.pool.state(), self.world, carried=carried
        )
        if self.world.is_main:
            pinned = {record["checkpoint"] for record in self.state.lineage if "checkpoint" in record}
            kept = pinned if self.config.checkpoint.keep_stage_ends else set()
            kept |= {self.stage_source.path.name}  # a KL term's reference reads it again after a resume
            if self.state.best is not None:
                kept.add(self.state.best["checkpoint"])
            prune_checkpoints(self.checkpoints, self.config.checkpoint.keep, kept)
