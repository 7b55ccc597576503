import pytest

from corl.rollout.request import Request, check_requests

LIMITS = {"vocab_size": 10, "max_positions": 64, "kv_tokens": 32, "has_tokenizer": False}


def test_ids_default_to_the_index():
    assert check_requests([Request([1], max_tokens=1), Request([1], max_tokens=1, id="q")], **LIMITS) == ["0", "q"]


def test_a_request_may_fill_the_cache():
    assert check_requests([Request([1] * 8, max_tokens=24, n=1000)], **LIMITS) == ["0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_ids": []}, "prompt_ids is empty"),
        ({"prompt_ids": [3, 10]}, r"holds 10; ids must lie in \[0, 10\)"),
        ({"prompt_ids": [3, -1]}, "holds -1"),
        ({"n": 0}, "n=0"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"max_tokens": 31}, "the 32 tokens of the KV cache"),
        ({"prompt_ids": [1] * 60, "max_tokens": 5}, "the 64 positions of the model"),
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": -1}, "top_k=-1"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"expected_tokens": -1.0}, "expected_tokens=-1.0"),
        ({"stop_strings": ("x",)}, "tokenizer"),
        ({"stop_strings": "stop"}, "sequence of non-empty strings"),
        ({"stop_strings": ("",)}, "sequence of non-empty strings"),
        ({"id": 7}, "id=7 must be a string"),
        ({"id": "0"}, "id='0' is also that of request 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_broken_rule_is_named(change, message):
    good = {"prompt_ids": [1, 2], "max_tokens": 4}
    with pytest.raises(ValueError, match=message):
        check_requests([Request(**good), Request(**(good | change))], **LIMITS)
