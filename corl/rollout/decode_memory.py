"""What decoding needs of a GPU's memory beside weights and cache."""

from corl.model.config import ModelConfig
from corl.model.exact import HEAD_ROWS
from corl_kernels.paged_attention import SPLIT

# B samples, V vocab
FP32 = 4


def decode_bytes(config: ModelConfig, *, vocab_size: int, max_seqs: int, exact: bool) -> int:
    """Return the bytes of the large tensors that decode steps and draws allocate, at most.

    config      of the decoder that runs, under tensor parallelism of a rank's share; vocab_size is the whole model's
    exact       whether the log-probs come from the trainer's own head

    Counted are, all in fp32:
    - what the decode attention keeps for each row, head and SPLIT positions, if every sample is as long as the model
      allows; twice, as the graphs' pool keeps what graphs over narrower tables took, and widths double
    - logits [B, V], three times: the graphs', a prefill's groups' and their samples'
    - in exact mode the head's logits [HEAD_ROWS, V], twice: within graphs and outside
    The activations of a step (some MB) and of a prefill (16,384 tokens of a 7B: 2.5 GB) are not: they and what CUDA and
    its libraries take are what the cache's share of the free memory leaves.
    """
    splits = -(-config.max_positions // SPLIT)
    attention = splits * max_seqs * config.num_heads * (config.head_dim + 2)
    logits = (3 * max_seqs + 2 * HEAD_ROWS * exact) * vocab_size
    return FP32 * (2 * attention + logits)
