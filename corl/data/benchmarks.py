"""The paper's nine columns in its order: which items belong to each, and how many there are when a set is complete."""

from dataclasses import dataclass

from corl.data.items import Item


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One column of the paper's table.

    key      short and unique, for file names and lookups
    source   of its items; with `category` where a source has several columns
    splits   names of the source's split that it is (an item without a split is taken for one of them)
    rows     items of the complete set, the denominator of every score in the paper
    options  fewest and most options of an item
    """

    key: str
    title: str
    source: str
    rows: int
    options: tuple[int, int]
    lang: str = "en"
    category: str | None = None
    splits: tuple[str, ...] = ("test",)

    def holds(self, item: Item) -> bool:
        category, split = item.meta.get("category"), item.meta.get("split")
        return (
            (item.source, item.lang) == (self.source, self.lang)
            and (self.category is None or str(category).casefold() == self.category)
            and split in (None, *self.splits)
        )


NINE = (
    Benchmark("careqa", "CareQA", "careqa", 5621, (4, 4)),
    Benchmark("jmed", "JMED", "jmed", 1000, (21, 21), lang="zh", splits=("test", "train")),  # the hub's only split
    Benchmark("medbullets", "Medbullets", "medbullets", 298, (4, 5), splits=("test", "train")),  # unofficial hub copies
    Benchmark("medmcqa", "MedMCQA", "medmcqa", 4183, (4, 4), splits=("validation", "dev")),  # test has no golds
    Benchmark("medqa", "MedQA", "medqa", 1273, (4, 5)),
    Benchmark("medxpertqa", "MedXpertQA", "medxpertqa", 2450, (10, 10)),
    Benchmark("pubmedqa", "PubMedQA", "pubmedqa", 500, (3, 3)),
    Benchmark("mmlu_pro_biology", "MMLU-Pro Bio", "mmlu_pro", 717, (3, 10), category="biology"),
    Benchmark("mmlu_pro_health", "MMLU-Pro Health", "mmlu_pro", 818, (3, 10), category="health"),
)


def benchmark_of(item: Item) -> Benchmark | None:
    """The column that an item belongs to; None for an item of another set, split or language."""
    return next((benchmark for benchmark in NINE if benchmark.holds(item)), None)
