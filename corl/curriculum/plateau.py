"""When stage 1 has given what it can: the reward no longer rises and groups agree with themselves."""

from dataclasses import dataclass

from corl.config import Plateau


@dataclass(frozen=True, slots=True)
class PlateauReading:
    gain: float  # mean reward of the last window minus that of the window before
    zero_variance: float  # mean share of the last window's groups whose rewards were all equal
    reached: bool


def read_plateau(rewards: list[float], zero_variance: list[float], plateau: Plateau) -> PlateauReading | None:
    """Judge a stage by its history (a mean reward and a zero-variance share per step); None while it is too short."""
    w = plateau.window
    if len(rewards) < max(2 * w, plateau.min_steps):
        return None
    gain = (sum(rewards[-w:]) - sum(rewards[-2 * w : -w])) / w
    share = sum(zero_variance[-w:]) / w
    return PlateauReading(gain, share, gain < plateau.min_gain and share >= plateau.min_zero_variance)
