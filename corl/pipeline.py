"""A run: its stages in order, each told from what it started, resumable between and within them."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from corl.checkpoint import checkpoint_name, complete_checkpoints, load_state, remove_unfinished
from corl.config import EMBEDDED, Config, dump_config, to_plain
from corl.curriculum.pool import Pool
from corl.data.items import Item, Trace, file_sha256, read_items, read_traces
from corl.data.tokenizer import OverlongError, Tokenizer, encode_prompts
from corl.evaluation.ablation import ablation_table, write_ablation
from corl.evaluation.attempts import Prompt, Solver
from corl.input_checks import check_ids, check_run_dir, check_stages
from corl.model.checkpoint_io import COPIED, checked_headers
from corl.model.config import ModelConfig
from corl.model.decoder import Decoder
from corl.observe.metrics import MetricsLog, replace_text
from corl.parallel import Parameters, World, fingerprint, shard_decoder
from corl.rods.embedded_items import embedded_items
from corl.rods.traces import trace
from corl.rollout.engine import Engine
from corl.training.grpo import train_rl
from corl.training.mine import mine
from corl.training.session import Data, RunState, Session
from corl.training.sft import encode_trace, train_sft
from corl.training.tiny_base import make_base, write_tiny_files
from corl.training.weights import WeightSource, load_weights

# Of the embedded items, those whose facts are all true. With more of them the facts can be learnt by heart, and a
# question answered without its context; with none the demo would hold no medicine (see embedded_items).
REAL_SHARE = 0.1
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything a run reads, read and checked. `source` is None for the embedded model, which is yet to be made."""

    config: Config
    source: WeightSource | None
    model_files: Path | None  # config.json and tokenizer of the source
    tokenizer: Tokenizer
    data: Data
    data_hashes: dict[str, str]
    notes: list[str]  # what was left out of the data and why


def prepare(config: Config) -> Prepared:
    """Read and check model headers, tokenizer, items and traces; ValueError of one line for any fault.

    No process group is needed and nothing is written, so every rank fails alike, before any of them waits for another.
    """
    if config.model.path == EMBEDDED:
        source, model_files = None, None
        with tempfile.TemporaryDirectory() as folder:
            write_tiny_files(Path(folder))
            model_config = ModelConfig.from_directory(folder)
            tokenizer = Tokenizer.from_directory(folder)
    else:
        source, model_files = find_weights(Path(config.model.path))
        model_config = ModelConfig.from_directory(model_files)
        if source.kind == "hugging_face":
            checked_headers(source.path)
        tokenizer = Tokenizer.from_directory(model_files)
    if tokenizer.vocab_size > model_config.vocab_size:
        raise ValueError(
            f"model.path {config.model.path}: the tokenizer has {tokenizer.vocab_size} tokens, vocab_size in "
            f"config.json is {model_config.vocab_size}; use the tokenizer that belongs to the model"
        )
    items, traces, hashes = _read_data(config)
    check_ids(items, traces)
    check_stages(config, items["train"], traces)
    longest = max([0] + [s.max_tokens for s in (config.rl1, config.rl2, config.mine) if s is not None])
    notes: list[str] = []
    prompts = {
        name: _prompts(name, found, tokenizer, config, model_config, longest, notes) for name, found in items.items()
    }
    data = Data(**prompts, traces=traces)
    for t in traces:
        length = len(encode_trace(t, tokenizer, config.data.system)[0])
        for limit, what, way_out in (
            (model_config.max_positions, "positions of the model", "leave it out"),
            (config.parallel.tokens_per_micro_batch, "parallel.tokens_per_micro_batch", "raise that"),
        ):
            if length > limit:
                raise ValueError(
                    f"data.traces: trace of {t.item.id} has {length} tokens, above the {limit} {what}; {way_out}"
                )
    check_run_dir(config, hashes)
    return Prepared(config, source, model_files, tokenizer, data, hashes, notes)


def find_weights(path: Path) -> tuple[WeightSource, Path]:
    """The weights at `path` and the folder of config.json and tokenizer that goes with them.

    path is a Hugging Face directory, a run directory (its newest complete checkpoint) or one checkpoint of a run.
    """
    if (path / "state.json").is_file():
        return WeightSource("checkpoint", path), path.parent.parent / "model_files"
    if (path / "checkpoints").is_dir():
        found = complete_checkpoints(path / "checkpoints")
        if not found:
            raise ValueError(f"model.path {path}: this run has no complete checkpoint yet; let it come to its first")
        return WeightSource("checkpoint", found[-1]), path / "model_files"
    if (path / "config.json").is_file():
        return WeightSource("hugging_face", path), path
    raise ValueError(
        f"model.path {path}: no Hugging Face directory (config.json), run directory or checkpoint is there; "
        f"name one, or `{EMBEDDED}` for the tiny model made on the spot"
    )


