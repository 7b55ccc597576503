"""What a step is given: where it runs, at which size, and how it reports."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bench.session.record import Recorder

if TYPE_CHECKING:
    import torch

    from bench.roofline import Peaks

OURS = ("bench", "corl", "corl_kernels")
DEVICE_BROKEN = 70  # exit code of a step whose GPU answers nothing any more: what is left of it gets a new process
PACKAGE_MISSING = 77


def missing_package(error: ModuleNotFoundError) -> str | None:
    """The package of somebody else's that is not installed; None where a module of our own is missing."""
    top = (error.name or "").split(".")[0]
    return top if top and top not in OURS else None


@dataclass(frozen=True)
class Context:
    """`toy`: small shapes in fp32 on a CPU. `skip`: parts that an earlier process of this step has begun."""

    name: str
    out: Path
    toy: bool
    skip: tuple[str, ...] = ()

    @cached_property
    def record(self) -> Recorder:
        return Recorder(self.out / "session.jsonl", self.name, self.toy)

    @property
    def device(self) -> "torch.device":
        import torch

        return torch.device("cpu" if self.toy else "cuda")

    @property
    def dtype(self) -> "torch.dtype":
        import torch

        return torch.float32 if self.toy else torch.bfloat16

    def peaks(self) -> "Peaks":
        """The ceilings as the session's first step measured them, measured now where it did not."""
        from bench.roofline import Peaks, peaks_of

        file = self.out / "peaks.json"
        if not file.exists():
            file.write_text(json.dumps(asdict(peaks_of(self.device))))
        return Peaks(**json.loads(file.read_text()))

    def parts(self, names: Iterable[str]) -> Iterator[str]:
        """The parts of the step that are still to be done, each noted as begun: should the process die in one of them,
        another takes up those after it."""
        for name in names:
            if name not in self.skip:
                self.record.write("part", part=name)
                yield name

    @contextmanager
    def trying(self, claim: str) -> Iterator[None]:
        """Make an error a failed claim and carry on; the process ends where the GPU no longer answers."""
        try:
            yield
        except ModuleNotFoundError as error:
            package = missing_package(error)
            if package is None:
                raise
            self.record.not_run(claim, f"{package} is not installed")
        except Exception as error:  # whatever it is, the rest of the step is worth having
            self.record.failed(claim, f"{type(error).__name__}: {error}"[:1000])
            import traceback

            traceback.print_exc()
            self.check_device()
        finally:
            self.free()

    def check_device(self) -> None:
        """End the process where an error has left the GPU's context unusable: every later call would fail."""
        if self.toy:
            return
        import torch

        try:
            torch.cuda.synchronize()
            torch.zeros(1, device="cuda").add_(1).item()
        except RuntimeError as error:
            print(f"the device no longer answers: {error}", flush=True)
            os._exit(DEVICE_BROKEN)

    def free(self) -> None:
        """Give back what the last part has left in the allocator's cache."""
        if not self.toy:
            import gc

            import torch

            gc.collect()
            torch.cuda.empty_cache()
