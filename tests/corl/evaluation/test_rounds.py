import hashlib
import json
from pathlib import Path

import pytest

from corl.evaluation.answers import ANSWERS, AnswerLog
from corl.evaluation.rounds import UNFINISHED, Decoding, Question, generate_answers
from corl.rollout.request import Completion

DECODING = Decoding(2, 0.6, 0.95)


class Killed(BaseException):
    pass


class FakeEngine:
    """Its numbers depend on the whole call, as a GPU's last bits do: what else is in the batch, what was carried.

    A token a step: sample s of request r ends at its own length. Stops as the engine does, at the first step at which
    `enough` requests are complete.
    """

    max_seqs = 4

    def __init__(self):
        self.calls = []

    def generate(self, requests, *, on_finished, carried, enough):
        self.calls.append([request.id for request in requests])
        text = repr([(r.id, r.n, r.max_tokens, carried.get(r.id)) for r in requests])
        key = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        made = {}
        for r in requests:
            before = carried[r.id].completions if r.id in carried else [Completion(r.id, s, [], [], "carried")
                                                                       for s in range(r.n)]  # fmt: skip
            made[r.id] = [list(c.ids) for c in before]
            assert [c.sample for c in before] == list(range(r.n)) and all(len(c.logprobs) == len(c.ids) for c in before)
        step = 0
        while sum(self.done(r, made[r.id]) for r in requests) < enough:
            for r in requests[: self.max_seqs + step]:  # later requests start later
                for s, ids in enumerate(made[r.id]):
                    if len(ids) < self.length(r, s):
                        ids.append((key + 7 * step + s) % 97)
                        on_finished(int(len(ids) == self.length(r, s)))
            step += 1
        return [
            Completion(r.id, s, ids, [-1.0] * len(ids), "stop" if len(ids) == self.length(r, s) else "carried")
            for r in requests
            for s, ids in enumerate(made[r.id])
        ]

    def length(self, request, sample):
        return 1 + (int(request.id.rpartition(":")[2]) * 7 + sample * 3) % request.max_tokens

    def done(self, request, group):
        return all(len(ids) == self.length(request, s) for s, ids in enumerate(group))


class FakeTokenizer:
    stop_ids = (5, 6)

    def decode(self, ids):
        return f"<think>{ids}</think>\n<answer>{'ABCD'[sum(ids) % 4]}</answer>"


@pytest.fixture
def questions(make_column_items):
    return [Question(item, "medqa", [1, 2, 3], 23) for item in make_column_items("medqa", 40)]


def run(folder: Path, questions, engine=None):
    folder.mkdir(exist_ok=True)
    log = AnswerLog(folder)
    try:
        generate_answers(engine or FakeEngine(), FakeTokenizer(), questions, DECODING, log, folder, prefill="")
    finally:
        log.close()
    return (folder / ANSWERS).read_bytes()


def test_every_question_is_answered_once_with_all_its_samples(questions, tmp_path):
    engine = FakeEngine()
    lines = run(tmp_path, questions, engine).splitlines()
    log = AnswerLog(tmp_path)
    assert sorted(a.id for a in log.answers) == sorted(q.item.id for q in questions) and len(lines) == 40
    assert all(len(a.completions) == 2 == len(set(a.completions)) for a in log.answers)
    assert [len(c) for c in engine.calls[:2]] == [11, 11]  # 2 rows of 2 samples: 8 items a round, and what may start
    assert any(a.correct == [True, False] for a in log.answers)
    assert [path.name for path in tmp_path.iterdir()] == [ANSWERS]


def test_long_answers_go_on_through_the_rounds(questions, tmp_path):
    given, made = [], []

    class Records(FakeEngine):
        def generate(self, requests, *, carried, **keywords):
            given.append({name: [c.ids[:] for c in group.completions] for name, group in carried.items()})
            made.append(super().generate(requests, carried=carried, **keywords))
            return made[-1]

    run(tmp_path, questions, Records())
    for before, now in zip(made, given[1:], strict=False):
        groups = {c.id: [other for other in before if other.id == c.id] for c in before if c.finish_reason == "carried"}
        assert now == {name: [c.ids for c in group] for name, group in groups.items() if any(c.ids for c in group)}
    assert given[0] == {} and any(given)
    log = AnswerLog(tmp_path)
    assert max(a.round for a in log.answers) == 4  # 8 a round
    assert {a.finish_reasons[0] for a in log.answers} == {"stop"}
    for answer in log.answers:
        number = int(answer.id.rpartition(":")[2])
        assert answer.tokens == [1 + (number * 7 + s * 3) % 23 for s in (0, 1)]


