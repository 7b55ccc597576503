"""Everything a run reads, read and checked before any rank waits for another."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from corl.checkpoint import complete_checkpoints
from corl.config import EMBEDDED, Config
from corl.data.items import Item, Trace, file_sha256, read_items, read_traces
from corl.data.shuffle import count_pinned
from corl.data.tokenizer import OverlongError, Tokenizer, encode_prompts
from corl.evaluation.attempts import Prompt
from corl.input_checks import check_ids, check_run_dir, check_stages
from corl.model.checkpoint_io import checked_headers
from corl.model.config import ModelConfig
from corl.rods.embedded_items import embedded_items
from corl.rods.traces import trace
from corl.rollout.tensor_parallel import check_tensor_parallel
from corl.training.session import Data
from corl.training.sft import encode_trace
from corl.training.tiny_base import write_tiny_files
from corl.training.weights import WeightSource

# Of the embedded items, those whose facts are all true. With more of them the facts can be learnt by heart, and a
# question answered without its context; with none the demo would hold no medicine (see embedded_items).
REAL_SHARE = 0.1


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
            tokenizer = Tokenizer.from_directory(folder, opens_think=config.data.open_think)
    else:
        source, model_files = find_weights(Path(config.model.path))
        model_config = ModelConfig.from_directory(model_files)
        if source.kind == "hugging_face":
            checked_headers(source.path)
        tokenizer = Tokenizer.from_directory(model_files, opens_think=config.data.open_think)
    if tokenizer.vocab_size > model_config.vocab_size:
        raise ValueError(
            f"model.path {config.model.path}: the tokenizer has {tokenizer.vocab_size} tokens, vocab_size in "
            f"config.json is {model_config.vocab_size}; use the tokenizer that belongs to the model"
        )
    check_tensor_parallel(config.rollout.tensor_parallel, model_config)
    items, traces, hashes = _read_data(config)
    check_ids(items, traces)
    check_stages(config, items["train"], traces)
    generating = [getattr(config, stage) for stage in config.stages if stage != "cold_start"]
    longest = max((settings.max_tokens for settings in generating), default=0)
    notes: list[str] = []
    prompts = {
        name: _prompts(name, found, tokenizer, config, model_config, longest, notes) for name, found in items.items()
    }
    encoded = [encode_trace(t, tokenizer, config.data.system) for t in traces]
    data = Data(**prompts, traces=traces, encoded_traces=encoded)
    for t, (ids, _) in zip(traces, encoded, strict=True):
        length = len(ids)
        for limit, what, way_out in (
            (model_config.max_positions, "positions of the model", "leave it out"),
            (config.parallel.tokens_per_micro_batch, "parallel.tokens_per_micro_batch", "raise that"),
        ):
            if length > limit:
                raise ValueError(
                    f"data.traces: trace of {t.item.id} has {length} tokens, above the {limit} {what}; {way_out}"
                )
    if config.data.shuffle_options and (pinned := count_pinned(items["train"])):
        notes.append(
            f"data.shuffle_options: {sum(pinned.values())} of {len(items['train'])} rows keep their order: "
            + ", ".join(f"{count} {reason}" for reason, count in sorted(pinned.items()))
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
