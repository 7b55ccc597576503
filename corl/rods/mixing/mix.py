"""`corl rods mix`: N items of several files at given quotas, each once, in an order that keeps the quotas all along."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np

from corl.data.checking import check_places
from corl.data.items import DIFFICULTIES, Item, file_sha256, read_items, write_items
from corl.rods.filtering.language import base
from corl.rods.filtering.manifest import graphs_of, inputs, json_bytes, versions, write_json
from corl.rods.mixing.order import Cells, find_order, largest_deviation, most_places
from corl.rods.mixing.quotas import (
    NONE,
    PUBLIC,
    RIGHT,
    SYNTHETIC,
    WRONG,
    Quota,
    is_synthetic,
    make_quotas,
    rate_of,
)
from corl.rods.tiering.attempts import read_attempts

_ONE, _TWO = Fraction(1), Fraction(2)
# stage1, stage2: the paper's figure 2 (hard : simple = 1 : 1 of easy and moderate questions; right : wrong = 1 : 2).
# sources: the paper gives no number; this is the default where a mix has both kinds and asks for nothing.
PRESETS: dict[str, dict[str, dict[str, Fraction]]] = {
    "stage1": {"tier": {"easy": _ONE, "moderate": _ONE}},
    "stage2": {"result": {RIGHT: _ONE, WRONG: _TWO}},
    "sources": {"source": {SYNTHETIC: _ONE, PUBLIC: _ONE}},
}


@dataclass(frozen=True, slots=True)
class MixRequest:
    """weights: by attribute, then by class; an attribute named here replaces the preset's.

    pass_rates: where attempts and passes are read from, for the quota by result
    """

    files: Sequence[str | Path]
    out: Path
    count: int
    weights: Mapping[str, Mapping[str, Fraction]] = field(default_factory=dict)
    preset: str | None = None
    pass_rates: str | Path | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MixReport:
    """read = items + not_taken + not_selected + repeated; not_selected: of a class that no quota names."""

    read: int
    items: int
    not_taken: int
    not_selected: int
    repeated: int
    deviation: float  # the largest, in items, of any class in any prefix
    quotas: dict[str, dict[str, float]]  # shares by attribute and class
    counts: dict[str, dict[str, int]]

    def __post_init__(self) -> None:
        assert self.read == self.items + self.not_taken + self.not_selected + self.repeated, self
        assert self.deviation <= 1 + 1e-9, self


def mix_files(request: MixRequest) -> MixReport:
    """Write the mix and, beside it, OUT.manifest.json.

    Raises ValueError, with nothing written, when a file is no item file, two items share an id and differ, a quota
    names a class that no item has, and when the items do not suffice: it then says how many a mix can have.
    """
    if request.count < 1:
        raise ValueError(f"--n {request.count}; ask for at least one item")
    manifest = request.out.with_name(f"{request.out.name}.manifest.json")
    places = [*request.files, *([request.pass_rates] if request.pass_rates else [])]
    check_places(places, [request.out, manifest])
    items, read = _distinct(request.files)
    quotas = _quotas(request, items)
    cells, members = _cells(items, quotas, request.seed)
    selected = sum(map(len, members))
    order = find_order(cells, request.count).cells
    if len(order) < request.count:
        raise ValueError(_too_few(request, cells, members, quotas))
    taken: Counter[int] = Counter()
    mixed = []
    for cell in order:
        mixed.append(members[cell][taken[cell]])
        taken[cell] += 1
    report = MixReport(
        read=read,
        items=len(mixed),
        not_taken=selected - len(mixed),
        not_selected=len(items) - selected,
        repeated=read - len(items),
        deviation=round(largest_deviation(cells, order), 6),
        quotas={
            q.attribute: {n: w / sum(q.weights.values()) for n, w in q.weights.items()} for q in quotas if q.attribute
        },
        counts=_counts(mixed),
    )
    manifest.unlink(missing_ok=True)
    write_items(request.out, mixed)
    write_json(manifest, _record(request, report, mixed))
    return report


def _distinct(files: Sequence[str | Path]) -> tuple[list[Item], int]:
    """Items in file order, each id and each question with its options once; and how many there were."""
    found: dict[str, tuple[Item, bytes]] = {}
    contents: set[bytes] = set()
    read = 0
    for file in files:
        for item in read_items(file):
            read += 1
            whole = _hash([item.question, item.context, item.options, item.answer])
            if item.id in found:
                if found[item.id][1] != whole:
                    raise ValueError(f"{file}: item {item.id!r} is another question in an earlier file; rename one")
                continue
            content = _hash([item.question, item.context, sorted(item.options.values())])
            if content not in contents:
                contents.add(content)
                found[item.id] = item, whole
    return [item for item, _ in found.values()], read


def _hash(content: Any) -> bytes:
    return sha256(json_bytes(content)).digest()


def _quotas(request: MixRequest, items: list[Item]) -> list[Quota]:
    if request.preset is not None and request.preset not in PRESETS:
        raise ValueError(f"preset {request.preset!r} is unknown; use {', '.join(PRESETS)}")
    asked: dict[str, Mapping[str, Fraction]] = {
        **PRESETS.get(request.preset or "", {}),
        **{k: v for k, v in request.weights.items() if v},
    }
    if not asked and len({is_synthetic(item) for item in items}) == 2:
        asked = dict(PRESETS["sources"])
    attempts = read_attempts(request.pass_rates) if request.pass_rates is not None else None
    if "result" in asked and all(rate_of(item, attempts) is None for item in items):
        raise ValueError(
            "no item has a pass rate, so none is right or wrong; name a run or an evaluation with --pass-rates, or run "
            "`corl rods tier --method pass_rate` first"
        )
    quotas = make_quotas(asked, attempts)
    return quotas or [Quota("", {"all": 1}, lambda item: "all")]


def _cells(items: list[Item], quotas: list[Quota], seed: int) -> tuple[Cells, list[list[Item]]]:
    """The classes that items have together, and the items of each in the seed's order."""
    places = [{name: k for k, name in enumerate(quota.weights)} for quota in quotas]
    members: dict[tuple[int, ...], list[Item]] = {}
    for item in items:
        names = [quota.class_of(item) for quota in quotas]
        if None not in names:
            key = tuple(place[str(name)] for place, name in zip(places, names, strict=True))
            members.setdefault(key, []).append(item)
    for k, quota in enumerate(quotas):
        held = {key[k] for key in members}
        if missing := [name for name, place in places[k].items() if place not in held]:
            joint = " together with the other quotas" if len(quotas) > 1 else ""
            raise ValueError(
                f"the mix can give 0 items: none has {quota.attribute} {missing[0]!r}{joint}; {_at_hand(items, quota)}"
            )
    keys = sorted(members)
    rows = [sorted(members[key], key=lambda item: _key(seed, item)) for key in keys]
    available = np.array([len(row) for row in rows], np.int64)
    weights = tuple(tuple(quota.weights.values()) for quota in quotas)
    return Cells(available, np.array(keys, np.int64).reshape(len(keys), len(quotas)), weights), rows


