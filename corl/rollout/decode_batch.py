"""The persistent tensors a decode step reads: one row per running sample, changed in bulk and never rebuilt."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from corl.rollout.scheduler import Sample


def page_table(pages: Sequence[list[int]], device: torch.device) -> Tensor:
    """Lists of pages as rows [len(pages), longest] i64, zeros behind the shorter ones."""
    width = max(map(len, pages))
    return torch.tensor([row + [0] * (width - len(row)) for row in pages], device=device)


def sampling_state(samples: Sequence[Sample], device: torch.device) -> dict[str, Tensor]:
    """The keyword arguments of sample_tokens for the next token of each sample, [B] each."""
    integers = [(s.seed, len(s.request.prompt_ids) + len(s.ids), s.request.top_k) for s in samples]
    floats = [(s.request.temperature, s.request.top_p) for s in samples]
    seeds, positions, top_k = torch.tensor(integers, dtype=torch.int64, device=device).T.contiguous()
    temperature, top_p = torch.tensor(floats, dtype=torch.float32, device=device).T.contiguous()
    return {"seeds": seeds, "positions": positions, "temperature": temperature, "top_k": top_k, "top_p": top_p}


class DecodeBatch:
    """Rows 0 .. size - 1 are live. N = max_seqs rows, M pages a sample at most.

    tokens, positions, slots  [N] i64: the token to forward, its place in the sequence and in the cache
    context_lens              [N] i32: positions + 1
    block_table               [N, M] i32
    """

    def __init__(self, max_seqs: int, max_pages: int, page_size: int, device: torch.device) -> None:
        self.max_seqs, self.page_size, self.device = max_seqs, page_size, device
        self._integers = torch.zeros(5, max_seqs, dtype=torch.int64, device=device)
        self._floats = torch.zeros(2, max_seqs, dtype=torch.float32, device=device)
        self.positions, self.slots, self.tokens, self._seeds, self._top_k = self._integers
        self._temperature, self._top_p = self._floats
        self.context_lens = torch.zeros(max_seqs, dtype=torch.int32, device=device)
        self.block_table = torch.zeros(max_seqs, max_pages, dtype=torch.int32, device=device)

    def sampling_state(self, size: int) -> dict[str, Tensor]:
        """The keyword arguments of sample_tokens for the live rows, once they have advanced."""
        return {
            "seeds": self._seeds[:size], "positions": self.positions[:size], "temperature": self._temperature[:size],
            "top_k": self._top_k[:size], "top_p": self._top_p[:size],
        }  # fmt: skip

    def insert(self, samples: Sequence[Sample]) -> None:
        """Fill the rows of samples just started, which follow the live ones."""
        if not samples:
            return
        rows = slice(samples[0].row, samples[-1].row + 1)
        state = sampling_state(samples, self.device)
        self._seeds[rows], self._top_k[rows] = state["seeds"], state["top_k"]
        self._temperature[rows], self._top_p[rows] = state["temperature"], state["top_p"]
        self.tokens[rows] = torch.tensor([sample.ids[-1] for sample in samples], device=self.device)
        self.context_lens[rows] = state["positions"]
        positions = self.positions[rows] = state["positions"] - 1
        table = page_table([sample.pages for sample in samples], self.device)
        self.block_table[rows, : table.shape[1]] = table
        # where the token opens a page that the sample has yet to get, the column is clamped and extend sets the slot
        columns = (positions // self.page_size).clamp(max=table.shape[1] - 1)[:, None]
        self.slots[rows] = table.gather(1, columns)[:, 0] * self.page_size + positions % self.page_size

    def move(self, moves: Sequence[tuple[int, int]]) -> None:
        """Copy rows (source, destination); no row is both."""
        if moves:
            sources, destinations = torch.tensor(moves, device=self.device).T
            for state in (self._integers, self._floats, self.context_lens, self.block_table.T):
                state[..., destinations] = state[..., sources]

    def extend(self, samples: Sequence[Sample]) -> None:
        """Enter the last page of each sample; its next token is that page's first."""
        if samples:
            entries = chain.from_iterable((s.row, len(s.pages) - 1, s.pages[-1]) for s in samples)
            rows, columns, pages = torch.tensor(list(entries), device=self.device).view(-1, 3).T
            self.block_table[rows, columns] = pages.int()
            self.slots[rows] = pages * self.page_size

    def advance(self, size: int) -> None:
        """The tokens of the live rows are in the cache: the next ones go one place further."""
        self._integers[:2, :size] += 1
        self.context_lens[:size] += 1