def _read_data(config: Config) -> tuple[dict[str, list[Item]], list[Trace], dict[str, str]]:
    names = {"train": config.data.train, "dev": config.data.dev, "held_out": config.data.held_out}
    hashes: dict[str, str] = {}
    named = {file for files in (*names.values(), config.data.traces) for file in files}
    splits = embedded_items(config.run.seed, real_share=REAL_SHARE)._asdict() if EMBEDDED in named else {}
    items: dict[str, list[Item]] = {}
    for name, files in names.items():
        items[name] = []
        for file in files:
            if file == EMBEDDED:
                items[name] += splits[name]
                continue
            items[name] += read_items(file)
            hashes[file] = file_sha256(file)
    if not items["train"]:
        raise ValueError("data.train: empty; name at least one file of items")
    traces: list[Trace] = []
    for file in config.data.traces:
        if file == EMBEDDED:
            traces += [trace(item) for item in splits["train"]]
            continue
        traces += read_traces(file)
        hashes[file] = file_sha256(file)
    if config.data.drop_context:
        items = {name: [replace(item, context=None) for item in listed] for name, listed in items.items()}
        traces = [replace(t, item=replace(t.item, context=None)) for t in traces]
    return items, traces, hashes


def _prompts(
    name: str,
    items: list[Item],
    tokenizer: Tokenizer,
    config: Config,
    model: ModelConfig,
    longest: int,
    notes: list[str],
) -> list[Prompt]:
    if not items:
        return []
    reserve = longest if name == "train" else config.eval.max_tokens
    limit = min(config.data.prompt_tokens, model.max_positions - reserve)
    if limit < 1:
        raise ValueError(
            f"max_tokens {reserve} leaves no room for a prompt in the model's {model.max_positions} positions; lower "
            f"{'max_tokens of the stages' if name == 'train' else 'eval.max_tokens'}"
        )
    try:
        kept, ids, dropped = encode_prompts(
            items, tokenizer, system=config.data.system, limit=limit, overlong=config.data.overlong
        )
    except OverlongError as error:
        rule = "the limit is data.prompt_tokens"
        if limit < config.data.prompt_tokens:
            rule = f"the limit is the model's {model.max_positions} positions less max_tokens {reserve}"
        raise ValueError(f"data.{name}: {error} (data.overlong); {rule}") from None
    if dropped:
        notes.append(f"data.{name}: {len(dropped)} prompts over {limit} tokens left out, the first is {dropped[0]}")
    widest, page = max(map(len, ids)) + reserve, config.rollout.page_size
    wanted = {"rollout.kv_tokens": (config.rollout.kv_tokens, -(-widest // page) * page)}
    if name == "train":
        wanted["parallel.tokens_per_micro_batch"] = config.parallel.tokens_per_micro_batch, widest - 1
    for key, (given, least) in wanted.items():
        if reserve and given is not None and given < least:
            raise ValueError(
                f"{key}: {given} is too small for data.{name}, whose longest prompt has {widest - reserve} tokens and "
                f"max_tokens is {reserve}; raise it to {least} or more"
            )
    return [Prompt(item, prompt) for item, prompt in zip(kept, ids, strict=True)]


def run(prepared: Prepared, world: World) -> None:
    """Run every stage that is not done yet, from the newest complete checkpoint of run.dir if there is one."""
    session = open_session(prepared, world)
    config, state = session.config, session.state
    for note in prepared.notes:
        _say(world, note)
    order = [*config.stages, "done"]
    _write_lineage(session)  # a kill may have come between the last checkpoint and this file
    if state.stage == "done":
        _say(world, f"{session.run_dir}: all stages are done")
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
        _say(world, ablation_table(state.ablation) if state.ablation else "")


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
    weights, resume_from = source, None
    found = complete_checkpoints(run_dir / "checkpoints")
    if found:
        plain, arrays = load_state(found[-1])
        state = RunState(**plain)
        pool.load(arrays)
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
    )
    return Session(
        config=config,
        run_dir=run_dir,
        world=world,
        decoder=decoder,
        parameters=parameters,
        tokenizer=prepared.tokenizer,
        solver=Solver(engine, prepared.tokenizer, world),
        data=prepared.data,
        pool=pool,
        state=state,
        log=MetricsLog(run_dir, state.step) if world.is_main else None,
        stage_source=stage_source,
        resume_optimizer_from=resume_from,
    )


def build_decoder(model_files: Path, world: World, config: Config) -> tuple[Decoder, Parameters]:
    """A sharded decoder, its weights not yet set."""
    with torch.device("meta"):
        decoder = Decoder(replace(ModelConfig.from_directory(model_files), dtype=torch.float32))
    decoder.set_activation_checkpointing(config.parallel.activation_checkpointing)
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
