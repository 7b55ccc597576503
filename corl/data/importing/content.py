"""What a source file holds, told from its bytes and never from its name: JSON, JSON lines, CSV, TSV or parquet.

Tables are read with the csv module, so "None" and "NA" stay the texts they are.
"""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

PACKED = {b"PK\x03\x04": "zip or xlsx", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstandard", b"ARROW1": "arrow"}
AGAIN = "fetch the set again"


def read_content(path: Path, encodings: tuple[str, ...] = ("utf-8",)) -> Any:
    """The value of a JSON file; the list of rows of JSON lines, of a table with a header, or of a parquet file.

    encodings  tried in order; all of the text must be in one of them
    Raises ValueError naming file and line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path") from error
    if raw.startswith(b"PAR1"):
        return _parquet(path, raw)
    for magic, kind in PACKED.items():
        if raw.startswith(magic):
            raise ValueError(f"{path} is a {kind} file; save it as JSON, CSV or parquet")
    text = _decoded(path, raw, encodings)
    if not text.strip():
        raise ValueError(f"{path} is empty; {AGAIN}")
    if text.lstrip()[0] not in "{[" and (rows := _table(path, text)) is not None:
        return rows
    return _json(path, text)


def _decoded(path: Path, raw: bytes, encodings: tuple[str, ...]) -> str:
    first: UnicodeDecodeError | None = None
    for encoding in encodings:
        try:
            text = raw.decode("utf-8-sig" if encoding == "utf-8" else encoding)
        except UnicodeDecodeError as error:
            first = first or error
            continue
        if encoding != "utf-8":
            _refuse_mixture(path, raw, encoding)
        return text
    assert first is not None
    line = raw.count(b"\n", 0, first.start) + 1
    names = " or ".join(encoding.upper() for encoding in encodings)
    raise ValueError(f"{path}, line {line}: not {names} ({first.reason}); convert the file") from first


def _refuse_mixture(path: Path, raw: bytes, encoding: str) -> None:
    """GB18030 gives wrong characters, and no error, for most UTF-8: a file of both must not pass."""
    for number, line in enumerate(raw.split(b"\n"), 1):
        # 16 bytes of Chinese in GB18030 are valid UTF-8 about once in ten million lines, shorter texts more often.
        if sum(byte > 127 for byte in line) >= 16 and not _fails_as_utf8(line):
            raise ValueError(f"{path}, line {number}: UTF-8 in a file that is {encoding} elsewhere; convert the file")


def _fails_as_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):  # one value and then more: lines of JSON
            raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); {AGAIN}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets thousands deep
        raise ValueError(f"{path}: not JSON that can be read ({error}); correct the file") from error
    values = []
    for number, line in enumerate(text.split("\n"), 1):
        if line := line.strip().removeprefix("\ufeff"):
            try:
                values.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg}); {AGAIN}") from error
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: not JSON that can be read ({error}); correct it") from error
    return values


def _table(path: Path, text: str) -> list[dict[str, str]] | None:
    """The rows of a table with a header of two columns or more, each with the cells it has; None for other text."""
    text = text.lstrip("\ufeff\r\n")
    header = re.split(r"\r|\n", text, maxsplit=1)[0]
    delimiter = "\t" if header.count("\t") >= header.count(",") else ","
    if delimiter not in header:
        return None
    limit = csv.field_size_limit(len(text) + 1)  # the module's own limit of 128 KiB is the length of one explanation
    try:
        try:
            return _rows(path, text, delimiter, csv.QUOTE_MINIMAL)
        except ValueError:
            if delimiter == ",":
                raise
            return _rows(path, text, delimiter, csv.QUOTE_NONE)  # TSV whose quotes are plain characters
    finally:
        csv.field_size_limit(limit)


def _rows(path: Path, text: str, delimiter: str, quoting: Any) -> list[dict[str, str]]:
    # newline="" keeps the \r\n that parts the options inside a quoted cell
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    rows = []
    try:
        names = [name.strip() for name in next(reader)]
        for cells in reader:
            if any(cell.strip() for cell in cells[len(names) :]):
                raise ValueError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells under {len(names)} columns; "
                    "a cell that holds the delimiter must be quoted"
                )
            if any(cells):
                rows.append({name: cell for name, cell in zip(names, cells, strict=False) if name})
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not a table ({error}); {AGAIN}") from error
    return rows


def _parquet(path: Path, raw: bytes) -> list[dict[str, Any]]:
    import pyarrow  # comes with datasets
    from pyarrow import parquet

    try:
        return parquet.read_table(pyarrow.BufferReader(raw)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: parquet that cannot be read ({error}); {AGAIN}") from error
