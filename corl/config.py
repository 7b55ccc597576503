"""The typed configuration of a run: one YAML file, strict, complete before anything loads.

Defaults live here and only here. A key that is not here, a value of the wrong type or a contradictory pair is a
ValueError of one line that names the file, the key, the value and the way out.
"""

import math
import types
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

Stage = Literal["cold_start", "rl1", "mine", "rl2"]
Tier = Literal["easy", "moderate", "difficult"]
EMBEDDED = "embedded"  # model.path: the tiny model made on the spot; files of data: items of the teaching graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    dir: str
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """path: a Hugging Face directory, a run directory (its newest checkpoint), or `embedded`."""

    path: str
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of compute and of exports; master weights are fp32


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Files of items and traces (JSON lines). Prompts longer than prompt_tokens are an error or dropped."""

    train: list[str]
    held_out: list[str] = field(default_factory=list)
    dev: list[str] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    system: str | None = None
    prompt_tokens: int = 2048
    overlong: Literal["error", "drop"] = "error"
    drop_context: bool = False  # a control: every prompt without its item's context


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    tokens_per_micro_batch: int = 16384
    reshard_after_forward: bool = True  # false keeps gathered weights through the backward (ZeRO-2)
    activation_checkpointing: bool = False
    timeout_s: int = 1800  # of every collective: the longest a rank may wait for another


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The engine on every rank. kv_tokens null: the engine's own rule (contracts, corl.Engine)."""

    max_seqs: int = 256
    page_size: int = 256
    kv_tokens: int | None = None


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
    old_logprobs: Literal["score", "engine"] = "score"  # used when updates_per_rollout > 1 or the objective clips
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


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read `path`, apply `key.sub=value` overrides, check everything; ValueError of one line for any fault."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"config {path}: no such file")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config {path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"config {path}: expected a mapping of sections, got {type(raw).__name__}")
    for override in overrides:
        _apply_override(raw, override)
    config = build(Config, raw, str(path))
    _check(config, str(path))
    return config


def build(cls: type, raw: Any, source: str, prefix: str = "") -> Any:
    """Dataclass `cls` from plain YAML values, each checked against its annotation; `prefix` is the key path so far."""
    if not isinstance(raw, dict):
        raise ValueError(f"{source}: {prefix.rstrip('.')}: expected a section of keys, got {_shown(raw)}")
    hints = get_type_hints(cls)
    unknown = [key for key in raw if key not in hints]
    if unknown:
        raise ValueError(f"{source}: unknown key {prefix}{unknown[0]}; allowed here: {', '.join(hints)}")
    values = {}
    for f in fields(cls):
        if f.name in raw:
            values[f.name] = _convert(hints[f.name], raw[f.name], source, prefix + f.name)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{source}: missing key {prefix}{f.name}")
    return cls(**values)


def to_plain(value: Any) -> Any:
    """The inverse of `build`: nested dataclasses as dicts and lists that YAML and JSON can hold."""
    if is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    return value


def dump_config(config: Config) -> str:
    return yaml.safe_dump(to_plain(config), sort_keys=False)


