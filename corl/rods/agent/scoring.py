"""What a page is worth before it is read: type prior + rarity need + novelty - depth, each in whole thousandths.

Whole numbers, so that a crawl which is killed and taken up again compares exactly what it compared before.
"""

from dataclasses import dataclass

POINT = 1000
DEPTH_COST = 100  # a step away from the seeds
RARITY_WEIGHT = 300  # of what the collection lacks in rare things
NOVELTY_WEIGHT = 300
RARE_TARGET = 500  # share of rare ones, among entities whose rarity is known, at which nothing is lacking

# How much a page of this type tells: those with a profile of their own first.
_TYPE_WORTH = {
    "disease": 1000, "drug": 1000, "pathogen": 800, "symptom": 600, "sign": 600, "drug_class": 400, "procedure": 400,
    "lab_test": 400, "imaging": 400, "gene": 300, "protein": 300, "mechanism": 300, "risk_factor": 300,
    "condition": 300, "lab_finding": 300, "imaging_finding": 300, "anatomy": 100, "specialty": 0, "": 200,
}  # fmt: skip
_RARITY_WORTH = {"rare": 1000, "uncommon": 500, "": 500, "common": 0}
RARITIES = tuple(_RARITY_WORTH)


@dataclass(frozen=True, slots=True)
class Score:
    """The parts as they enter the sum; `depth` is what is taken away."""

    type: int
    rarity: int
    novelty: int
    depth: int

    @property
    def total(self) -> int:
        return self.type + self.rarity + self.novelty - self.depth


def prior_of_link(kind: str, *, infobox: bool) -> int:
    """Type prior of a link whose slot, title or disambiguator speaks for `kind`.

    Every link of an infobox comes before every link of a section: 500 to 1000 against 0 to 500.
    """
    return (POINT // 2 if infobox else 0) + _TYPE_WORTH[kind] // 2


def prior_of_box(kind: str) -> int:
    """Type prior of a page whose box is known: the box outweighs the slot that named it."""
    return POINT // 2 + _TYPE_WORTH[kind] // 2


def rarity_need(rare: int, known: int) -> int:
    """How much the collection lacks rare entities: 1000 with none, 0 from RARE_TARGET of those of known rarity on."""
    if not known:
        return POINT
    return max(0, POINT - rare * POINT * POINT // (known * RARE_TARGET))


def rarity_part(rarity: str, need: int) -> int:
    return RARITY_WEIGHT * need * _RARITY_WORTH[rarity] // (POINT * POINT)


def novelty_of_link(links: int) -> int:
    """Of an unread page: what few pages have named is likelier to lead somewhere new."""
    return NOVELTY_WEIGHT // max(1, links)


def novelty_of_page(new: int, named: int) -> int:
    """Of a page that was read: the share of what it names that nothing named before."""
    return NOVELTY_WEIGHT * new // named if named else 0
