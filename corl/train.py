"""torchrun corl/train.py CONFIG [key.sub=value ...]: run the stages of a configuration.

Exit code 0: done. 1: the run stopped itself; it says why. 2: the input is wrong; one line says what.
"""

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

# torchrun puts corl/ itself first on the path; the packages are found from the checkout's root, installed or not.
ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "kernels")]

# Read by OpenMP once, when torch is imported: spinning barriers slow two small ranks on two cores several times over.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from corl.config import load_config  # noqa: E402

LOCAL_RANK = int(os.environ.get("LOCAL_RANK", 0))
PEERS_WAIT_S = 20  # how long a rank holds back its own exit for local rank 0 to say what is wrong


def main(arguments: list[str]) -> None:
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__.strip())
        return
    try:
        if not arguments:
            raise ValueError("no CONFIG is given; call `torchrun corl/train.py CONFIG [key.sub=value ...]`")
        config = load_config(arguments[0], arguments[1:])
        from corl.parallel import check_devices, init_world
        from corl.pipeline import run
        from corl.prepare import prepare  # torch and its imports, only for a config that holds

        prepared = prepare(config)
        check_devices()
    except ValueError as error:
        refuse(error)

    import torch
    import torch.distributed as dist

    from corl.model.exact_rows import MAX_THREADS
    from corl.training.session import StoppedError

    if not torch.cuda.is_available():
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        threads = max(1, (os.cpu_count() or 1) // ranks)
        torch.set_num_threads(min(threads, MAX_THREADS) if config.model.exact else threads)
    if LOCAL_RANK == 0:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("corl").setLevel(logging.INFO)
    world = init_world(config.parallel.timeout_s)
    try:
        run(prepared, world)
    except StoppedError as error:
        if LOCAL_RANK == 0:
            print(f"stopped: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    finally:
        dist.destroy_process_group()


def refuse(error: ValueError) -> NoReturn:
    """Exit with 2 on every rank; local rank 0 alone says why.

    torchrun ends all workers as soon as one has exited, so the others wait for it to have spoken.
    """
    if LOCAL_RANK == 0:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(2))
        time.sleep(PEERS_WAIT_S)
    raise SystemExit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
