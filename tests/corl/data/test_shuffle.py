import string
import time
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corl.data.items import Item
from corl.data.prompts import prompt_text
from corl.data.shuffle import IN_OPTIONS, IN_QUESTION, VERDICTS, count_pinned, pin_reason, shuffle_options


def item(*texts: str, answer: str = "A", question: str = "What grows back?", name: str = "toy:1") -> Item:
    options = dict(zip(string.ascii_uppercase, texts, strict=False))
    return Item(name, "toy", "en", "Some context.", question, options, answer, "easy", {"hops": 2})


PLAIN = item("Liver", "Lens", "Enamel", "Cornea")
NOUNS = st.lists(st.from_regex(r"[a-z]{5,8} tissue", fullmatch=True), min_size=2, max_size=26)


@st.composite
def items(draw) -> Item:
    texts = draw(NOUNS)
    chosen = draw(st.sets(st.sampled_from(string.ascii_uppercase[: len(texts)]), min_size=1))
    return item(*texts, answer=",".join(sorted(chosen)), name=draw(st.text(min_size=1).filter(str.strip)))


@given(items(), st.integers(), st.integers(0, 10**6))
def test_the_gold_moves_with_its_text_and_nothing_else_changes(before: Item, seed: int, epoch: int) -> None:
    after = shuffle_options(before, seed=seed, epoch=epoch)
    order = after.meta["shuffled"]["order"]
    assert sorted(order) == list(before.options) == list(after.options)
    assert list(after.options.values()) == [before.options[letter] for letter in order]
    assert {order[ord(letter) - 65] for letter in after.answer.split(",")} == set(before.answer.split(","))
    assert after.meta["shuffled"] == {"seed": seed, "epoch": epoch, "order": order} and after.meta["hops"] == 2
    same = {name: getattr(before, name) for name in ("options", "answer", "meta")}
    assert replace(after, **same) == before


@given(items(), st.data())
def test_order_and_prompt_are_the_same_under_every_gold(before: Item, data) -> None:
    gold = data.draw(st.sets(st.sampled_from(list(before.options)), min_size=1))
    other = replace(before, answer=",".join(sorted(gold)), meta={"proof": "secret"}, difficulty="difficult")
    one, two = (shuffle_options(each, seed=3, epoch=1) for each in (before, other))
    assert one.options == two.options and prompt_text(one) == prompt_text(two)


def test_equal_arguments_give_equal_orders_and_others_other_ones() -> None:
    orders = Counter(
        shuffle_options(replace(PLAIN, id=f"toy:{k}"), seed=seed, epoch=epoch).meta["shuffled"]["order"]
        for k in range(40) for seed in range(5) for epoch in range(12)
    )  # fmt: skip
    assert len(orders) == 24 and max(orders.values()) < 2 * 2400 / 24 and min(orders.values()) > 2400 / 24 / 2
    assert shuffle_options(PLAIN, seed=1, epoch=2) == shuffle_options(PLAIN, seed=1, epoch=2)
    # fixed for good: a run that is resumed by a later version of Python or numpy must see the same prompts
    assert [shuffle_options(PLAIN, seed=0, epoch=e).meta["shuffled"]["order"] for e in range(3)] == ORDERS_OF_PLAIN


ORDERS_OF_PLAIN = ["ADBC", "BCAD", "BDAC"]


@pytest.mark.parametrize(
    "text",
    [
        "All of the above", "None of the above.", "ALL THE ABOVE", "all above", "Any of the above", "none of these",
        "None of them", "All of these are true", "Both", "None", "All", "Neither", "both of the above", "Both A and B",
        "Both A & C", "a and b", "A & C", "A, B and D", "(A) and (C)", "A/B", "a+b", "ab", "ACD", "A", "b.", "B only",
        "Only C", "A or B", "Neither A nor B", "A but not B", "All except C", "All but D", "A and B are correct",
        "a, b are true and c, d are false", "Both options are correct", "all options", "No correct answer", "Option A",
        "Same as B", "The same as option (C), but faster", "as well as the options above, none of the others",
        "Other than the above", "the above mentioned drugs", "b) fever", "以上都是", "以上均不是",
        "上述全对", "A和B", "A、B均对",
        "AB均正确", "A与C都不是", "选项A和选项B", "仅A", "都不是", "均可",
        "两者都是", "全部正确", "无正确答案", "Ａ和Ｂ",
    ],
)  # fmt: skip
def test_an_option_that_speaks_of_others_pins_the_row(text: str) -> None:
    row = item("Liver", "Lens", "Enamel", text)
    assert pin_reason(row) == IN_OPTIONS
    for epoch in range(6):
        assert shuffle_options(row, seed=0, epoch=epoch) is row


