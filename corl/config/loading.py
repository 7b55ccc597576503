"""YAML to typed configuration and back: strict, complete before anything loads.

A key that does not exist, a value of the wrong type or a contradictory pair is a ValueError of one line that names the
file, the key, the value and the way out.
"""

import math
import types
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from corl.config.checks import check_config
from corl.config.schema import Config


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read `path`, apply `key.sub=value` overrides, check everything; ValueError of one line for any fault."""
    raw = read_yaml(path)
    for override in overrides:
        _apply_override(raw, override)
    config = build(Config, raw, str(path))
    check_config(config, str(path))
    return config


def read_yaml(path: str | Path) -> dict:
    """The mapping that a YAML file holds, no key of it twice; ValueError of one line for any fault."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"config {path}: no such file")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config {path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"config {path}: expected a mapping of sections, got {type(raw).__name__}")
    return raw


def build(cls: type, raw: Any, source: str, prefix: str = "") -> Any:
    """Dataclass `cls` from plain YAML values, each checked against its annotation; `prefix` is the key path so far."""
    if not isinstance(raw, dict):
        raise ValueError(f"{source}: {prefix.rstrip('.')}: expected a section of keys, got {_shown(raw)}")
    hints = get_type_hints(cls)
    unknown = [key for key in raw if key not in hints]
    if unknown:
        raise ValueError(f"{source}: unknown key {prefix}{unknown[0]}; allowed here: {', '.join(hints)}")
    values = {}
    for f in fields(cls):
        if f.name in raw:
            values[f.name] = _convert(hints[f.name], raw[f.name], source, prefix + f.name)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{source}: missing key {prefix}{f.name}")
    return cls(**values)


def to_plain(value: Any) -> Any:
    """The inverse of `build`: nested dataclasses as dicts and lists that YAML and JSON can hold."""
    if is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    return value


def dump_config(config: Config) -> str:
    return yaml.safe_dump(to_plain(config), sort_keys=False)


class _UniqueKeys(yaml.SafeLoader):
    """Plain YAML takes the last of two equal keys and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.MarkedYAMLError(problem=f"key {twice} stands twice; keep one", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _apply_override(raw: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"override {override!r}: expected key.sub=value")
    *sections, last = key.split(".")
    node = raw
    for section in sections:
        if node.get(section) is None:
            node[section] = {}
        node = node[section]
        if not isinstance(node, dict):
            raise ValueError(f"override {override!r}: {section} is a value, not a section")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"override {override!r}: not YAML: {' '.join(str(error).split())}") from None


def _convert(hint: Any, value: Any, source: str, key: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, source, key)
    if origin is Literal:
        if value not in args or isinstance(value, bool):
            raise ValueError(f"{source}: {key}: {_shown(value)} is not one of {', '.join(map(str, args))}")
        return value
    if isinstance(hint, type) and is_dataclass(hint):
        return build(hint, value, source, key + ".")
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{source}: {key}: expected a list, got {_shown(value)}")
        return [_convert(args[0], v, source, f"{key}[{i}]") for i, v in enumerate(value)]
    if origin is tuple:
        if not isinstance(value, list) or len(value) != len(args):
            raise ValueError(f"{source}: {key}: expected a list of {len(args)}, got {_shown(value)}")
        return tuple(_convert(a, v, source, f"{key}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{source}: {key}: expected a section of keys, got {_shown(value)}")
        return {_convert(args[0], k, source, key): _convert(args[1], v, source, f"{key}.{k}") for k, v in value.items()}
    return _scalar(hint, value, source, key)


def _scalar(hint: type, value: Any, source: str, key: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{source}: {key}: {value} is not a finite number")
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    hint_name = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}[hint]
    note = ""
    if hint in (int, float) and isinstance(value, str) and _reads_as_number(value):
        note = f"; YAML reads {value} as text, write it with a point, as in 1.0e-6"
    raise ValueError(f"{source}: {key}: expected {hint_name}, got {_shown(value)}{note}")


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"
