"""The pool: what every policy version attempted of every prompt and passed; mixes, mining and resume all read it."""

from dataclasses import dataclass

import numpy as np

from corl.data.items import Item

TIERS = ("easy", "moderate", "difficult")
EASY_FROM, MODERATE_FROM = 0.7, 0.2  # pass rates at which an item without a difficulty counts as easy, as moderate


class Pool:
    """Attempts and passes of every item, by policy version (the number of updates the sampling policy had seen).

    One row of `log` per (item, version): columns item index, version, attempts, passes. Observations of one version add
    up in its row. The newest version that attempted an item decides whether it counts as right or wrong.
    """

    def __init__(self, items: list[Item]) -> None:
        self.ids = [item.id for item in items]
        self.index = {item_id: i for i, item_id in enumerate(self.ids)}
        self.tier: list[str | None] = [item.difficulty for item in items]
        self.draws = np.zeros(len(items), np.int64)  # times drawn in the present stage
        self.mean_tokens = np.full(len(items), np.nan)  # of the newest attempts, so that long ones can start first
        self._log: list[list[int]] = []
        self._newest: dict[int, int] = {}  # item index -> its newest row in the log

    def observe(self, item_id: str, version: int, attempts: int, passes: int, mean_tokens: float) -> None:
        assert 0 <= passes <= attempts, (item_id, attempts, passes)
        i = self.index[item_id]
        self.mean_tokens[i] = mean_tokens
        row = self._newest.get(i)
        if row is not None and self._log[row][1] == version:
            self._log[row][2] += attempts
            self._log[row][3] += passes
            return
        assert row is None or self._log[row][1] < version, f"{item_id}: version {version} after a newer one"
        self._newest[i] = len(self._log)
        self._log.append([i, version, attempts, passes])

    def pass_rates(self) -> np.ndarray:
        """[items] fp64: pass rate under the newest policy that attempted the item; nan where none has."""
        rates = np.full(len(self.ids), np.nan)
        for i, row in self._newest.items():
            rates[i] = self._log[row][3] / self._log[row][2]
        return rates

    def ever_passed(self) -> np.ndarray:
        """[items] bool."""
        passed = np.zeros(len(self.ids), bool)
        for i, _, _, passes in self._log:
            passed[i] |= passes > 0
        return passed

    def assign_tiers(self) -> None:
        """Tier the items that came without a difficulty by their newest pass rate (the starting policy's)."""
        for i, rate in enumerate(self.pass_rates()):
            if self.tier[i] is None and not np.isnan(rate):
                self.tier[i] = "easy" if rate >= EASY_FROM else "moderate" if rate >= MODERATE_FROM else "difficult"

    def without_tier(self) -> list[str]:
        return [item_id for item_id, tier in zip(self.ids, self.tier, strict=True) if tier is None]

    def expected_tokens(self) -> dict[str, float]:
        return {self.ids[i]: float(self.mean_tokens[i]) for i in np.flatnonzero(~np.isnan(self.mean_tokens))}

    def state(self) -> dict[str, np.ndarray]:
        """Arrays for a checkpoint; `load` is the inverse."""
        tiers = [TIERS.index(t) if t is not None else -1 for t in self.tier]
        return {
            "log": np.array(self._log, np.int64).reshape(-1, 4),
            "tier": np.array(tiers, np.int64),
            "draws": self.draws.copy(),
            "mean_tokens": self.mean_tokens.copy(),
            "ids": np.array(self.ids),
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Raises ValueError when the state is of other items than this pool's."""
        if state["ids"].tolist() != self.ids:
            raise ValueError("the checkpoint's pool holds other items than data.train; resume with the same data")
        self._log = state["log"].tolist()
        self._newest = {row[0]: k for k, row in enumerate(self._log)}
        self.tier = [TIERS[t] if t >= 0 else None for t in state["tier"].tolist()]
        self.draws = state["draws"].copy()
        self.mean_tokens = state["mean_tokens"].copy()


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a mix: its name and the indices of its items in the pool."""

    name: str
    share: float
    members: np.ndarray
