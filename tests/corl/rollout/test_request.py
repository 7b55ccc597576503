import numpy as np
import pytest
import torch

from corl.rollout.request import Request, check_requests

LIMITS = {"vocab_size": 10, "max_positions": 64, "kv_tokens": 32, "has_tokenizer": False}


def test_ids_default_to_the_index():
    requests = [Request([1], max_tokens=1), Request([1], max_tokens=1, id="q")]
    assert list(check_requests(requests, **LIMITS)) == ["0", "q"]


def test_a_request_may_fill_the_cache():
    assert list(check_requests([Request([1] * 8, max_tokens=24, n=1000)], **LIMITS)) == ["0"]


def test_numbers_and_lists_of_other_libraries_become_pythons_own():
    """np.uint8(8) + 250 is 2, and no element of a tensor is in a set of ints."""
    request = Request(
        np.array([1, 2], dtype=np.uint8), n=np.int8(3), max_tokens=np.uint8(4), temperature=np.float32(0.5),
        top_k=torch.tensor(2), stop_ids=torch.tensor([7, 99]), stop_strings=(text for text in "ab"),
    )  # fmt: skip
    (own,) = check_requests([request], **(LIMITS | {"has_tokenizer": True})).values()
    assert own == Request(
        (1, 2), n=3, max_tokens=4, temperature=0.5, top_k=2, stop_ids=(7, 99), stop_strings=("a", "b")
    )
    assert {type(number) for number in (*own.prompt_ids, own.n, own.max_tokens, own.top_k, *own.stop_ids)} == {int}


def test_only_requests_are_requests():
    with pytest.raises(ValueError, match="request 1 is a list; give a corl.Request"):
        check_requests([Request([1], max_tokens=1), [1, 2]], **LIMITS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_ids": []}, "prompt_ids is empty"),
        ({"prompt_ids": [3, 10]}, r"holds 10; ids must lie in \[0, 10\)"),
        ({"prompt_ids": [3, -1]}, "holds -1"),
        ({"prompt_ids": None}, "request '1': prompt_ids=None must be a sequence of integers"),
        ({"prompt_ids": "text"}, "prompt_ids='text' must be a sequence of integers"),
        ({"prompt_ids": [1.0, 2.0]}, r"prompt_ids=\[1.0, 2.0\] must be"),
        ({"prompt_ids": torch.tensor([[1, 2]])}, "prompt_ids=tensor.* must be a sequence of integers"),
        ({"n": 0}, "n=0"),
        ({"n": 2.0}, "n=2.0 must be an integer"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"max_tokens": None}, "max_tokens=None must be an integer"),
        ({"max_tokens": np.uint8(255)}, "max_tokens=255 exceeds"),
        ({"max_tokens": 31}, "the 32 tokens of the KV cache"),
        ({"prompt_ids": [1] * 60, "max_tokens": 5}, "the 64 positions of the model"),
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": 1e-40}, "temperature=1e-40 must be 0"),
        ({"temperature": 1e39}, "temperature=1e.39"),
        ({"temperature": "1"}, "temperature='1' must be a number"),
        ({"top_k": -1}, "top_k=-1"),
        ({"top_k": 1.5}, "top_k=1.5 must be an integer"),
        ({"top_k": 2**63}, "fit into 64 bits"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"top_p": 1e-50}, "top_p=1e-50"),
        ({"top_p": None}, "top_p=None must be a number"),
        ({"stop_ids": 3}, "stop_ids=3 must be a sequence of integers"),
        ({"stop_ids": ["</s>"]}, "stop_ids=.* must be a sequence of integers"),
        ({"expected_tokens": "9"}, "expected_tokens='9' must be a number"),
        ({"stop_strings": None}, "stop_strings=None must be a sequence"),
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
