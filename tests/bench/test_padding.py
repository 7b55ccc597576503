import pytest

from bench import padding


@pytest.mark.parametrize(("budget", "completions"), padding.SETTINGS)
def test_at_most_three_percent_of_the_rows_are_padding(budget, completions):
    found = padding.measure(budget, completions, 300)
    assert 1 <= found.even <= 1.03
    assert found.even < found.fixed
    assert 0 < found.needed < budget


def test_packs_are_those_of_the_trainer(monkeypatch):
    """Every pack fits the budget, and a prompt has no target."""
    packed = []
    pack = padding.pack

    def seen(sequences, budget, ranks):
        found = pack(sequences, budget, ranks)
        packed.extend(found[0])
        return found

    monkeypatch.setattr(padding, "pack", seen)
    counts = padding.targets_of_packs(8192, (100, 1500))
    needed = [next(counts) for _ in range(20)]
    for held, count in zip(packed, needed, strict=False):
        assert sum(len(s.ids) - 1 for s in held) <= 8192
        assert count == sum(len(s.ids) - s.prompt_len for s in held)


def test_the_command_prints_a_line_for_every_setting(capsys):
    padding.main(["--packs", "20"])
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(padding.SETTINGS)


def test_a_number_of_packs_below_one_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        padding.main(["--packs", "0"])
    assert stopped.value.code == 2 and "--packs 0" in capsys.readouterr().err
