"""CORL: from a checkpoint and medical questions to a reasoning model, in one trainer.

The public names are loaded when they are first used, so that `import corl` costs nothing.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Completion": "corl.rollout.request",
    "Decoder": "corl.model.decoder",
    "Engine": "corl.rollout.engine",
    "Request": "corl.rollout.request",
    "load_model": "corl.model.checkpoint_io",
    "score": "corl.model.score",
}

__all__ = sorted(_PUBLIC)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module corl has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
