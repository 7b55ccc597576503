"""What gives an answer away, and what only looks as if it did."""

import pytest

from corl.rods.audit.leaks import Answer, find_leak
from corl.rods.audit.surfaces import fold

LEAKS = [
    ("A child with oral Candida.", (), ["candidiasis"], "stem"),
    ("A man with elevated porphobilinogen.", (), ["acute intermittent porphyria"], "stem"),
    ("Signs of hypothyroidism?", (), ["thyroid biopsy"], "stem"),
    ("Which drug for bronchopneumonia?", (), ["pneumonia"], "stem"),
    ("Haemolysis is seen.", (), ["hemolytic uremic syndrome"], "stem"),
    ("Hypercalciuria is seen.", (), ["hypercalcemia"], "stem"),
    ("Behçet's sign?", (), ["Behcet disease"], "stem"),
    ("Morbus Whipple, also known so.", (), ["Whipple disease"], "stem"),
    ("She takes FOO-BAR daily.", (), ["foo-bar"], "names"),
    ("Known as gout.", (), ["Gout"], "names"),
    ("A case of TTP?", (), ["thrombotic thing", "TTP"], "names"),
    ("A case of PNH?", (), ["paroxysmal nocturnal hemoglobinuria"], "initials"),
    ("A case of HoT was seen, HCC too.", (), ["hue of the cold cup"], "initials"),
    ("Raised upper limit disorder?", ("Raised upper limit",), ["RUL"], "initials"),
    ("Mercury (metal)", (), ["Mercury"], "names"),
    ("患者有溶血表现。", (), ["hemolysis", "溶血性贫血"], "shares"),
    ("血清铜蓝蛋白降低", (), ["铜蓝代谢病"], "shares"),
    ("已知患者患有白喉。", (), ["白喉"], "names"),
    ("已知HIV白喉双重。", (), ["白喉"], "names"),
    ("Named 白喉 here.", (), ["diphtheria", "白喉"], "names"),
    ("该患者使用Warfarin。", (), ["warfarin", "华法林"], "names"),
]
SOUND = [
    ("Hyperkalemia is seen.", (), ["hypertension"]),
    ("An interstitial pattern.", (), ["interferon beta"]),
    ("Which disease has autosomal inheritance?", (), ["Fabry disease", "lysosomal disease"]),
    ("Acute onset, elevated levels, a positive test.", (), ["acute positive elevated thing"]),
    ("It is classed as which?", (), ["classic thing"]),
    ("ALL of these treat it EXCEPT?", (), ["acute foo", "AF"]),
    ("All of these?", (), ["leukemia", "ALL"]),
    ("Also seen.", (), ["motor thing", "ALS"]),
    ("Fever and abdominal pain.", ("fever", "abdominal pain"), ["FAP"]),
    ("Chest trauma?", ("chest trauma",), ["CT"]),
    ("gouty", (), ["gout"]),
    ("Cough.", (), ["coup"]),
    ("患者血清抗体阳性，诊断为综合征？", (), ["抗体缺乏综合征"]),
    ("急性发热", (), ["急性肝炎"]),
    ("发热", (), ["寒战"]),
    ("", (), ["gout"]),
]


@pytest.mark.parametrize(("question", "named", "answer", "how"), LEAKS, ids=[leak[0] for leak in LEAKS])
def test_leak(question: str, named: tuple[str, ...], answer: list[str], how: str) -> None:
    said = find_leak(question, fold(question), named, Answer.of(answer))
    assert said is not None and how in said


@pytest.mark.parametrize(("question", "named", "answer"), SOUND, ids=[sound[0] for sound in SOUND])
def test_no_leak(question: str, named: tuple[str, ...], answer: list[str]) -> None:
    assert find_leak(question, fold(question), named, Answer.of(answer)) is None
