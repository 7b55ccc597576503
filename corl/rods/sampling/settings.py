"""The settings of `corl rods sample` from a file, checked."""

from dataclasses import asdict
from pathlib import Path

from corl.config import build, read_yaml
from corl.config.rods import RodsSample
from corl.data.items import MAX_OPTIONS
from corl.rods.sampling.draws import MAX_CLUES


def load_settings(path: str | Path | None) -> RodsSample:
    """The settings in a YAML file, the defaults without one; ValueError naming file, key and value for a wrong one."""
    if path is None:
        return RodsSample()
    settings = build(RodsSample, read_yaml(path), str(path))
    check_settings(settings, str(path))
    return settings


def check_settings(settings: RodsSample, source: str) -> None:
    """ValueError for a value out of its range."""

    def need(ok: bool, key: str, value: float, rule: str) -> None:
        if not ok:
            raise ValueError(f"{source}: {key}: {value} is not {rule}")

    need(3 <= settings.options <= MAX_OPTIONS, "options", settings.options, f"in 3 .. {MAX_OPTIONS}")
    need(1 <= settings.max_clues <= MAX_CLUES, "max_clues", settings.max_clues, f"in 1 .. {MAX_CLUES}")
    need(settings.clue_degree >= 1, "clue_degree", settings.clue_degree, "above 0")
    for key in ("rare_share", "rarity_weight", "hub_quantile"):
        need(0 <= getattr(settings, key) <= 1, key, getattr(settings, key), "in 0 .. 1")
    need(0 < settings.answer_share <= 1, "answer_share", settings.answer_share, "above 0 and at most 1")
    shares = asdict(settings.shapes)
    for name, share in shares.items():
        need(share >= 0, f"shapes.{name}", share, "0 or more")
    need(sum(shares.values()) > 0, "shapes", 0, "above 0 for any shape; give one a share")
    difficulty = settings.difficulty
    for name, value in asdict(difficulty).items():
        need(0 <= value <= 1, f"difficulty.{name}", value, "in 0 .. 1")
    need(
        difficulty.moderate_from <= difficulty.difficult_from,
        "difficulty.moderate_from",
        difficulty.moderate_from,
        f"at most difficult_from = {difficulty.difficult_from}",
    )