class _UniqueKeys(yaml.SafeLoader):
    """Plain YAML takes the last of two equal keys and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.MarkedYAMLError(problem=f"key {twice} stands twice; keep one", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _apply_override(raw: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"override {override!r}: expected key.sub=value")
    *sections, last = key.split(".")
    node = raw
    for section in sections:
        if node.get(section) is None:
            node[section] = {}
        node = node[section]
        if not isinstance(node, dict):
            raise ValueError(f"override {override!r}: {section} is a value, not a section")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"override {override!r}: not YAML: {' '.join(str(error).split())}") from None


def _convert(hint: Any, value: Any, source: str, key: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, source, key)
    if origin is Literal:
        if value not in args or isinstance(value, bool):
            raise ValueError(f"{source}: {key}: {_shown(value)} is not one of {', '.join(map(str, args))}")
        return value
    if isinstance(hint, type) and is_dataclass(hint):
        return build(hint, value, source, key + ".")
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{source}: {key}: expected a list, got {_shown(value)}")
        return [_convert(args[0], v, source, f"{key}[{i}]") for i, v in enumerate(value)]
    if origin is tuple:
        if not isinstance(value, list) or len(value) != len(args):
            raise ValueError(f"{source}: {key}: expected a list of {len(args)}, got {_shown(value)}")
        return tuple(_convert(a, v, source, f"{key}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{source}: {key}: expected a section of keys, got {_shown(value)}")
        return {_convert(args[0], k, source, key): _convert(args[1], v, source, f"{key}.{k}") for k, v in value.items()}
    return _scalar(hint, value, source, key)


def _scalar(hint: type, value: Any, source: str, key: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{source}: {key}: {value} is not a finite number")
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    hint_name = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}[hint]
    note = ""
    if hint in (int, float) and isinstance(value, str) and _reads_as_number(value):
        note = f"; YAML reads {value} as text, write it with a point, as in 1.0e-6"
    raise ValueError(f"{source}: {key}: expected {hint_name}, got {_shown(value)}{note}")


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"


def _check(config: Config, source: str) -> None:
    """Ranges and pairs that contradict each other."""

    def need(ok: bool, message: str) -> None:
        if not ok:
            raise ValueError(f"{source}: {message}")

    need(bool(config.stages), "stages: empty; name at least one of cold_start, rl1, mine, rl2")
    need(len(set(config.stages)) == len(config.stages), f"stages: {config.stages} names a stage twice")
    order = [s for s in get_args(Stage) if s in config.stages]
    need(config.stages == order, f"stages: {config.stages} are out of order; write {order}")
    for stage in config.stages:
        need(getattr(config, stage) is not None, f"missing key {stage}: it is named in stages")
    need(
        "cold_start" not in config.stages or bool(config.data.traces),
        "data.traces: empty; stage cold_start trains on traces",
    )
    need(0 <= config.run.seed < 2**63, f"run.seed: {config.run.seed} is not in 0 .. 2^63 - 1")

    def at_least_one(section: Any, prefix: str, *keys: str) -> None:
        for key in keys:
            value = getattr(section, key)
            need(value is None or value >= 1, f"{prefix}{key}: {value} is not above 0")

    at_least_one(config, "", "max_bad_steps")
    at_least_one(config.data, "data.", "prompt_tokens")
    at_least_one(config.parallel, "parallel.", "tokens_per_micro_batch", "timeout_s")
    at_least_one(config.rollout, "rollout.", "max_seqs", "page_size", "kv_tokens")
    at_least_one(config.checkpoint, "checkpoint.", "every", "keep")
    at_least_one(config.eval, "eval.", "every", "samples", "max_tokens", "limit")
    if config.mine is not None:
        at_least_one(config.mine, "mine.", "samples", "max_tokens")
        need(config.mine.temperature >= 0, f"mine.temperature: {config.mine.temperature} is negative")
    for name in ("rl1", "rl2"):
        rl = getattr(config, name)
        if rl is not None:
            _check_rl(rl, name, need)
            need(
                rl.mix.mine_every is None or config.mine is not None,
                f"missing key mine: {name}.mix.mine_every mines with its settings",
            )
            at_least_one(rl, f"{name}.", "max_steps", "prompts_per_step", "max_tokens", "tier_samples")
            at_least_one(rl.mix, f"{name}.mix.", "mine_every")
            if rl.plateau is not None:
                at_least_one(rl.plateau, f"{name}.plateau.", "window")
    for name, section in (("cold_start", config.cold_start), ("rl1", config.rl1), ("rl2", config.rl2)):
        if section is not None:
            _check_optim(section.optim, f"{name}.optim", need)
    if config.cold_start is not None:
        cold = config.cold_start
        at_least_one(cold, "cold_start.", "traces_per_step", "epochs", "max_steps", "dev_every")
        need(
            cold.stop_at is None or cold.dev_every is not None,
            "cold_start.stop_at needs cold_start.dev_every: the stop is decided on dev items",
        )
        need(
            cold.dev_every is None or bool(config.data.dev),
            "cold_start.dev_every needs data.dev: no dev items are named",
        )
        shares = [1.0] if cold.mix is None else list(cold.mix.values())
        need(
            min(shares, default=0) >= 0 and sum(shares) > 0,
            "cold_start.mix: no share may be negative, and one must be above 0",
        )
    need(config.eval.every is None or bool(config.data.held_out), "eval.every needs data.held_out: no items are named")


def _check_optim(optim: Optim, name: str, need: Any) -> None:
    for key in ("lr", "eps", "max_grad_norm"):
        need(getattr(optim, key) > 0, f"{name}.{key}: {getattr(optim, key)} is not above 0")
    for key in ("warmup_steps", "weight_decay"):
        need(getattr(optim, key) >= 0, f"{name}.{key}: {getattr(optim, key)} is negative")
    need(0 <= optim.min_lr_ratio <= 1, f"{name}.min_lr_ratio: {optim.min_lr_ratio} is not in 0 .. 1")
    need(all(0 <= beta < 1 for beta in optim.betas), f"{name}.betas: {optim.betas}; both must be in 0 .. 1, 1 excluded")


def _check_rl(rl: RL, name: str, need: Any) -> None:
    need(rl.group_size >= 2, f"{name}.group_size: {rl.group_size}; a group baseline needs at least 2 samples")
    need(
        rl.updates_per_rollout >= 1 and rl.prompts_per_step % rl.updates_per_rollout == 0,
        f"{name}.updates_per_rollout: {rl.updates_per_rollout} does not divide prompts_per_step {rl.prompts_per_step}",
    )
    need(rl.replace_rounds >= 0, f"{name}.replace_rounds: {rl.replace_rounds} is negative")
    need(rl.temperature > 0, f"{name}.temperature: {rl.temperature}; sampling for a gradient needs one above 0")
    objective = rl.objective
    need(
        not (objective.kind == "reinforce" and objective.importance == "sequence"),
        f"{name}.objective: kind reinforce has no importance ratio; importance: sequence contradicts it",
    )
    need(
        rl.updates_per_rollout == 1 or objective.kind != "reinforce",
        f"{name}.updates_per_rollout: {rl.updates_per_rollout} leaves the policy behind its samples, which objective "
        f"reinforce cannot correct; use kind grpo, gspo or cispo, or updates_per_rollout 1",
    )
    need(
        not (objective.rollout_correction is not None and rl.old_logprobs == "engine"),
        f"{name}.objective.rollout_correction compares a scoring pass with the engine; old_logprobs: engine has none",
    )
    need(
        rl.mix.mine_every is None or rl.mix.by == "mined",
        f"{name}.mix.mine_every is set but {name}.mix.by is {rl.mix.by}; only mix.by: mined mines",
    )
    need(
        all(x >= 0 for x in (rl.mix.hard, rl.mix.simple, rl.mix.right, rl.mix.wrong))
        and rl.mix.hard + rl.mix.simple > 0
        and rl.mix.right + rl.mix.wrong > 0,
        f"{name}.mix: a ratio needs two shares of at least 0 and one above it",
    )
    need("easy" not in rl.mix.hard_tiers, f"{name}.mix.hard_tiers: easy is the simple side")
    need(0 <= rl.mix.wrong_below <= 1, f"{name}.mix.wrong_below: {rl.mix.wrong_below} is no pass rate (0 to 1)")