@pytest.mark.parametrize(
    "text",
    [
        "Both kidneys", "Both ureters and the bladder", "None of the children", "All cranial nerves", "above the knee",
        "Two", "One of them measures pressure by night", "Vitamin A", "Vitamins A and D", "Hepatitis B and C",
        "A fall in pressure", "a base pair", "C-reactive protein", "E. coli", "A beta-blocker", "1 and 2 only",
        "B cell",
        "Neither drug works", "The drug of first choice", "the other eye", "65岁以上", "维生素A", "乙型肝炎",
        "all these symptoms",
        "a good option", "An answer to infection", "Allergy", "Bothrops bite",
    ],
)  # fmt: skip
def test_content_is_shuffled(text: str) -> None:
    row = item("Liver", "Lens", "Enamel", text)
    assert pin_reason(row) is None
    assert len({shuffle_options(row, seed=0, epoch=e).meta["shuffled"]["order"] for e in range(9)}) > 1


def test_an_option_with_its_own_label_pins_but_a_genus_does_not() -> None:
    assert pin_reason(item("Liver", "b. Lens")) == IN_OPTIONS
    assert pin_reason(item("Liver", "E. coli", "C. difficile")) == IN_OPTIONS  # C. stands at C: looks like a label
    assert pin_reason(item("Liver", "C. difficile", "E. coli")) is None


@pytest.mark.parametrize(
    ("question", "pinned"),
    [
        ("Which of the options A to D is a lens?", True), ("Why is answer C wrong?", True), ("选项B为何错误？", True),
        ("Compare (A) liver with (B) lens.", True), ("Which vitamin B is lacking?", False),
        ("What is the drug of first choice?", False), ("Which statement about hepatitis A and B holds?", False),
        ("Which option would a doctor take?", False),
    ],
)  # fmt: skip
def test_a_question_that_names_options_pins_the_row(question: str, pinned: bool) -> None:
    assert pin_reason(replace(PLAIN, question=question)) == (IN_QUESTION if pinned else None)


@pytest.mark.parametrize("texts", [("yes", "no", "maybe"), ("Yes.", "No."), ("True", "False"), ("是", "否", "不确定")])
@pytest.mark.parametrize("answer", ["A", "B"])
def test_yes_no_maybe_keeps_its_order(texts: tuple[str, ...], answer: str) -> None:
    row = item(*texts, answer=answer)
    assert pin_reason(row) == VERDICTS and shuffle_options(row, seed=7, epoch=7) is row
    assert pin_reason(item(*texts, "it depends")) is None


def test_pins_are_counted() -> None:
    rows = [
        PLAIN,
        item("yes", "no"),
        item("x1", "Both"),
        item("x1", "None"),
        replace(PLAIN, question="Is option B it?"),
    ]
    assert count_pinned(rows) == {VERDICTS: 1, IN_OPTIONS: 2, IN_QUESTION: 1} and count_pinned([PLAIN]) == {}


@pytest.mark.parametrize(
    "text", ["not " * 250_000, "a, " * 350_000, "(" * 10**6, "\u0301" * 10**6, "选项" * 500_000, "above " * 160_000]
)
def test_a_megabyte_of_anything_takes_no_time(text: str) -> None:
    started = time.process_time()
    pin_reason(item(text + "x", text + "y", question=text + "?"))
    assert time.process_time() - started < 1
