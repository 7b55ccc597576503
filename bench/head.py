"""The losses on the language-model head against their three GEMMs, full logits, and other libraries."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.accuracy import Truth, cross_entropy_truth, errors, policy_truth
from bench.contest import PEER_ERRORS, Case, Contender, Row, hold, missing
from bench.inputs import MODELS, HeadBatch, trained_like
from bench.roofline import Peaks
from corl_kernels import PolicyObjective, linear_cross_entropy, linear_logprobs, linear_policy_loss
from corl_kernels.chunks import chunk_rows, gemm

# T tokens, H hidden, V vocabulary, C rows of a chunk, B sequences of L tokens
WITH_ENTROPY, WITHOUT_ENTROPY = PolicyObjective("grpo", entropy_coef=0.01), PolicyObjective("grpo")
OURS, LIGER = "corl linear_policy_loss", "liger FusedLinearGRPO, no entropy"
GEMMS, GEMM = "three GEMMs alone", "one GEMM alone"
OUTSIDERS_GEMMS, OUTSIDERS_GEMM = "three GEMMs, not chunked", "one GEMM, not chunked"
MAIN_GRAD = f"{OURS}, grad_weight_out"
OPS = ("policy", "cross_entropy", "logprobs")
# Bytes of temporaries per logit: logits in bf16 and fp32, log-probabilities, probabilities, p log p, two gradients;
# compiled, the logits, the log-probabilities and one gradient.
_EAGER, _COMPILED, _EAGER_FORWARD = 28, 16, 18


@dataclass(frozen=True, slots=True)
class Way:
    """`call` computes the op on a batch, gradients left in its leaves, and returns the log-probabilities if it has any.

    truth      what fp64 is asked for: a policy objective, or "cross_entropy"
    per_logit  bytes of temporaries per logit, where they grow with T
    """

    op: str
    name: str
    call: Callable[[HeadBatch], Tensor | None]
    truth: PolicyObjective | str
    peer: bool = True
    per_logit: int = 0
    skipped: str | None = None


def suite(
    device: torch.device,
    peaks: Peaks,
    *,
    models: Sequence[str],
    tokens: Sequence[int],
    repeats: int,
    ops: Sequence[str] = OPS,
    compiled: bool = True,
) -> Iterator[list[Row]]:
    """One list of rows for every model and number of tokens; bf16 on a GPU, fp32 on a CPU.

    ops       of OPS, those that are measured, beside the floors
    compiled  with the contenders that torch.compile makes
    """
    on_gpu = device.type == "cuda"
    dtype, length, sliced = (torch.bfloat16, 2048, 2048) if on_gpu else (torch.float32, 512, 256)
    sliced = min(sliced, *tokens)  # one chunk of rows
    wanted = [way for way in ways(device, compiled=compiled) if way.op in ops]
    for model in models:
        batch = trained_like(MODELS[model], max(tokens), length, device.type, dtype)
        print(f"{model}: {describe(batch)}", flush=True)
        found = measure_errors(batch.take(sliced), wanted)
        for count in tokens:
            if compiled:  # or a new shape would count against the recompilations and end up in eager mode
                torch.compiler.reset()
            part = batch.take(count)
            shape = {"T": count, "H": part.hidden.shape[1], "V": len(part.weight)}
            case = Case("head", model, str(dtype).removeprefix("torch."), shape)
            yield hold(case, contenders(part, wanted), device, peaks, repeats=repeats, errors=found)


def describe(batch: HeadBatch) -> str:
    """How peaked the inputs are."""
    with torch.no_grad():
        found = linear_logprobs(batch.hidden, batch.weight, batch.targets, return_entropy=True)
    assert found.entropy is not None
    probs = found.logprobs.exp()
    return (
        f"inputs with median p {float(probs.median()):.3f} of the target, p > 0.9 for "
        f"{float((probs > 0.9).float().mean()):.0%} of the tokens, mean entropy {float(found.entropy.mean()):.2f} nats"
    )


def full_logits_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, advantages: Tensor, token_weights: Tensor, old_logprobs: Tensor
) -> tuple[Tensor, Tensor]:
    """(loss, logprobs): what a trainer without a fused loss writes, for autograd."""
    logprobs, entropy = full_logits_scores(hidden, weight, targets)
    ratio, low, high = (logprobs - old_logprobs).exp(), WITH_ENTROPY.clip_low, WITH_ENTROPY.clip_high
    terms = -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    return ((terms - WITH_ENTROPY.entropy_coef * entropy) * token_weights).sum(), logprobs.detach()


def full_logits_scores(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.log_softmax((hidden @ weight.T).float(), dim=-1)
    return rows.gather(1, targets[:, None])[:, 0], -(rows.exp() * rows).sum(-1)


def ways(device: torch.device, *, compiled: bool = True) -> list[Way]:
    """Every way of doing a head op here, those that cannot run with their reason."""
    on_gpu = device.type == "cuda"
    liger = missing("liger_kernel")
    triton_only = liger or (None if on_gpu else "its Triton kernels need a GPU")
    torch_own = None if hasattr(torch.nn.functional, "linear_cross_entropy") else f"torch {torch.__version__} lacks it"
    entropy, cross = WITH_ENTROPY, "cross_entropy"
    found = [
        Way("policy", OURS, _policy, entropy, peer=False),
        Way("policy", "torch eager, full logits", _eager(full_logits_loss), entropy, per_logit=_EAGER),
        Way("policy", LIGER, _liger_policy(compiled=on_gpu and compiled), WITHOUT_ENTROPY, skipped=liger),
        Way("cross_entropy", "corl linear_cross_entropy", _cross_entropy, cross, peer=False),
        Way("cross_entropy", "liger FusedLinearCrossEntropy", _liger_cross_entropy, cross, skipped=triton_only),
        Way("cross_entropy", "torch linear_cross_entropy, chunked", _torch_cross_entropy, cross, skipped=torch_own),
        Way("logprobs", "corl linear_logprobs, entropy", _logprobs, entropy, peer=False),
        Way("logprobs", "torch eager, forward", _scores(full_logits_scores), entropy, per_logit=_EAGER_FORWARD),
    ]
    if on_gpu and liger is None:
        found.append(Way("policy", f"{LIGER}, TF32", _with_tf32(_liger_policy(compiled=compiled)), WITHOUT_ENTROPY))
    if on_gpu and compiled:
        loss, scores = (torch.compile(function, dynamic=False) for function in (full_logits_loss, full_logits_scores))
        found += [
            Way("policy", "torch.compile, full logits", _eager(loss), entropy, per_logit=_COMPILED),
            Way("logprobs", "torch.compile, forward", _scores(scores), entropy, per_logit=_COMPILED),
        ]
    return found


def _policy(batch: HeadBatch, grad_weight_out: Tensor | None = None) -> Tensor:
    """With grad_weight_out as a trainer calls it, which knows that the loss is not scaled any more."""
    inputs = (batch.hidden, batch.weight, batch.targets, batch.advantages, batch.token_weights)
    result = linear_policy_loss(
        *inputs,
        objective=WITH_ENTROPY,
        old_logprobs=batch.old_logprobs,
        grad_weight_out=grad_weight_out,
        grad_loss_is_one=grad_weight_out is not None,
    )
    result.loss.backward()
    return result.logprobs


def _cross_entropy(batch: HeadBatch) -> None:
    linear_cross_entropy(batch.hidden, batch.weight, batch.targets, batch.token_weights).backward()


def _logprobs(batch: HeadBatch) -> Tensor:
    with torch.no_grad():
        return linear_logprobs(batch.hidden, batch.weight, batch.targets, return_entropy=True).logprobs


def _eager(loss: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[HeadBatch], Tensor]:
    def call(batch: HeadBatch) -> Tensor:
        inputs = (batch.hidden, batch.weight, batch.targets, batch.advantages, batch.token_weights)
        value, logprobs = loss(*inputs, batch.old_logprobs)
        value.backward()
        return logprobs

    return call


def _scores(scores: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[HeadBatch], Tensor]:
    def call(batch: HeadBatch) -> Tensor:
        with torch.no_grad():
            return scores(batch.hidden, batch.weight, batch.targets)[0]

    return call


def _liger_policy(*, compiled: bool) -> Callable[[HeadBatch], None]:
    def call(batch: HeadBatch) -> None:
        from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

        # "bnpo" divides by the number of tokens, as token_weights do
        loss = LigerFusedLinearGRPOLoss(beta=0.0, compiled=compiled, use_ref_model=False, loss_type="bnpo")
        length = batch.sequence_length
        targets = batch.targets.view(-1, length)
        loss(
            batch.hidden.view(-1, length, batch.hidden.shape[1]),
            batch.weight,
            targets,
            torch.ones_like(targets),
            batch.advantages.view(-1, length)[:, 0],
            old_per_token_logps=batch.old_logprobs.view(-1, length),
        )[0].backward()

    return call


def _with_tf32(call: Callable[[HeadBatch], None]) -> Callable[[HeadBatch], None]:
    """Its fp32 GEMMs with TF32 operands: not the default, but what many trainers set."""

    def faster(batch: HeadBatch) -> None:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            call(batch)
        finally:
            torch.set_float32_matmul_precision(before)

    return faster


def _liger_cross_entropy(batch: HeadBatch) -> None:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    LigerFusedLinearCrossEntropyLoss()(batch.weight, batch.hidden, batch.targets).backward()


def _torch_cross_entropy(batch: HeadBatch) -> None:
    options = torch.nn.LinearCrossEntropyOptions()  # without them it builds the full logits
    torch.nn.functional.linear_cross_entropy(batch.hidden, batch.weight, batch.targets, options=options).backward()


class Gemms:
    """Logits, dX and dW with nothing between them, in the chunks and dtypes of corl_kernels.chunks: the floor.

    Exactly the batch's rows: the last chunk is as short as it comes. dlogits are the cross-entropy's own, of the first
    chunk, and serve every chunk: a GEMM runs at another speed on other numbers.
    """

    def __init__(self, batch: HeadBatch):
        self.hidden, self.weight = batch.hidden.detach(), batch.weight.detach()
        self.rows = min(chunk_rows(len(self.hidden), self.hidden.is_cuda), len(self.hidden))
        self.logits = self.hidden.new_empty(self.rows, len(self.weight), dtype=torch.float32)
        self.grad_hidden = torch.empty_like(self.hidden)
        self.grad_weight = torch.empty_like(self.weight, dtype=torch.float32)
        gemm(self.hidden[: self.rows], self.weight.t(), self.logits, accumulate=False)
        probs = self.logits.double().softmax(-1)
        probs[torch.arange(self.rows, device=probs.device), batch.targets[: self.rows]] -= 1
        self.dlogits = probs.mul_(batch.token_weights[: self.rows, None]).to(self.hidden.dtype)

    def forward(self) -> None:
        for rows in self.hidden.split(self.rows):
            gemm(rows, self.weight.t(), self.logits[: len(rows)], accumulate=False)

    def run(self) -> None:
        for index, (rows, out) in enumerate(
            zip(self.hidden.split(self.rows), self.grad_hidden.split(self.rows), strict=True)
        ):
            count = len(rows)
            gemm(rows, self.weight.t(), self.logits[:count], accumulate=False)
            gemm(self.dlogits[:count], self.weight, out, accumulate=False)
            gemm(self.dlogits[:count].t(), rows, self.grad_weight, accumulate=index > 0)


class UnchunkedGemms:
    """The same three products as anybody writes them: all rows at once, results in the inputs' dtype. The outsider's
    floor: where ours is slower, a ratio to ours flatters."""

    def __init__(self, gemms: Gemms):
        self.hidden, self.weight = gemms.hidden, gemms.weight
        self.logits = self.hidden.new_empty(len(self.hidden), len(self.weight))
        repeats = -(-len(self.hidden) // len(gemms.dlogits))
        self.dlogits = torch.cat([gemms.dlogits] * repeats)[: len(self.hidden)]
        self.grad_hidden, self.grad_weight = torch.empty_like(self.hidden), torch.empty_like(self.weight)

    def forward(self) -> None:
        torch.mm(self.hidden, self.weight.t(), out=self.logits)

    def run(self) -> None:
        self.forward()
        torch.mm(self.dlogits, self.weight, out=self.grad_hidden)
        torch.mm(self.dlogits.t(), self.hidden, out=self.grad_weight)


def contenders(batch: HeadBatch, found: Sequence[Way]) -> list[Contender]:
    """The floors and every way on this batch, those that do not fit the memory skipped."""
    (tokens, width), vocab, size = batch.hidden.shape, len(batch.weight), batch.hidden.element_size()
    one = {"flops": 2.0 * tokens * width * vocab, "traffic": float(size * width * (tokens + vocab))}
    three = {"flops": 3 * one["flops"], "traffic": 2 * one["traffic"]}
    grads = {"dX": batch.hidden.nbytes, "dW": batch.weight.nbytes}
    gemms = Gemms(batch)
    whole = UnchunkedGemms(gemms)
    entries = [
        Contender("floor", GEMMS, gemms.run, own_buffers=True, **three),
        Contender("floor", GEMM, gemms.forward, own_buffers=True, **one),
        Contender("floor", OUTSIDERS_GEMMS, whole.run, floor=GEMMS, own_buffers=True, **three),
        Contender("floor", OUTSIDERS_GEMM, whole.forward, floor=GEMM, own_buffers=True, **one),
    ]
    for way in found:
        scoring = way.op == "logprobs"
        entry = Contender(
            way.op,
            way.name,
            lambda way=way: way.call(batch),
            batch.clear,
            floor=GEMM if scoring else GEMMS,
            gradients={} if scoring else grads,
            peer=way.peer,
            skipped=way.skipped or _too_large(batch, way),
            **(one if scoring else three),
        )
        entries.append(entry)
    if any(way.name == OURS for way in found):
        main_grad = torch.zeros_like(batch.weight, dtype=torch.float32)
        grads = {"dX": batch.hidden.nbytes}
        run = lambda: _policy(batch, main_grad)  # noqa: E731
        entries.append(Contender("policy", MAIN_GRAD, run, batch.clear, floor=GEMMS, gradients=grads, **three))
    return entries


def _too_large(batch: HeadBatch, way: Way) -> str | None:
    """On a GPU, why the temporaries of a way would not fit."""
    if not batch.hidden.is_cuda or not way.per_logit:
        return None
    torch.cuda.empty_cache()
    needed, free = way.per_logit * len(batch.hidden) * len(batch.weight), torch.cuda.mem_get_info()[0]
    return None if needed < free else f"about {needed / 1e9:.0f} GB of full logits do not fit {free / 1e9:.0f} GB"


def measure_errors(batch: HeadBatch, found: Sequence[Way]) -> dict[str, Mapping[str, float]]:
    """By name, the errors of every way and of the bare GEMMs (log_softmax in fp64) against fp64 on this batch."""
    measured: dict[str, Mapping[str, float]] = {}
    for wanted in dict.fromkeys(way.truth for way in found):
        truth = policy_truth(batch, wanted) if isinstance(wanted, PolicyObjective) else cross_entropy_truth(batch)
        for way in found:
            if way.truth != wanted or way.skipped:
                continue
            batch.clear()
            try:
                measured[way.name] = errors(batch, truth, way.call(batch))
            except PEER_ERRORS as error:
                if not way.peer:
                    raise
                print(f"no errors of {way.name}: {type(error).__name__}: {error}"[:300], flush=True)
        if wanted == "cross_entropy":
            measured[GEMMS] = _gemm_errors(batch, truth)
    batch.clear()
    return measured


def _gemm_errors(batch: HeadBatch, truth: Truth) -> dict[str, float]:
    gemms = Gemms(batch)
    gemms.run()
    assert len(batch.hidden) <= gemms.rows, "the dlogits of the first chunk are those of the batch"
    batch.hidden.grad, batch.weight.grad = gemms.grad_hidden, gemms.grad_weight.to(batch.weight.dtype)
    rows = torch.log_softmax(gemms.logits.double(), dim=-1)
    return errors(batch, truth, rows.gather(1, batch.targets[:, None])[:, 0])
