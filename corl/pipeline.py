"""A run: its stages in order, each told from what it started, resumable between and within them."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from corl.checkpoint import checkpoint_name, complete_checkpoints, load_carried, load_state, remove_unfinished
from corl.config import RL, Config, dump_config, to_plain, weights_mode
from corl.curriculum.pool import Pool
from corl.evaluation.ablation import ablation_table, write_ablation
from corl.evaluation.attempts import Solver
from corl.model.checkpoint_io import COPIED
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.observe.metrics import MetricsLog, replace_text
from corl.parallel import Parameters, World, fingerprint, shard_decoder
from corl.prepare import Prepared
from corl.rollout.engine import Engine
from corl.rollout.tensor_parallel import tensor_parallel_group
from corl.training.carry import CarriedGroup, carried_group
from corl.training.grpo import train_rl
from corl.training.mine import mine
from corl.training.session import RunState, Session
from corl.training.sft import train_sft
from corl.training.tiny_base import make_base
from corl.training.weights import WeightSource, load_weights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def run(prepared: Prepared, world: World) -> None:
    """Run every stage that is not done yet, from the newest complete checkpoint of run.dir if there is one."""
    session = open_session(prepared, world)
    config, state = session.config, session.state
    for note in prepared.notes:
        _say(world, note)
    order = [*config.stages, "done"]
    _write_lineage(session)  # a kill may have come between the last checkpoint and this file
    if state.stage == "done":
        _say(world, f"{session.run_dir}: all stages are done\n{ablation_table(state.ablation)}")
    if not state.ablation and session.data.held_out and state.step == 0 and state.stage_step == 0:
        _add_ablation_row(session, "base")
    while state.stage != "done":
        stage = state.stage
        if state.stage_step == 0:
            _begin_lineage(session, prepared, stage)
        result: dict[str, Any] | None = None
        settings = getattr(config, stage)
        if stage == "cold_start":
            why = train_sft(session, settings)
        elif stage == "mine":
            why, result = "done", mine(session, settings)
        else:
            why = train_rl(session, stage, settings)
        if stage != "mine" and session.data.held_out:
            _add_ablation_row(session, stage)
        _end_stage(session, stage, why, result, order[order.index(stage) + 1])
    if session.log is not None:
        session.log.close()


def open_session(prepared: Prepared, world: World) -> Session:
    """Build the sharded model and everything around it, at the position of the newest complete checkpoint."""
    config = prepared.config
    run_dir = Path(config.run.dir)
    if world.is_main:
        for folder in ("checkpoints", "rollouts"):
            (run_dir / folder).mkdir(parents=True, exist_ok=True)
        remove_unfinished(run_dir / "checkpoints")
        replace_text(run_dir / "config.yaml", dump_config(config))
    world.barrier()
    source, model_files = prepared.source, prepared.model_files
    if source is None:
        base = make_base(run_dir / "base", world, config)
        source, model_files = WeightSource("hugging_face", base), base
    assert model_files is not None
    if world.is_main and not (run_dir / "model_files").exists():
        _copy_model_files(model_files, run_dir / "model_files")

    pool = Pool([prompt.item for prompt in prepared.data.train])
    state = RunState(stage=config.stages[0])
    carried: list[CarriedGroup] = []
    weights, resume_from = source, None
    found = complete_checkpoints(run_dir / "checkpoints")
    if found:
        plain, arrays = load_state(found[-1])
        state = RunState(**plain)
        pool.load(arrays)
        carried = [carried_group(plain) for plain in load_carried(found[-1])]
        weights = WeightSource("checkpoint", found[-1])
        resume_from = found[-1] if state.stage_step else None
        _say(world, f"resumed from {found[-1].name}: stage {state.stage}, step {state.step}")
    stage_source = weights
    if state.stage_step and len(state.lineage) > 1:
        stage_source = WeightSource("checkpoint", run_dir / "checkpoints" / state.lineage[-2]["checkpoint"])
    elif state.stage_step:
        stage_source = source

    decoder, parameters = build_decoder(model_files, world, config)
    load_weights(weights, parameters)
    engine = Engine(
        decoder,
        tokenizer=prepared.tokenizer,
        max_seqs=config.rollout.max_seqs,
        kv_tokens=config.rollout.kv_tokens,
        page_size=config.rollout.page_size,
        seed=config.run.seed,
        exact=config.model.exact,
        reserved_bytes=training_bytes(parameters, config),
        weights=weights_mode(config),
        tensor_parallel=tensor_parallel_group(world, config.rollout.tensor_parallel),
    )
    return Session(
        config=config,
        run_dir=run_dir,
        world=world,
        decoder=decoder,
        parameters=parameters,
        tokenizer=prepared.tokenizer,
        solver=Solver(engine, prepared.tokenizer, world, tensor_parallel=config.rollout.tensor_parallel),
        data=prepared.data,
        pool=pool,
        state=state,
        log=MetricsLog(run_dir, state.step) if world.is_main else None,
        stage_source=stage_source,
        resume_optimizer_from=resume_from,
        carried=carried,
    )


def training_bytes(parameters: Parameters, config: Config) -> int:
    """Bytes a rank will hold beside weights and cache while it generates, none of which is there yet: Adam's moments,
    and the reference's weights where a stage has a KL term."""
    stages = [getattr(config, stage) for stage in config.stages]
    has_reference = any(isinstance(stage, RL) and stage.objective.kl_coef for stage in stages)
    each = 8 + 4 * has_reference
    return sum(each * parameter.to_local().numel() for parameter in parameters.values())


