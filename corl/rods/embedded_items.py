"""Items of one to three hops over the embedded graph, for the demo and the tests.

A context holds four chains finding -> disease -> drug -> effect as twelve shuffled facts; the question starts at one
finding and asks for what stands one, two or three facts further. The four entities of the asked type are the options,
so exactly one follows from the context.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from corl.data.items import DIFFICULTIES, Item
from corl.rods.chain_graph import ROLES, ChainGraph, chain_graph

QUESTION_PHRASES = (  # for one, two, three hops; the finding follows
    "Which disease explains",
    "Which drug treats the cause of",
    "Which adverse effect follows the treatment of the cause of",
)
LETTERS = "ABCD"
MAX_DRAWS = 200  # of each kind; enough for every item of the default counts
# Not the seed: were it in the key, training items of one seed would be held-out items of another.
SPLIT_KEY = b"corl embedded split"

Chain = tuple[str, str, str, str]  # finding, disease, drug, effect


class Splits(NamedTuple):
    train: list[Item]
    dev: list[Item]
    held_out: list[Item]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What chains may be made of: (disease, drug) pairs, the findings before a disease, the effects after a drug."""

    pairs: list[tuple[str, str]]
    findings: Callable[[str], Sequence[str]]
    effects: Callable[[str], Sequence[str]]
    veto: bool  # refuse an option that the graph too can reach from the finding


def embedded_items(
    seed: int, *, train: int = 600, dev: int = 100, held_out: int = 200, real_share: float = 1.0
) -> Splits:
    """Distinct items in three splits, so many per difficulty, from easy to difficult; a function of the arguments.

    `real_share` of a difficulty's items hold facts of the graph only, as long as the split's pairs yield new ones; the
    others pair entities of the right types at random, which meta["synthetic"] says. meta["path"] is the asked chain.
    Real facts can be learnt by heart: a solver that knows the training facts and ignores the context has 0.81, 0.41,
    0.65 of the default held-out items right (1, 2, 3 hops, seed 1); with real_share=0, 0.23, 0.28, 0.23 (chance 0.25).
    Raises ValueError for a share outside 0..1 and for more items than a split can give.
    """
    if not 0.0 <= real_share <= 1.0:
        raise ValueError(f"real_share={real_share} is no share; give a number from 0 to 1")
    graph = chain_graph()
    counts = zip(Splits._fields, (train, dev, held_out), strict=True)
    return Splits(*(_split_items(graph, seed, split, count, real_share) for split, count in counts))


def split_of(disease: str, drug: str) -> str:
    """The split that owns a disease -> drug pair: train 70 %, dev 10 %, held_out 20 %.

    Every path of two facts or more holds such a pair, so splits that keep to their own pairs share no such path.
    """
    digest = hashlib.blake2b(f"{disease}\t{drug}".encode(), key=SPLIT_KEY, digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    return "train" if position < 0.7 else "dev" if position < 0.8 else "held_out"


def _split_items(graph: ChainGraph, seed: int, split: str, count: int, real_share: float) -> list[Item]:
    findings, diseases, drugs, effects = map(graph.of_role, ROLES)
    pairs = [(disease, drug) for disease in diseases for drug in drugs if split_of(disease, drug) == split]
    known = [(disease, drug) for disease, drug in pairs if drug in graph.tails(disease)]
    real = _Facts(known, graph.heads, graph.tails, veto=True)
    synthetic = _Facts(pairs, lambda disease: findings, lambda drug: effects, veto=False)

    items: list[Item] = []
    seen: set[tuple[int, Chain, frozenset[Chain]]] = set()  # (hops, asked chain, context)
    for hops, difficulty in enumerate(DIFFICULTIES, 1):
        letters = _generator(seed, split, difficulty, "letters").permutation(np.arange(count) % len(LETTERS))
        for index in range(count):
            rng = _generator(seed, split, difficulty, index)
            wants_real = int((index + 1) * real_share) > int(index * real_share)
            for chains in _draws(rng, graph, hops, [real, synthetic] if wants_real else [synthetic]):
                if (hops, chains[0], frozenset(chains)) not in seen:
                    break
            else:
                raise ValueError(f"{split}={count}: there are only {index} new {difficulty} items; ask for fewer")
            seen.add((hops, chains[0], frozenset(chains)))
            item_id = f"embedded:{split}-{index:06d}-{difficulty[0]}"
            items.append(_item(rng, graph, item_id, chains, hops, LETTERS[letters[index]]))
    return items


def _draws(rng: np.random.Generator, graph: ChainGraph, hops: int, sources: Sequence[_Facts]) -> Iterator[list[Chain]]:
    """Sets of four chains without a common entity, the asked one first; MAX_DRAWS tries of each source in turn."""
    for facts in sources:
        for _ in range(MAX_DRAWS):
            chains: list[Chain] = []
            for k in rng.permutation(len(facts.pairs)):
                disease, drug = facts.pairs[k]
                chain = (_pick(rng, facts.findings(disease)), disease, drug, _pick(rng, facts.effects(drug)))
                if not any(set(chain) & set(other) for other in chains):
                    chains.append(chain)
                if len(chains) == len(LETTERS):
                    break
            else:
                continue
            also_right = graph.reach(chains[0][0], hops) & {chain[hops] for chain in chains[1:]}
            if not (facts.veto and also_right):
                yield chains


def _item(
    rng: np.random.Generator, graph: ChainGraph, item_id: str, chains: list[Chain], hops: int, answer: str
) -> Item:
    """The item that asks for step `hops` of the first chain, with the gold option at `answer`."""
    facts = [fact for chain in chains for fact in pairwise(chain)]
    gold, *others = (chain[hops] for chain in chains)
    options = [others[k] for k in rng.permutation(len(others))]
    options.insert(LETTERS.index(answer), gold)
    return Item(
        id=item_id,
        source="embedded",
        lang="en",
        context="\n".join(f"- {head} -> {tail}" for head, tail in (facts[k] for k in rng.permutation(len(facts)))),
        question=f"{QUESTION_PHRASES[hops - 1]} {chains[0][0]}?",
        options=dict(zip(LETTERS, options, strict=True)),
        answer=answer,
        difficulty=DIFFICULTIES[hops - 1],
        meta={
            "hops": hops,
            "synthetic": any(tail not in graph.tails(head) for head, tail in facts),
            "path": list(chains[0][: hops + 1]),
            "graph": {"name": graph.name, "hash": graph.hash},
        },
    )


def _generator(*key: int | str) -> np.random.Generator:
    """A stream of its own for every key: an item does not depend on how many others are made."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


def _pick(rng: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(rng.integers(len(names)))]
