"""corl/train.py, except that every rank kills itself in the middle of step N:  kill_driver.py WHERE N CONFIG [..]

rollout     some tokens of the step are sampled, no sample is graded yet
update      the backward of the first micro-batch is done, the optimiser has not moved
checkpoint  every rank has written its tensors; neither index nor state is there, nothing is renamed
"""

import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import FileSystemWriter

from corl import pipeline
from corl.training.session import Session

TRAIN = Path(__file__).resolve().parents[3] / "corl" / "train.py"
DECODED = 4  # forward passes of the engine before the kill


def arm(session: Session, where: str, step: int) -> None:
    def die() -> None:
        session.world.barrier()  # every rank has come this far: none is ended by its launcher instead
        os.kill(os.getpid(), signal.SIGKILL)

    def in_step() -> bool:
        return session.state.step == (step if where == "checkpoint" else step - 1)

    if where == "rollout":
        decoder = session.solver.engine._weights.decoder  # the trainer's, or the engine's own
        decoder.run = dying_before(decoder.run, in_step, DECODED, die)
    elif where == "update":
        learning = lambda: in_step() and torch.is_grad_enabled()  # noqa: E731
        session.decoder.forward = dying_before(session.decoder.forward, learning, 1, die)
    else:
        write = FileSystemWriter.write_data

        def write_and_die(self: FileSystemWriter, *args: Any) -> Any:
            written = write(self, *args)
            if in_step():
                written.wait()
                die()
            return written

        FileSystemWriter.write_data = write_and_die


def dying_before(
    work: Callable[..., Any], counts: Callable[[], bool], calls: int, die: Callable[[], None]
) -> Callable[..., Any]:
    """`work`, but the call after the `calls`th that counts does not happen."""
    seen = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        if counts():
            if seen == calls:
                die()
            seen += 1
        return work(*args, **kwargs)

    return counted


if __name__ == "__main__":
    place, number = sys.argv[1], int(sys.argv[2])
    open_session = pipeline.open_session

    def open_armed_session(*args: Any) -> Session:
        session = open_session(*args)
        arm(session, place, number)
        return session

    pipeline.open_session = open_armed_session
    sys.argv = [str(TRAIN), *sys.argv[3:]]
    runpy.run_path(str(TRAIN), run_name="__main__")