def test_requests_carry_the_decoding(questions, tmp_path):
    class Looks(FakeEngine):
        def generate(self, requests, **keywords):
            for r in requests:
                assert (r.n, r.temperature, r.top_p, r.stop_ids) == (2, 0.6, 0.95, (5, 6))
                assert (r.prompt_ids, r.max_tokens) == ([1, 2, 3], 23)
            return super().generate(requests, **keywords)

    run(tmp_path, questions, Looks())


def test_a_finished_run_asks_nothing(questions, tmp_path):
    before = run(tmp_path, questions)
    engine = FakeEngine()
    assert run(tmp_path, questions, engine) == before and engine.calls == []
    few = tmp_path / "one round"
    before = run(few, questions[:3])
    assert run(few, questions[:3], engine) == before and engine.calls == []


@pytest.mark.parametrize("place", ["in the engine", "in a line", "between lines", "before unfinished", "after"])
@pytest.mark.parametrize("round_", [0, 1, 3])
def test_a_run_that_was_killed_anywhere_ends_as_a_whole_one(questions, tmp_path, monkeypatch, place, round_):
    import corl.evaluation.rounds as rounds

    whole = run(tmp_path / "whole", questions)
    folder, engine = tmp_path / "killed", FakeEngine()
    write, append = rounds.write_whole, AnswerLog.append

    def killed_write(path, lines):
        assert path == folder / UNFINISHED
        now = json.loads(lines[0])["round"] == round_ + 1
        if now and place == "before unfinished":
            raise Killed
        write(path, lines)
        if now and place == "after":
            raise Killed

    def killed_append(log, answers):
        answers = list(answers)
        if answers and answers[0].round == round_ and place.endswith(("line", "lines")):
            append(log, answers[:3])
            if place == "in a line":
                log._file.write(b'{"id": "torn')
                log._file.flush()
            raise Killed
        append(log, answers)

    def killed_generate(requests, **keywords):
        if len(engine.calls) == round_ and place == "in the engine":
            raise Killed
        return FakeEngine.generate(engine, requests, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "write_whole", killed_write)
        patch.setattr(AnswerLog, "append", killed_append)
        patch.setattr(engine, "generate", killed_generate)
        with pytest.raises(Killed):
            run(folder, questions, engine)
    had = (folder / ANSWERS).read_bytes() if (folder / ANSWERS).exists() else b""
    again = FakeEngine()
    result = run(folder, questions, again)
    assert result == whole
    assert result.startswith(had[: had.rfind(b"\n") + 1])  # what was finished stays as it was
    assert len(again.calls) == 5 - round_ - (place == "after")  # rounds that were whole are not asked again


def test_without_unfinished_json_only_items_without_a_line_are_asked(questions, tmp_path):
    before = run(tmp_path, questions).splitlines(keepends=True)
    (tmp_path / ANSWERS).write_bytes(b"".join(before[:10] + before[12:]))
    engine = FakeEngine()
    after = run(tmp_path, questions, engine).splitlines(keepends=True)
    assert len(engine.calls) == 1 and len(engine.calls[0]) == 2
    assert after[:38] == before[:10] + before[12:] and len(after) == 40


@pytest.mark.parametrize("text", ["", "[]", '{"round": 1}', '{"round": 1, "carried": {"medqa:0": [1]}}'])
def test_a_damaged_unfinished_json_is_named(questions, tmp_path, text):
    (tmp_path / UNFINISHED).write_text(text)
    with pytest.raises(ValueError, match=r"unfinished.json: damaged .*remove it"):
        run(tmp_path, questions)
