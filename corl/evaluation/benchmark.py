"""An evaluation from items to table: a model's answers or recorded ones, kept line by line, graded, summed up."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corl.data.items import write_whole
from corl.data.shuffle import count_pinned
from corl.data.tokenizer import Tokenizer
from corl.evaluation.answers import ANSWERS, Answer, AnswerLog, answer_line, read_answers
from corl.evaluation.benchmark_tables import write_tables
from corl.evaluation.item_sets import ItemSet, limited, read_sets, read_suite
from corl.evaluation.questions import Presentation, checked_model, make_questions
from corl.evaluation.recorded import answers_from, read_completions
from corl.evaluation.rounds import Decoding, Question, generate_answers
from corl.evaluation.settings import check_folder, hashed_files, hashed_model, hashed_prompts, write_settings
from corl.evaluation.summary import SetSummary, summarise_set

SUITE_FOLDER = "data/fleming"
REASONING = {"temperature": 0.6, "top_p": 0.95}  # several samples; what MedVLThinker, EasyR1 and Qwen3 evaluate with
MAX_SEQS = {"cpu": 32, "cuda": 256}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to evaluate and how.

    model        a Hugging Face directory; with `completions` only a name, or a directory whose tokenizer measures them
    items        files; None: the nine columns, from the *.jsonl in items_dir
    limit        each set's first so many items
    samples      completions an item; None: 1, or as many as `completions` has
    temperature  None: 0 (greedy) for one sample, else 0.6, with top_p None 1 or 0.95
    dtype        of weights and compute; None: the checkpoint's
    max_seqs     samples decoded together; None: 256 on a GPU, 32 on a CPU
    out          None: runs/eval/NAME
    """

    model: str | None
    items: Sequence[str] | None = None
    items_dir: str = SUITE_FOLDER
    limit: int | None = None
    samples: int | None = None
    out: str | None = None
    completions: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int = 8192
    seed: int = 0
    system: str | None = None
    open_think: bool = False
    shuffle: bool = False
    dtype: str | None = None
    max_seqs: int | None = None

    def __post_init__(self) -> None:
        for name in ("limit", "samples", "max_tokens", "max_seqs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name.replace('_', '-')}={value} must be at least 1")
        if self.temperature is not None and not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature} must be a finite number >= 0 (0 is greedy)")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top-p={self.top_p} must lie in (0, 1]")
        if self.completions is None and self.temperature == 0 and (self.samples or 1) > 1:
            raise ValueError(f"samples={self.samples} at temperature 0 are all alike; use 1 or a temperature above 0")
        if self.model is None and self.completions is None:
            raise ValueError("MODEL_DIR is missing; name a Hugging Face directory, or give --completions FILE")

    @property
    def name(self) -> str:
        if self.model is None:
            return Path(str(self.completions)).stem
        return Path(self.model).resolve().name or self.model

    @property
    def decoding(self) -> Decoding:
        samples = self.samples or 1
        usual = REASONING if samples > 1 or self.temperature else {"temperature": 0.0, "top_p": 1.0}
        temperature = usual["temperature"] if self.temperature is None else self.temperature
        return Decoding(samples, temperature, usual["top_p"] if self.top_p is None else self.top_p)

    @property
    def presentation(self) -> Presentation:
        return Presentation(self.system, self.shuffle, self.open_think, self.seed)


def run_plan(plan: Plan) -> str:
    """Evaluate, write settings, answers and tables to the plan's folder, and return the tables as Markdown.

    What was finished before is kept. Raises ValueError, before anything is written, for whatever of the plan is wrong,
    and when the folder holds an evaluation with other settings.
    """
    notes: list[str] = []
    if plan.items is None:
        sets, notes, files = read_suite(plan.items_dir)
    else:
        files = [Path(file) for file in plan.items]
        sets = read_sets(files)
    sets = limited(sets, plan.limit)
    for note in notes:
        print(note, file=sys.stderr)
    folder = Path(plan.out or Path("runs") / "eval" / plan.name)
    settings = _settings(plan, sets, files)
    answers = (_recorded if plan.completions is not None else _generated)(plan, sets, folder, settings)
    by_set: dict[str, list[Answer]] = {}
    for answer in answers:
        by_set.setdefault(answer.set, []).append(answer)
    summaries = [summarise_set(item_set, by_set[item_set.key]) for item_set in sets if item_set.key in by_set]
    return write_tables(folder, plan.name, summaries, notes + _lacking(sets, summaries))


