import pytest

OPTIONS = {"A": "Gout", "B": "Septic arthritis (knee)", "C": "Lupus"}
LIST = [{"letter": letter, "content": content} for letter, content in OPTIONS.items()]
TAIL = "\nAnswer Choices: (A) Gout (B) Septic arthritis (knee) (C) Lupus"


def row(**change):
    return {
        "id": "Text-1",
        "question": f"A swollen knee. What is it?{TAIL}",
        "options": OPTIONS,
        "label": "B",
        "medical_task": "Diagnosis",
        "body_system": "Skeletal",
        "question_type": "Reasoning",
        **change,
    }


@pytest.mark.parametrize("change", [{}, {"options": LIST, "label": ["B"]}, {"options": str(OPTIONS)}])
def test_all_layouts_give_the_same_item(imported, change):
    (item,), report = imported("medxpertqa", row(**change))
    assert (item.id, item.answer, item.options) == ("medxpertqa:Text-1", "B", OPTIONS)
    assert item.question == "A swollen knee. What is it?"
    assert item.meta == {
        "medical_task": "Diagnosis",
        "body_system": "Skeletal",
        "question_type": "Reasoning",
        "flags": [],
    }
    assert [(repair.row, repair.id) for repair in report.repaired] == [(1, "medxpertqa:Text-1")]


@pytest.mark.parametrize(
    "tail",
    [
        "\nAnswer Choices: (A) Gout (B) Septic  arthritis\n(knee) (C) Lupus ",
        " Answer Choices: A. Gout, B. Septic arthritis (knee), C. Lupus",
        TAIL + TAIL,
    ],
)
def test_the_same_options_are_cut_off_the_stem(imported, tail):
    (item,), report = imported("medxpertqa", row(question=f"What is it?{tail}"))
    assert item.question == "What is it?" and len(report.repaired) == 1


@pytest.mark.parametrize(
    "tail",
    [
        "",
        "\nAnswer Choices: (A) Gout (B) Septic arthritis (knee)",  # one is missing
        "\nAnswer Choices: (A) Gout (B) Septic arthritis (hip) (C) Lupus",
        "\nAnswer Choices: (A) Gout (C) Septic arthritis (knee) (B) Lupus",
        "\nAnswer Choices: (A) Gout (B) Septic arthritis (knee) (C) Lupus (D) Rheumatism",
        f"{TAIL} Choose the best.",
        "\nAnswer Choices:",
        " Answer choices: (A) Gout (B) Septic arthritis (knee) (C) Lupus",
    ],
)
def test_another_text_after_the_marker_stays(imported, tail):
    (item,), report = imported("medxpertqa", row(question=f"What is it?{tail}"))
    assert item.question == f"What is it?{tail}" and not report.repaired


def test_rows_that_are_dropped(imported):
    wrong = [row(label="D"), row(label=[]), row(label=None), row(question=TAIL), row(options=None), row(question=3)]
    items, report = imported("medxpertqa", *wrong)
    assert [item.question for item in items] == ["3"]  # a number is a text; nothing but options is no question
    assert [drop.row for drop in report.dropped] == [1, 2, 3, 4, 5]


def test_the_multimodal_half_is_another_set(tmp_path, refused):
    import json

    (tmp_path / "source").write_text(json.dumps(row(images=["MM-1.jpeg"])))
    refused("medxpertqa", "no layout of medxpertqa .*no images", tmp_path / "source")
    (tmp_path / "source").write_text(json.dumps([row(), row(options=["Gout", "Lupus"])]))
    refused("medxpertqa", "row 2: no layout of medxpertqa", tmp_path / "source")
