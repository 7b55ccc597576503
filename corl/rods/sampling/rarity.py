"""How rare each node is: a score that seeds are drawn by, and the yes or no that the share of rare answers counts."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from corl.rods.graph import NODE_TYPES, RARITIES, TYPE_IDS, Graph, Ints
from corl.rods.sampling.ragged import distinct

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@lru_cache(maxsize=2)
def rare_nodes(graph: Graph) -> Bools:
    """[N] whether the node is rare.

    As nodes.tsv states it. A node without a statement is rare where more than half of the diseases on its strong edges
    that have one are rare; in a graph that states none at all, where its degree is at most the median of its type.
    """
    stated = graph.rarity >= 0
    if not stated.any():
        median = np.zeros(len(NODE_TYPES))
        for kind in np.unique(graph.types):
            median[kind] = np.median(graph.degrees[graph.types == kind])
        return graph.degrees <= median[graph.types]
    rare = graph.rarity == RARITIES.index("rare")
    nodes, diseases = _linked_diseases(graph)
    rare_links = np.bincount(nodes, weights=rare[diseases], minlength=len(graph))
    links = np.bincount(nodes, minlength=len(graph))
    return np.where(stated, rare, 2 * rare_links > links)


def rarity_scores(graph: Graph, mentions: Ints | None = None) -> Floats:
    """[N] in [0, 1]: the mean rank, among the nodes of its type, of up to three measures of how rare a node is.

    The measures: what the graph states (of the node, else on average of the diseases on its strong edges; left out
    where the graph states none), 1 / (1 + `mentions` in public train questions; left out without them),
    1 / sqrt(degree).
    """
    measures: list[Floats] = [1 / np.sqrt(np.maximum(graph.degrees, 1))]
    if (graph.rarity >= 0).any():
        measures.append(stated_rarity(graph))
    if mentions is not None:
        measures.append(1 / (1.0 + mentions))
    ranks = [_ranks_within(graph.types, measure) for measure in measures]
    return np.mean(ranks, axis=0)


def seed_weights(graph: Graph, scores: Floats, rarity_weight: float) -> dict[str, Floats]:
    """Cumulative weights, ending at 1, over `graph.of_type(type)`: rarity_weight by score, the rest uniform.

    A node without a strong edge can seed nothing and weighs 0, unless all of its type are so.
    """
    linked = np.zeros(len(graph), bool)
    linked[graph.heads[graph.strong_edges]] = True
    linked[graph.tails[graph.strong_edges]] = True
    weights = {}
    for kind in NODE_TYPES:
        nodes = graph.of_type(kind)
        if not nodes.size:
            weights[kind] = np.zeros(0)
            continue
        use = linked[nodes] if linked[nodes].any() else np.ones(nodes.size, bool)
        rare = scores[nodes] * use
        rare = rare / rare.sum() if rare.sum() > 0 else use / use.sum()
        cumulative = np.cumsum(rarity_weight * rare + (1 - rarity_weight) * use / use.sum())
        weights[kind] = cumulative / cumulative[-1]
    return weights


@lru_cache(maxsize=2)
def _linked_diseases(graph: Graph) -> tuple[Ints, Ints]:
    """(node, disease) of every strong edge whose disease has a stated rarity, each pair once, either direction."""
    heads, tails = graph.heads[graph.strong_edges], graph.tails[graph.strong_edges]
    nodes, others = np.concatenate([heads, tails]), np.concatenate([tails, heads])
    keep = (graph.types[others] == TYPE_IDS["disease"]) & (graph.rarity[others] >= 0)
    pairs = distinct(nodes[keep] * len(graph) + others[keep])
    return pairs // len(graph), pairs % len(graph)


def stated_rarity(graph: Graph) -> Floats:
    """[N] 0 common .. 1 rare: the node's own, else the mean of its diseases, else what lies between."""
    own = graph.rarity / (len(RARITIES) - 1)
    nodes, diseases = _linked_diseases(graph)
    links = np.bincount(nodes, minlength=len(graph))
    total = np.bincount(nodes, weights=own[diseases], minlength=len(graph))
    linked = np.where(links > 0, total / np.maximum(links, 1), 0.5)
    return np.where(graph.rarity >= 0, own, linked)


def _ranks_within(types: NDArray[np.int8], values: Floats) -> Floats:
    """[N] each value's rank among those of its type, 0 lowest .. 1 highest; equal values share their mean rank."""
    ranks = np.full(len(values), 0.5)
    for kind in np.unique(types):
        rows = np.flatnonzero(types == kind)
        if rows.size > 1:
            _, group, count = np.unique(values[rows], return_inverse=True, return_counts=True)
            last = np.cumsum(count)
            ranks[rows] = ((last - count + last - 1) / 2)[group] / (rows.size - 1)
    return ranks