def load_engine(plan: Plan, tokenizer: Tokenizer, questions: Sequence[Question]) -> Any:
    """The engine for these questions, on the GPU where there is one. Raises ValueError for one that does not fit."""
    import torch

    from corl.model.checkpoint_io import load_model
    from corl.rollout.engine import Engine

    device = _device()
    model = load_model(str(plan.model), device=device, dtype=getattr(torch, plan.dtype) if plan.dtype else None)
    if model.head_weight.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(
            f"{plan.model}: its weights are {model.head_weight.dtype}, in which the engine does not compute; give "
            "--dtype bfloat16 or float32"
        )
    engine = Engine(model, tokenizer=tokenizer, max_seqs=plan.max_seqs or MAX_SEQS[device], seed=plan.seed)
    for question in questions:
        wanted = len(question.ids) + question.max_tokens
        if wanted > engine.kv_tokens:
            raise ValueError(
                f"item {question.item.id!r}: prompt of {len(question.ids)} + max-tokens {question.max_tokens} exceeds "
                f"the {engine.kv_tokens} tokens of the KV cache; lower --max-tokens"
            )
    return engine


def _generated(plan: Plan, sets: Sequence[ItemSet], folder: Path, settings: dict[str, Any]) -> list[Answer]:
    config, tokenizer = checked_model(Path(str(plan.model)))
    presentation = plan.presentation
    questions = make_questions(
        sets, tokenizer, presentation, max_tokens=plan.max_tokens, max_positions=config.max_positions
    )
    if shortened := sum(question.max_tokens < plan.max_tokens for question in questions):
        print(
            f"{shortened} answers have less room than {plan.max_tokens} tokens: the model has {config.max_positions} "
            "positions",
            file=sys.stderr,
        )
    settings |= {
        "prompts_sha256": hashed_prompts([question.ids for question in questions]),
        "device": _device(),
        "max_seqs": plan.max_seqs or MAX_SEQS[_device()],
        "model": hashed_model(Path(str(plan.model))),
    }
    check_folder(folder, settings)
    answered = read_answers(folder)
    if answered:
        print(f"{folder}: {len(answered)} of {len(questions)} items are answered already", file=sys.stderr)
    if len(answered) == len(questions):
        return answered
    engine = load_engine(plan, tokenizer, questions)  # what can fail comes before the first file
    write_settings(folder, settings)
    log = AnswerLog(folder)
    try:
        prefill = tokenizer.prefill + presentation.added(tokenizer)
        generate_answers(engine, tokenizer, questions, plan.decoding, log, folder, prefill=prefill)
    finally:
        log.close()
    return log.answers


def _recorded(plan: Plan, sets: Sequence[ItemSet], folder: Path, settings: dict[str, Any]) -> list[Answer]:
    recorded = read_completions(str(plan.completions))
    has_tokenizer = plan.model is not None and (Path(plan.model) / "tokenizer.json").is_file()
    tokenizer = Tokenizer.from_directory(str(plan.model)) if has_tokenizer else None
    answers = answers_from(
        recorded,
        sets,
        source=str(plan.completions),
        samples=plan.samples,
        count_tokens=(lambda text: len(tokenizer.encode(text))) if tokenizer is not None else None,
        show=plan.presentation.show,
    )
    if others := len(recorded) - len(answers):
        print(f"{plan.completions}: {others} ids are not among the items", file=sys.stderr)
    settings |= {"completions": hashed_files([str(plan.completions)])[0]}
    check_folder(folder, settings)
    write_settings(folder, settings)
    write_whole(folder / ANSWERS, map(answer_line, answers))
    return answers


def _settings(plan: Plan, sets: Sequence[ItemSet], files: Sequence[Path]) -> dict[str, Any]:
    """What the answers of any plan depend on; a generated one adds its model."""
    settings: dict[str, Any] = {
        "name": plan.name,
        "items": hashed_files(files),
        "limit": plan.limit,
        "sets": {item_set.key: len(item_set.items) for item_set in sets},
        "shuffle": plan.shuffle,
        "seed": plan.seed,
    }
    if plan.shuffle:
        settings["pinned"] = count_pinned(item for item_set in sets for item in item_set.items)
    if plan.completions is not None:
        return settings | {"samples": plan.samples}
    return (
        settings
        | asdict(plan.decoding)
        | {
            "max_tokens": plan.max_tokens,
            "system": plan.system,
            "open_think": plan.open_think,
            "dtype": plan.dtype,
        }
    )


def _lacking(sets: Sequence[ItemSet], summaries: Sequence[SetSummary]) -> list[str]:
    """Recorded completions may lack items: of those, how many, and of which set."""
    answered = {summary.key: summary.n for summary in summaries}
    gaps = [(s, len(s.items) - answered.get(s.key, 0)) for s in sets]
    return [f"without a completion: {gap:,} of {len(s.items):,} items of {s.title}" for s, gap in gaps if gap]


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
