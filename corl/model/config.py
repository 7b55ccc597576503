"""The architecture of a checkpoint, read from its config.json; what is not implemented is refused by name."""

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from corl.model.rope import ROPE_KINDS, RopeConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Family:
    """What a model_type means beyond the keys of its config.json."""

    qkv_bias: bool
    qk_norm: bool


FAMILIES = {"qwen2": Family(True, False), "qwen3": Family(False, True), "llama": Family(False, False)}

# key: the one value that is implemented, which is also what an absent key means
ONLY = {
    "use_sliding_window": False,
    "attention_bias": False,
    "mlp_bias": False,
    "hidden_act": "silu",
    "attention_dropout": 0.0,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shapes and switches of a Decoder; `dtype` is that of its parameters."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rms_norm_eps: float
    rope: RopeConfig
    qkv_bias: bool
    qk_norm: bool
    tie_word_embeddings: bool
    dtype: torch.dtype

    @classmethod
    def from_directory(cls, path: str | PathLike[str]) -> "ModelConfig":
        """Read `path`/config.json, as transformers 4 (rope_theta, rope_scaling, torch_dtype) or 5 (rope_parameters,
        dtype) writes it. A file that names no dtype means fp32, as in transformers.

        Raises ValueError naming file, key and value when a key is missing, wrong or asks for what is not implemented.
        """
        file = Path(path) / "config.json"
        raw = read_json(file)
        model_type = raw.get("model_type")
        if model_type not in FAMILIES:
            raise ValueError(f"{file}: model_type={model_type!r} is not implemented; use one of {', '.join(FAMILIES)}")
        _refuse_unimplemented(raw, file)
        hidden_size = _integer(raw, "hidden_size", file)
        num_heads = _integer(raw, "num_attention_heads", file)
        # transformers derives these two for Llama only; elsewhere its class default (32, 128) would be a guess
        num_kv_heads, head_dim = num_heads, hidden_size // num_heads
        if raw.get("num_key_value_heads") is not None or model_type != "llama":
            num_kv_heads = _integer(raw, "num_key_value_heads", file)
        if raw.get("head_dim") is not None or model_type == "qwen3":
            head_dim = _integer(raw, "head_dim", file)
        elif hidden_size % num_heads:
            raise ValueError(
                f"{file}: hidden_size={hidden_size} is not a multiple of num_attention_heads={num_heads}; set head_dim"
            )
        if num_heads % num_kv_heads or head_dim % 2:
            raise ValueError(
                f"{file}: num_attention_heads={num_heads} must be a multiple of num_key_value_heads={num_kv_heads}, "
                f"and head_dim={head_dim} must be even; correct the file"
            )
        tied = raw.get("tie_word_embeddings", False)
        if not isinstance(tied, bool):
            raise ValueError(f"{file}: tie_word_embeddings={tied!r} must be true or false; correct the file")
        return cls(
            model_type=model_type,
            vocab_size=_integer(raw, "vocab_size", file),
            hidden_size=hidden_size,
            intermediate_size=_integer(raw, "intermediate_size", file),
            num_layers=_integer(raw, "num_hidden_layers", file),
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            max_positions=_integer(raw, "max_position_embeddings", file),
            rms_norm_eps=_number(raw, "rms_norm_eps", file),
            rope=_rope(raw, file),
            qkv_bias=FAMILIES[model_type].qkv_bias,
            qk_norm=FAMILIES[model_type].qk_norm,
            tie_word_embeddings=tied,
            dtype=_dtype(raw, file),
        )


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; ValueError when it is missing or is something else."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}); give a Hugging Face model directory") from error
    except ValueError as error:
        raise ValueError(f"{file}: not valid JSON ({error}); restore the file") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{file}: holds a {type(raw).__name__}, not an object; restore the file")
    return raw


def _refuse_unimplemented(raw: dict[str, Any], file: Path) -> None:
    for key, only in ONLY.items():
        if key == "attention_bias" and raw["model_type"] == "qwen2":
            continue  # Qwen2 has its q, k, v biases whatever this key says
        if raw.get(key) is not None and raw[key] != only:
            way_out = "use a checkpoint without it" if only is None else f"only {only!r} is, use such a checkpoint"
            raise ValueError(f"{file}: {key}={raw[key]!r} is not implemented; {way_out}")
    other = sorted(set(raw.get("layer_types") or ()) - {"full_attention"})
    if other:
        raise ValueError(f"{file}: layer_types has {other}, not implemented; use a checkpoint with full_attention only")


def _rope(raw: dict[str, Any], file: Path) -> RopeConfig:
    section = "rope_parameters" if raw.get("rope_parameters") else "rope_scaling"
    given = raw.get(section) or {}
    if section == "rope_parameters" and raw.get("rope_scaling") not in (None, given):
        raise ValueError(f"{file}: rope_parameters and rope_scaling disagree; keep the one the model was trained with")
    if not isinstance(given, dict) or any(isinstance(value, dict) for value in given.values()):
        raise ValueError(f"{file}: {section}={given!r} is not one flat object; per-layer rope is not implemented")
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ROPE_KINDS:
        known = ", ".join(ROPE_KINDS)
        raise ValueError(f"{file}: {section}.rope_type={kind!r} is not implemented; use a checkpoint with {known}")
    if given.get("partial_rotary_factor", 1.0) != 1.0:
        value = given["partial_rotary_factor"]
        raise ValueError(f"{file}: {section}.partial_rotary_factor={value!r} is not implemented; only 1.0 is")
    thetas = {value for value in (raw.get("rope_theta"), given.get("rope_theta")) if value is not None}
    if len(thetas) != 1:
        state = f"has two values {sorted(thetas)}" if thetas else f"is missing, at the top level and in {section}"
        raise ValueError(f"{file}: rope_theta {state}; write the one value the model was trained with")
    theta = _number({"rope_theta": thetas.pop()}, "rope_theta", file)
    if kind == "default":
        return RopeConfig(theta)
    factor = _number(given, "factor", file, section)
    if kind == "linear":
        return RopeConfig(theta, kind, factor)
    low, high = (_number(given, key, file, section) for key in ("low_freq_factor", "high_freq_factor"))
    if low >= high:
        raise ValueError(f"{file}: {section}.low_freq_factor={low} must be below high_freq_factor={high}")
    original = _integer(given, "original_max_position_embeddings", file, section)
    return RopeConfig(theta, kind, factor, low, high, original)


def _dtype(raw: dict[str, Any], file: Path) -> torch.dtype:
    key = "dtype" if raw.get("dtype") is not None else "torch_dtype"
    name = raw.get(key)
    if name is None:
        return torch.float32
    if name not in DTYPES:
        raise ValueError(f"{file}: {key}={name!r} is not implemented; use a checkpoint in {', '.join(DTYPES)}")
    return DTYPES[name]


def _number(raw: dict[str, Any], key: str, file: Path, section: str = "") -> float:
    name = f"{section}.{key}" if section else key
    if key not in raw:
        raise ValueError(f"{file}: {name} is missing; write the value the model was trained with")
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{file}: {name}={value!r} must be a positive number; correct the file")
    return float(value)


def _integer(raw: dict[str, Any], key: str, file: Path, section: str = "") -> int:
    value = _number(raw, key, file, section)
    if not value.is_integer():
        raise ValueError(f"{file}: {key}={value} must be an integer; correct the file")
    return int(value)