def build_decoder(model_files: Path, world: World, config: Config) -> tuple[Decoder, Parameters]:
    """A sharded decoder, its weights not yet set."""
    with torch.device("meta"):
        decoder = Decoder(replace(ModelConfig.from_directory(model_files), dtype=torch.float32))
    decoder.set_activation_checkpointing(config.parallel.activation_checkpointing)
    decoder.set_exact(config.model.exact)
    parameters = shard_decoder(
        decoder,
        world,
        compute_dtype=DTYPES[config.model.dtype],
        reshard_after_forward=config.parallel.reshard_after_forward,
    )
    return decoder, parameters


def _begin_lineage(session: Session, prepared: Prepared, stage: str) -> None:
    """Record what the stage starts from. A stage begun again after a kill records the same."""
    state = session.state
    before = [record for record in state.lineage if record["stage"] != stage]
    state.begin(stage)
    session.pool.draws[:] = 0
    settings = json.dumps(to_plain(getattr(session.config, stage)), sort_keys=True)
    state.lineage = [
        *before,
        {
            "stage": stage,
            "started_from": {
                "kind": session.stage_source.kind,
                "path": str(session.stage_source.path),
                "weights": fingerprint(session.parameters, session.world),
            },
            "first_step": state.step + 1,
            "settings_sha256": hashlib.sha256(settings.encode()).hexdigest(),
            "data_sha256": prepared.data_hashes,
        },
    ]
    _write_lineage(session)


def _end_stage(session: Session, stage: str, why: str, result: dict[str, Any] | None, following: str) -> None:
    state = session.state
    name = checkpoint_name(state.step, stage)
    state.lineage[-1] |= {
        "last_step": state.step,
        "ended_by": why,
        "checkpoint": name,
        "ended_with": fingerprint(session.parameters, session.world),
    } | ({"result": result} if result else {})
    state.begin(following)
    session.save(stage, None)
    session.stage_source = WeightSource("checkpoint", session.checkpoints / name)
    _write_lineage(session)
    _say(session.world, f"{stage} ended after step {state.step}: {why}")


def _add_ablation_row(session: Session, name: str) -> None:
    row = session.evaluate(session.data.held_out, session.config.eval.samples).row(name)
    session.state.ablation = [r for r in session.state.ablation if r["name"] != name] + [row]
    if session.world.is_main:
        write_ablation(session.run_dir, session.state.ablation)
        print(ablation_table(session.state.ablation), flush=True)


def _write_lineage(session: Session) -> None:
    if session.world.is_main:
        text = json.dumps({"stages": session.state.lineage}, indent=1) + "\n"
        replace_text(session.run_dir / "lineage.json", text)


def _copy_model_files(source: Path, target: Path) -> None:
    """config.json and the tokenizer, so that a run directory exports without its source."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for file in {source / "config.json", *(f for pattern in COPIED for f in source.glob(pattern))}:
        (shutil.copytree if file.is_dir() else shutil.copyfile)(file, unfinished / file.name)
    unfinished.rename(target)


def _say(world: World, text: str) -> None:
    if world.is_main and text:
        print(text, flush=True)
