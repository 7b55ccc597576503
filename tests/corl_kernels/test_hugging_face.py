"""transformers' own models with our norms, SwiGLU and head against the same models without."""

import copy

import pytest
import torch

from corl_kernels import linear_cross_entropy, linear_policy_loss, patch_transformers_model

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow
V, L, B = 131, 12, 3
SIZES = {
    "vocab_size": V, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip


def build(kind, **more):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **SIZES | more)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def batch():
    gen = torch.Generator().manual_seed(1)
    ids = torch.randint(0, V, (B, L), generator=gen)
    labels = ids.clone()
    labels[:, :4] = -100
    mask = torch.ones(B, L, dtype=torch.int64)
    mask[0, :2] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("count", [None, 17, torch.tensor(17)], ids=["mean", "number", "tensor"])
@pytest.mark.parametrize(("kind", "tied"), [("qwen2", False), ("qwen3", True), ("llama", False)])
def test_loss_and_gradients_are_those_of_the_model(kind, tied, count):
    plain = build(kind, tie_word_embeddings=tied)
    patched = patch_transformers_model(copy.deepcopy(plain))
    options = {} if count is None else {"num_items_in_batch": count}
    want, have = plain(**batch(), **options), patched(**batch(), **options)
    assert have.logits is None
    torch.testing.assert_close(have.loss, want.loss)
    want.loss.backward()
    have.loss.backward()
    wanted, found = gradients(plain), gradients(patched)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_projections_may_have_biases():
    plain = build("llama", mlp_bias=True, attention_bias=True)
    patched = patch_transformers_model(copy.deepcopy(plain))
    torch.testing.assert_close(patched(**batch()).loss, plain(**batch()).loss)
    with pytest.raises(ValueError, match="lm_head has a bias"):
        plain.lm_head = torch.nn.Linear(SIZES["hidden_size"], V)
        patch_transformers_model(plain)


def test_logits_and_generation_are_as_before():
    plain = build("qwen3").eval()
    patched = patch_transformers_model(copy.deepcopy(plain))
    inputs = {key: value for key, value in batch().items() if key != "labels"}
    torch.testing.assert_close(patched(**inputs).logits, plain(**inputs).logits)
    kept = patched(**batch(), logits_to_keep=torch.arange(L))
    torch.testing.assert_close(kept.logits, plain(**inputs).logits)
    by_place = patched(*inputs.values(), None, None, None, batch()["labels"])
    assert torch.equal(by_place.loss, patched(**batch()).loss)
    want, have = (m.generate(**inputs, max_new_tokens=5, do_sample=False) for m in (plain, patched))
    assert torch.equal(have, want)
    assert list(patched.state_dict()) == list(plain.state_dict())


def test_a_trainer_step_in_bf16_is_the_explicit_cast(tmp_path):
    """transformers' Trainer with bf16=True: autocast over fp32 weights."""
    pytest.importorskip("accelerate")
    explicit = build("qwen2")
    patched = patch_transformers_model(copy.deepcopy(explicit))
    rows = [dict(zip(batch(), values, strict=True)) for values in zip(*batch().values(), strict=True)]
    settings = transformers.TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=B, max_steps=1, learning_rate=0.5, bf16=True,
        use_cpu=True, optim="sgd", lr_scheduler_type="constant", max_grad_norm=0.0, report_to=[], save_strategy="no",
        disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    transformers.Trainer(model=patched, args=settings, train_dataset=rows).train()

    labels = batch()["labels"]
    targets = torch.cat((labels[:, 1:], torch.full((B, 1), -100)), dim=1)
    weights = torch.full((B, L), 1 / int((labels != -100).sum()))
    with torch.autocast("cpu", torch.bfloat16):
        hidden = explicit.model(batch()["input_ids"], batch()["attention_mask"]).last_hidden_state
        loss = linear_cross_entropy(hidden.bfloat16(), explicit.lm_head.weight.bfloat16(), targets, weights)
    loss.backward()
    moved = 0
    for (name, have), want in zip(patched.named_parameters(), explicit.parameters(), strict=True):
        step = 0.5 * want.grad
        torch.testing.assert_close(have, want - step, rtol=0, atol=2e-2 * float(step.abs().max()) + 1e-7, msg=name)
        moved += int((have != want).any())
    assert moved > 10


def test_policy_loss_on_the_hidden_states_of_a_patched_model():
    """The GRPO step of kernels/README.md."""
    model = patch_transformers_model(build("llama"))
    inputs = batch()
    hidden = model.model(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
    targets = torch.cat((inputs["labels"][:, 1:], torch.full((B, 1), -100)), dim=1)
    advantages = torch.randn(B, 1).expand(B, L)
    weights = (targets != -100) / (targets != -100).sum()
    out = linear_policy_loss(hidden, model.lm_head.weight, targets, advantages, weights)
    out.loss.backward()
    assert out.logprobs.shape == (B, L)
    assert len(gradients(model)) == len(list(model.parameters()))


def test_models_it_does_not_fit_are_named():
    with pytest.raises(ValueError, match="model is a Linear"):
        patch_transformers_model(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="hidden_act is 'gelu'"):
        patch_transformers_model(build("llama", hidden_act="gelu"))
    with pytest.raises(ValueError, match="model is a gpt2"):
        config = transformers.AutoConfig.for_model("gpt2", vocab_size=V, n_embd=8, n_layer=1, n_head=2)
        patch_transformers_model(transformers.AutoModelForCausalLM.from_config(config))
