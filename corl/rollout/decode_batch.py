"""The persistent tensors a decode step reads: one row per running sample, changed in bulk and never rebuilt."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from corl.rollout.sample import Sample


def page_table(pages: Sequence[list[int]], device: torch.device) -> Tensor:
    """Lists of pages as rows [len(pages), longest] i64, zeros behind the shorter ones."""
    width = max(map(len, pages))
    return torch.tensor([row + [0] * (width - len(row)) for row in pages], device=device)


def is_truncated(samples: Sequence[Sample]) -> bool:
    """Whether any of them cuts its distribution: without that sampling needs no order of the logits."""
    return any(sample.request.top_k or sample.request.top_p < 1 for sample in samples)


def sampling_state(samples: Sequence[Sample], device: torch.device) -> dict[str, Any]:
    """The keyword arguments of sample_tokens for the next token of each sample, [B] each."""
    integers = [(sample.seed, sample.length, sample.request.top_k) for sample in samples]
    floats = [(sample.request.temperature, sample.request.top_p) for sample in samples]
    seeds, positions, top_k = torch.tensor(integers, dtype=torch.int64, device=device).T.contiguous()
    temperature, top_p = torch.tensor(floats, dtype=torch.float32, device=device).T.contiguous()
    cuts = {"top_k": top_k, "top_p": top_p} if is_truncated(samples) else {}
    return {"seeds": seeds, "positions": positions, "temperature": temperature, **cuts}


def read_drawn(tokens: Tensor, logprobs: Tensor) -> tuple[list[Any], list[Any]]:
    """Tokens [..] i64 and logprobs [..] fp32 as lists, in one copy to the host and one wait for the device."""
    packed = torch.stack((tokens, logprobs.view(torch.int32))).cpu()
    return packed[0].tolist(), packed[1].int().view(torch.float32).tolist()


class DecodeBatch:
    """Rows 0 .. size - 1 are running, the others inert. N = max_seqs rows, M pages a sample at most, K steps a read.

    tokens, positions         [N] i64: the token to forward and its place in the sequence
    limits                    [N] i64: the position from which on the row is inert, 0 where nothing runs
    block_table               [N, M] i32
    drawn_tokens, drawn_logprobs  [K, N] i64 and fp32: what the steps since `rewind` drew
    """

    def __init__(self, max_seqs: int, max_pages: int, steps: int, page_size: int, device: torch.device) -> None:
        self.max_seqs, self.page_size, self.device = max_seqs, page_size, device
        self._integers = torch.zeros(5, max_seqs, dtype=torch.int64, device=device)
        self._floats = torch.zeros(2, max_seqs, dtype=torch.float32, device=device)
        self.positions, self.limits, self.tokens, self._seeds, self._top_k = self._integers
        self.temperature, self._top_p = self._floats
        self.block_table = torch.zeros(max_seqs, max_pages, dtype=torch.int32, device=device)
        self.drawn_tokens = torch.zeros(steps, max_seqs, dtype=torch.int64, device=device)
        self.drawn_logprobs = torch.zeros(steps, max_seqs, dtype=torch.float32, device=device)
        self._next_draw = torch.zeros(1, dtype=torch.int64, device=device)

    def sampling_state(self, rows: int, *, truncated: bool) -> dict[str, Any]:
        """The keyword arguments of sample_tokens for the token that follows the one forwarded."""
        cuts = {"top_k": self._top_k[:rows], "top_p": self._top_p[:rows]} if truncated else {}
        positions = self.positions[:rows] + 1
        return {"seeds": self._seeds[:rows], "positions": positions, "temperature": self.temperature[:rows], **cuts}

    def places(self, rows: int, width: int) -> tuple[Tensor, Tensor]:
        """slots [rows] i64 of the tokens to forward and context_lens [rows] i32 with them; -1 and 0 in inert rows.

        width  columns of the block table that are in use, at most
        """
        positions, inert = self.positions[:rows], self.positions[:rows] >= self.limits[:rows]
        columns = (positions // self.page_size).clamp_(max=width - 1)[:, None]  # an inert row may stand anywhere
        pages = self.block_table[:rows, :width].gather(1, columns)[:, 0]
        slots = (pages * self.page_size + positions % self.page_size).masked_fill_(inert, -1)
        return slots, (positions + 1).masked_fill_(inert, 0).int()

    def advance(self, rows: int, tokens: Tensor, logprobs: Tensor) -> None:
        """Note what was drawn [rows] and make it what the live rows forward next."""
        self.drawn_tokens[:, :rows].index_copy_(0, self._next_draw, tokens[None])
        self.drawn_logprobs[:, :rows].index_copy_(0, self._next_draw, logprobs[None])
        self._next_draw += 1
        self.tokens[:rows] = tokens
        self.positions[:rows] += self.positions[:rows] < self.limits[:rows]

    def rewind(self) -> None:
        """The next draws are noted from the first row of `drawn_tokens` on."""
        self._next_draw.zero_()

    def insert(self, samples: Sequence[Sample]) -> None:
        """Fill the rows of samples just started, which follow the running ones."""
        if not samples:
            return
        rows = slice(samples[0].row, samples[-1].row + 1)
        integers = [
            (s.length - 1, len(s.request.prompt_ids) + s.request.max_tokens - 1, s.ids[-1], s.seed, s.request.top_k)
            for s in samples
        ]
        floats = [(sample.request.temperature, sample.request.top_p) for sample in samples]
        self._integers[:, rows] = torch.tensor(integers, dtype=torch.int64, device=self.device).T
        self._floats[:, rows] = torch.tensor(floats, dtype=torch.float32, device=self.device).T
        table = page_table([sample.pages for sample in samples], self.device)
        self.block_table[rows, : table.shape[1]] = table

    def move(self, moves: Sequence[tuple[int, int]]) -> None:
        """Copy rows (source, destination); no row is both."""
        if moves:
            sources, destinations = torch.tensor(moves, device=self.device).T
            for state in (self._integers, self._floats, self.block_table.T):
                state[..., destinations] = state[..., sources]

    def keep(self, size: int) -> None:
        """From now on the rows from `size` on are inert."""
        self.limits[size:] = 0

    def extend(self, grown: Sequence[tuple[Sample, int]]) -> None:
        """Enter the pages that samples got beyond the number given with each."""
        if grown:
            entries = [(s.row, column, s.pages[column]) for s, held in grown for column in range(held, len(s.pages))]
            rows, columns, pages = torch.tensor(entries, device=self.device).T
            self.block_table[rows, columns] = pages.int()
