"""The sections and keys of a configuration, their types and their defaults. Defaults live here and only here."""

from dataclasses import dataclass, field
from typing import Literal

Stage = Literal["cold_start", "rl1", "mine", "rl2"]
Tier = Literal["easy", "moderate", "difficult"]
EMBEDDED = "embedded"  # model.path: the tiny model made on the spot; files of data: items of the teaching graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    dir: str
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """path: a Hugging Face directory, a run directory (its newest checkpoint), or `embedded`.

    exact: trainer and engine compute every log-prob bit for bit alike, in prefill, decode and training (slower): the
    agreement check then asks for a gap of 0. Needs rollout.tensor_parallel 1.
    """

    path: str
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of compute and of exports; master weights are fp32
    exact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Files of items and traces (JSON lines). Prompts longer than prompt_tokens are an error or dropped.

    shuffle_options  every time a training prompt is drawn for RL its options stand in another order, keyed by run.seed,
                     step and item; rows whose options refer to each other keep theirs. Mining, tiering and evaluation
                     ask in the source's order
    open_think       prompts end in an open <think>, also where the chat template leaves that to the model
    """

    train: list[str]
    held_out: list[str] = field(default_factory=list)
    dev: list[str] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    system: str | None = None
    prompt_tokens: int = 2048
    overlong: Literal["error", "drop"] = "error"
    drop_context: bool = False  # a control: every prompt without its item's context
    shuffle_options: bool = False
    open_think: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    tokens_per_micro_batch: int = 16384
    # false keeps whole weights and, over several micro-batches, whole fp32 gradients on every rank (ZeRO-2)
    reshard_after_forward: bool = True
    activation_checkpointing: bool = False
    timeout_s: int = 1800  # of every collective: the longest a rank may wait for another


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The engine on every rank. kv_tokens null: the engine's own rule (contracts, corl.Engine).

    check_sequences   so many sequences of every step, over all ranks, are scored by the trainer before its update and
                      compared with the engine's log-probs; 0 turns the check off
    max_gap           largest mean |trainer - engine| in nats over their tokens; above it the run stops. null measures
                      only. Under model.exact every gap but 0 stops the run
    oversample        every step works on prompts_per_step x oversample prompts and stops as soon as prompts_per_step
                      of them are complete. The others are carried into the next step with their tokens, log-probs and
                      policy versions, and finished at the end of the stage: none is dropped. Long completions no
                      longer hold a step up; part of their tokens come from older weights. Every engine stops at its
                      own share of prompts, on counted decode steps: a run repeats itself on the same number of ranks,
                      but another number of ranks may finish, and so train on, other prompts
    weights           shared: the engine reads the trainer's gathered weights, which stay gathered. arena: it has copies
                      of its own, freed while the trainer works. null: shared where parallel.reshard_after_forward is
                      false and tensor_parallel is 1, else arena
    tensor_parallel   so many consecutive ranks generate together, each with a slice of the weights and of the cache
    verify_swap       compare checksums of all weights with the trainer's after every swap (slow); a difference is an
                      error
    """

    max_seqs: int = 256
    page_size: int = 256
    kv_tokens: int | None = None
    check_sequences: int = 8
    max_gap: float | None = 0.05
    oversample: float = 1.0
    weights: Literal["shared", "arena"] | None = None
    tensor_parallel: Literal[1, 2, 4, 8] = 1
    verify_swap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Optim:
    lr: float
    warmup_steps: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    min_lr_ratio: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1.0e-8
    max_grad_norm: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAt:
    """Cold start ends when the dev items reach both; null means that the bound is not asked for."""

    accuracy: float | None = None  # sampled pass@1 at temperature 1
    letter_accuracy: float | None = None  # least greedy accuracy over the gold letters: guards against letter collapse


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    optim: Optim
    traces_per_step: int = 128
    epochs: int = 3
    max_steps: int | None = None
    mix: dict[Tier, float] | None = None  # shares of the difficulties in every batch; null: as the files have them
    dev_every: int | None = None
    stop_at: StopAt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Where the prompts of a step come from: two sides of the pool at a ratio, or the whole of it.

    difficulty: hard = items of hard_tiers, simple = easy.   mined: right/wrong by the newest policy that attempted an
    item, wrong = pass rate below wrong_below.   uniform: everything alike (the control of the other two).
    """

    by: Literal["difficulty", "mined", "uniform"]
    hard: float = 1.0
    simple: float = 1.0
    hard_tiers: list[Tier] = field(default_factory=lambda: ["moderate"])
    right: float = 1.0
    wrong: float = 2.0
    wrong_below: float = 0.5
    mine_every: int | None = None
    drop_never_passed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """The stage ends once the mean reward of the last `window` steps exceeds that of the `window` before by less than
    min_gain while at least min_zero_variance of their groups had equal rewards; never before min_steps."""

    window: int = 20
    min_gain: float = 0.01
    min_zero_variance: float = 0.0
    min_steps: int = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The policy objective, in the terms of corl_kernels.PolicyObjective."""

    kind: Literal["reinforce", "grpo", "gspo", "cispo"] = "reinforce"  # the paper's eq. 1
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    kl_coef: float = 0.0
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    entropy_coef: float = 0.0
    importance: Literal["token", "sequence"] = "token"
    rollout_correction: Literal["truncate", "mask"] | None = None
    rollout_cap: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """1 for a correct and well-formed completion, plus format_bonus for the form alone. control: random rewards."""

    format_bonus: float = 0.0
    control: Literal["random"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RL:
    optim: Optim
    mix: Mix
    max_steps: int
    prompts_per_step: int = 256
    group_size: int = 8
    max_tokens: int = 4096
    temperature: float = 1.0
    objective: Objective = field(default_factory=Objective)
    loss_norm: Literal["sequence_sum", "sequence_mean", "token_mean", "constant"] = "sequence_sum"
    divide_by_std: bool = False
    updates_per_rollout: int = 1
    old_logprobs: Literal["score", "engine"] = "score"  # a scoring pass is made only where the ratio can differ from 1
    mask_truncated: bool = False
    zero_variance: Literal["keep", "replace"] = "keep"
    replace_rounds: int = 2  # at most so many extra rollouts a step look for groups to replace
    tier_samples: int = 8
    reward: Reward = field(default_factory=Reward)
    plateau: Plateau | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    samples: int = 4
    max_tokens: int = 4096
    temperature: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Eval:
    """Held-out items: `samples` at temperature 1 and one greedy completion each; limit null takes every item."""

    every: int | None = None
    samples: int = 1
    max_tokens: int = 4096
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    every: int = 20
    keep: int = 2  # newest complete ones; the one of the best evaluation is kept besides
    keep_stage_ends: bool = False  # and those a stage ended with


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    stages: list[Stage]
    run: Run
    model: Model
    data: Data
    parallel: Parallel = field(default_factory=Parallel)
    rollout: Rollout = field(default_factory=Rollout)
    cold_start: ColdStart | None = None
    rl1: RL | None = None
    mine: Mine | None = None
    rl2: RL | None = None
    eval: Eval = field(default_factory=Eval)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    max_bad_steps: int = 3  # steps in a row whose loss or gradient norm is not finite


def weights_mode(config: Config) -> Literal["shared", "arena"]:
    """What rollout.weights is, or comes to where it is null."""
    if config.rollout.weights is not None:
        return config.rollout.weights
    return "arena" if config.parallel.reshard_after_forward or config.rollout.tensor_parallel > 1 else "shared"
