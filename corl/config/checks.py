"""Ranges of single keys, and pairs of keys that contradict each other."""

from typing import Any, get_args

from corl.config.schema import RL, Config, Optim, Stage


def check_config(config: Config, source: str) -> None:
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
    _check_rollout(config, need)
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


def _check_rollout(config: Config, need: Any) -> None:
    rollout = config.rollout
    need(rollout.check_sequences >= 0, f"rollout.check_sequences: {rollout.check_sequences} is negative; 0 is off")
    need(
        rollout.max_gap is None or rollout.max_gap > 0,
        f"rollout.max_gap: {rollout.max_gap} is not above 0; null sets no bound, model.exact asks for a gap of 0",
    )
    shared, size = rollout.weights == "shared", rollout.tensor_parallel
    need(
        not (shared and config.parallel.reshard_after_forward),
        "rollout.weights: shared reads the trainer's gathered weights, which parallel.reshard_after_forward true "
        "frees; set that to false, or use rollout.weights arena",
    )
    need(
        not (shared and size > 1),
        f"rollout.weights: shared reads whole parameters, rollout.tensor_parallel {size} needs slices of them; use "
        "rollout.weights arena or tensor_parallel 1",
    )
    need(
        not (config.model.exact and size > 1),
        f"rollout.tensor_parallel: {size} adds up in another order than the trainer, which model.exact true rules out; "
        "use tensor_parallel 1",
    )
    need(rollout.oversample >= 1, f"rollout.oversample: {rollout.oversample} is below 1, which is off")
    for name in ("rl1", "rl2"):
        rl = getattr(config, name)
        if rollout.oversample == 1 or rl is None or name not in config.stages:
            continue
        need(
            rl.zero_variance != "replace",
            f"rollout.oversample: {rollout.oversample} with {name}.zero_variance replace; a rollout that stops early "
            f"has no further rounds: use zero_variance keep or oversample 1",
        )
        need(
            rl.objective.rollout_correction is not None
            or (rl.old_logprobs == "engine" and rl.objective.kind != "reinforce"),
            f"rollout.oversample: {rollout.oversample} trains on tokens of older weights, which {name} does not "
            f"correct; set {name}.objective.rollout_correction, or old_logprobs: engine with kind grpo, gspo or cispo",
        )


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
