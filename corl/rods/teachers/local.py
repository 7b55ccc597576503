"""A checkpoint of ours as a teacher: concurrent calls become batches of the engine."""

import asyncio
from pathlib import Path
from typing import Any

from corl.rods.teachers.protocol import TeacherError
from corl.rods.teachers.store import Reply
from corl.rods.teachers.stored import Ask

_FIELDS = {"top_p": float, "top_k": int}


class LocalModel:
    """A Source over corl.Engine. Draws are keyed by the request, so no answer depends on what shared its batch.

    model         name@hash of the weights: an exchanged checkpoint of the same name is another model
    """

    def __init__(
        self, folder: str | Path, *, max_seqs: int | None = None, dtype: str | None = None, request: dict | None = None
    ) -> None:
        """Loads the model. Raises ValueError for a folder that is none, or of weights the engine does not compute."""
        import torch

        from corl.data.items import file_sha256
        from corl.data.tokenizer import Tokenizer
        from corl.model.checkpoint_io import load_model
        from corl.rollout.engine import Engine

        self._options = _checked(request or {})
        folder = Path(folder)
        self.tokenizer = Tokenizer.from_directory(folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_model(str(folder), device=device, dtype=getattr(torch, dtype) if dtype else None)
        if model.head_weight.dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(
                f"{folder}: its weights are {model.head_weight.dtype}, in which the engine does not compute; give "
                "--dtype bfloat16 or float32"
            )
        if self.tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(f"{folder}: the tokenizer has more tokens than the model; use the one that belongs to it")
        self.max_seqs = max_seqs or (256 if device == "cuda" else 32)
        self.engine = Engine(model, tokenizer=self.tokenizer, max_seqs=self.max_seqs)
        self.room = min(model.config.max_positions, self.engine.kv_tokens)
        hashes = [file_sha256(file)[:8] for file in sorted(folder.glob("*.safetensors"))]
        self.model = f"{folder.resolve().name}@{'+'.join(hashes)}"
        self.params: dict[str, Any] = {"dtype": str(model.head_weight.dtype)} | self._options
        self._waiting: list[tuple[Ask, list[int], asyncio.Future[Reply]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def answer(self, ask: Ask) -> Reply:
        ids = self.tokenizer.encode_prompt(list(ask.messages))
        if len(ids) >= self.room:
            raise TeacherError(f"prompt of {len(ids)} tokens, the model has room for {self.room}")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, ids, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0.01)  # those who have just been answered ask again and share the next batch
            batch, self._waiting = self._waiting[: 4 * self.max_seqs], self._waiting[4 * self.max_seqs :]
            try:
                replies = await asyncio.to_thread(self._generate, [(ask, ids) for ask, ids, _ in batch])
            except BaseException as error:
                for *_, future in batch:
                    if not future.done():
                        future.set_exception(error)
                raise
            for (*_, future), reply in zip(batch, replies, strict=True):
                if not future.done():
                    future.set_result(reply)

    def _generate(self, batch: list[tuple[Ask, list[int]]]) -> list[Reply]:
        from corl.rollout.request import Request

        requests = [
            Request(
                prompt_ids=ids,
                max_tokens=min(ask.max_tokens, self.room - len(ids)),
                temperature=ask.temperature,
                stop_ids=self.tokenizer.stop_ids,
                id=ask.key,
                **self._options,
            )
            for ask, ids in batch
        ]
        done = self.engine.generate(requests)
        return [
            Reply(self.tokenizer.prefill + self.tokenizer.decode(made.ids), len(ids), len(made.ids))
            for (_, ids), made in zip(batch, done, strict=True)
        ]

    async def close(self) -> None:
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)


def _checked(request: dict) -> dict[str, Any]:
    for name, value in request.items():
        if name not in _FIELDS or not isinstance(value, _FIELDS[name] | int):
            raise ValueError(f"--request {name}={value!r}: a local model takes {' and '.join(_FIELDS)}, numbers")
    return dict(request)
