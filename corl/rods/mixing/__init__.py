"""Mixes of item files: quotas by source, tier and language that hold in every prefix."""

from corl.rods.mixing.mix import PRESETS, MixReport, MixRequest, describe, mix_files

__all__ = ["PRESETS", "MixReport", "MixRequest", "describe", "mix_files"]