def _at_hand(items: list[Item], quota: Quota) -> str:
    by = {"source": lambda i: i.source, "tier": lambda i: i.difficulty or NONE, "lang": lambda i: base(i.lang)}
    read = by.get(quota.attribute, quota.class_of)
    counts = Counter(str(read(item)) for item in items)
    return "there are " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _too_few(request: MixRequest, cells: Cells, members: list[list[Item]], quotas: list[Quota]) -> str:
    most = most_places(cells, request.count)
    held = []
    for k, quota in enumerate(quotas):
        for place, name in enumerate(quota.weights):
            there = int(cells.available[cells.classes[:, k] == place].sum())
            held.append(f"{quota.attribute} {name} {there}".strip())
    return (
        f"--n {request.count}: the mix can give {most} items at these quotas (there are {', '.join(held)}); ask for "
        f"{most} or fewer, change the weights or add items"
    )


def _key(seed: int, item: Item) -> bytes:
    return blake2b(f"mix\0{seed}\0{item.id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _counts(items: Sequence[Item]) -> dict[str, dict[str, int]]:
    tiers = Counter(item.difficulty or NONE for item in items)
    return {
        "source": dict(sorted(Counter(item.source for item in items).items())),
        "tier": {tier: tiers[tier] for tier in (*DIFFICULTIES, NONE) if tiers[tier]},
        "lang": dict(sorted(Counter(item.lang for item in items).items())),
    }


def _record(request: MixRequest, report: MixReport, mixed: list[Item]) -> dict[str, Any]:
    asked = inputs(request.files)
    return {
        "file": request.out.name,
        "sha256": file_sha256(request.out),
        "inputs": asked,
        "dump_dates": sorted({each["dump_date"] for each in asked if each["dump_date"]}),
        "graphs": graphs_of(mixed),
        "licences": dict(
            sorted(Counter(str(item.meta["licence"]) for item in mixed if item.meta.get("licence")).items())
        ),
        "seed": request.seed,
        "preset": request.preset,
        "pass_rates": str(request.pass_rates) if request.pass_rates else None,
        "versions": versions(),
    } | asdict(report)


def describe(report: MixReport, out: Path) -> Iterator[str]:
    for attribute, counts in report.counts.items():
        yield f"{attribute:<8}" + ", ".join(f"{name} {count}" for name, count in counts.items())
    shares = "; ".join(
        f"{attribute} " + ", ".join(f"{name} {share:.1%}" for name, share in classes.items())
        for attribute, classes in report.quotas.items()
    )
    yield f"quotas  {shares or 'none'}; no prefix strays by more than {report.deviation:.2f} items"
    left = f"not taken {report.not_taken} + not selected {report.not_selected} + repeated {report.repeated}"
    yield f"{out}: {report.items} items; read {report.read} = {report.items} + {left}"
