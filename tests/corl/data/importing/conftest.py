import json

import pytest

from corl.data.importing import import_dataset
from corl.data.items import read_items


@pytest.fixture
def imported(tmp_path):
    """imported(set, *rows, **choices) -> its items and report, the rows given as JSON lines without an ending."""

    def run(name, *rows, source=None, **choices):
        if source is None:
            source = tmp_path / "source"
            source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        report = import_dataset(name, source, tmp_path / "out" / "items.jsonl", **choices)
        return read_items(tmp_path / "out" / "items.jsonl"), report

    return run


@pytest.fixture
def refused(tmp_path):
    """refused(set, message, source, **choices): nothing is written, and the one line says what it must."""

    def run(name, said, source, **choices):
        with pytest.raises(ValueError, match=said) as error:
            import_dataset(name, source, tmp_path / "out" / "items.jsonl", **choices)
        assert not (tmp_path / "out").exists()
        return str(error.value)

    return run
