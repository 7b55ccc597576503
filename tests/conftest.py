"""Set before anything imports torch or triton."""

import os

# Tests share two cores: one thread each and no spinning.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch

# Without a device the kernels run under triton's interpreter, which has to be chosen before triton is imported.
os.environ["TRITON_INTERPRET"] = "0" if torch.cuda.is_available() else "1"
