"""Where a set comes from: a file, a folder of files, a folder that `datasets` saved, or a hub id."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from corl.data.importing.content import read_content
from corl.data.importing.layout import Layout, Part, layout_error, names_in, part_of

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FILE_ENDING = re.compile(r"\.(jsonl?|csv|tsv|txt|parquet|arrow)$", re.IGNORECASE)
SAME_SPLIT = (frozenset({"validation", "valid", "val", "dev"}), frozenset({"train", "training"}))


def read_source(
    src: str | Path, layout: Layout, *, split: str | None = None, out: Path | None = None
) -> tuple[list[Part], dict[str, str]]:
    """The parts of a source that have the set's layout, in name order, and the rest of it with why it is not read.

    split  only this one of the splits that `datasets` saved or the hub has, or the files named after it
    out    the items' own file: it may lie in the source folder, but not be one of the set's files
    Raises ValueError when nothing there has the layout or the split.
    """
    path = Path(src)
    if not path.exists():
        if _is_hub_id(str(src)):
            return _from_hub(str(src), layout, split)
        raise ValueError(f"{path} cannot be read (No such file or directory); check the path")
    if _is_saved(path):
        return _from_saved(path, layout, split)
    if path.is_dir():
        return _from_folder(path, layout, split, out)
    if out is not None and out.exists() and out.samefile(path):
        raise ValueError(f"{out} is the source itself; write the items to another file")
    if split is not None and not _named_after(path.name, split):
        raise ValueError(f"{path} is one file and has no splits; leave split={split} out, or name another file")
    content = read_content(path, layout.encodings)
    if (part := part_of(str(path), content, layout, path)) is None:
        raise layout_error(str(path), layout, content)
    return [part], {}


def _from_folder(
    folder: Path, layout: Layout, split: str | None, out: Path | None
) -> tuple[list[Part], dict[str, str]]:
    parts: list[Part] = []
    ignored: dict[str, str] = {}
    columns: set[str] = set()
    for path in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if path.name == layout.aside:
            continue
        if path.name != layout.main_file and (folder / layout.main_file).is_file():
            ignored[path.name] = f"the set is {layout.main_file}"
        elif split is not None and not _named_after(path.name, split):
            ignored[path.name] = f"not named after the split {split}"
        elif not path.is_file():
            ignored[path.name] = "no file"
        else:
            content = _content_or_none(path, layout)
            part = part_of(_shown(path), content, layout, path)
            if part is None:
                ignored[path.name] = f"no layout of {layout.name}"
                columns |= names_in(content)
            elif out is not None and out.exists() and out.samefile(path):
                raise ValueError(f"{out} is a file of the source; write the items to another file")
            else:
                parts.append(part)
    if parts:
        return parts, {_shown(name): why for name, why in ignored.items()}
    if split is not None and not any(map(_named_after, ignored, [split] * len(ignored))):
        raise ValueError(f"{folder}: no file is named after the split {split!r}; there are {_some(ignored)}")
    raise ValueError(
        f"{folder}: no layout of {layout.name} that is known ({layout.wanted}); the files are: {_some(ignored)}; "
        f"the keys found are: {_some(sorted(columns))}"
    )


def _content_or_none(path: Path, layout: Layout) -> Any:
    """What a file holds, None for no data; a damaged file that names the set's columns is an error."""
    try:
        return read_content(path, layout.encodings)
    except ValueError:
        if _names_columns(path, layout):
            raise
        return None


def _names_columns(path: Path, layout: Layout) -> bool:
    """Whether a file begins as one of the set does: as parquet, as JSON with its keys, or with its header."""
    with open(path, "rb") as file:
        head = file.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head.startswith((b"{", b"[")):
        head, *_ = head.splitlines() or [b""]
    return head.startswith(b"PAR1") or any(all(n.encode() in head for n in names) for names in layout.columns)


def _from_saved(path: Path, layout: Layout, split: str | None) -> tuple[list[Part], dict[str, str]]:
    import datasets

    try:
        saved = datasets.load_from_disk(str(path))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: not what datasets saves ({error}); save or fetch it again") from error
    if isinstance(saved, datasets.Dataset):
        own = None if saved.split is None else str(saved.split)
        if split is not None and (own is None or not _same_split(own, split)):
            raise ValueError(f"{path} is {own or 'one table without splits'}; leave split={split} out")
        return [_part_of_table(str(path), saved, layout, own, path)], {}
    return _parts_of_splits(path, saved, layout, split, path)


def _from_hub(name: str, layout: Layout, split: str | None) -> tuple[list[Part], dict[str, str]]:
    import datasets

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # its retries; what stays is the one line below
    try:
        splits = datasets.load_dataset(name, layout.hub.get(name))
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"{name}: no such file or folder, and it cannot be fetched from the hub ({error}); "
            "fetch it where there is a network and name the file or folder"
        ) from error
    finally:
        logger.setLevel(level)
    return _parts_of_splits(name, splits, layout, split, None)


def _parts_of_splits(
    name: str | Path, splits: Any, layout: Layout, split: str | None, folder: Path | None
) -> tuple[list[Part], dict[str, str]]:
    chosen = [own for own in splits if split in (None, own)] or [own for own in splits if _same_split(own, split or "")]
    if not chosen:
        raise ValueError(f"{name} has no split {split!r}; there are {', '.join(splits)}")
    ignored = {own: f"not the split {split}" for own in splits if own not in chosen}
    parts = [_part_of_table(f"{name}/{own}", splits[own], layout, own, folder) for own in chosen]
    return parts, ignored


def _part_of_table(name: str, table: Any, layout: Layout, split: str | None, path: Path | None) -> Part:
    if not layout.fits(set(table.column_names)):
        raise layout_error(name, layout, dict.fromkeys(table.column_names))
    return Part(name, table.to_list(), split=split, path=path)


def _is_hub_id(src: str) -> bool:
    """Whether a name that is nothing here can be one on the hub; data/dev.json is rather a file that is missing."""
    owner = Path(src.partition("/")[0])
    return bool(HUB_ID.fullmatch(src)) and not owner.exists() and not FILE_ENDING.search(src)


def _is_saved(path: Path) -> bool:
    one_table = (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    return one_table or (path / "dataset_dict.json").is_file()


def _same_split(one: str, other: str) -> bool:
    return one == other or any({one, other} <= names for names in SAME_SPLIT)


def _named_after(file_name: str, split: str) -> bool:
    return any(_same_split(word, split) for word in re.split(r"[^a-z0-9]+", file_name.lower()))


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return _shown(", ".join(listed[:20]) + (", .." if len(listed) > 20 else "") or "none")


def _shown(name: str | Path) -> str:
    """A name that can be printed: one that is not UTF-8 holds half surrogate pairs."""
    return str(name).encode("utf-8", "backslashreplace").decode()
