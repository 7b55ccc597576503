"""The process of one step of a session, which starts it.

    python -m bench.session.run_step MODULE:FUNCTION --name NAME --out DIR [--toy] [--skip PART ..]

Exit code 0: done, whatever was found. 1: an exception. 70: the GPU no longer answers. 77: a package is missing.
"""

import argparse
import importlib
import sys
from pathlib import Path

from bench.session.context import PACKAGE_MISSING, Context, missing_package
from bench.session.processes import adopt_orphans, end_with_parent


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.session.run_step")
    parser.add_argument("function")
    parser.add_argument("--name", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--skip", nargs="*", default=[])
    options = parser.parse_args(arguments)
    adopt_orphans()  # so that a step can end what it has started
    end_with_parent()
    module, function = options.function.split(":")
    try:
        run = getattr(importlib.import_module(module), function)
        run(Context(options.name, options.out, options.toy, tuple(options.skip)))
    except ModuleNotFoundError as error:
        package = missing_package(error)
        if package is None:
            raise
        print(f"{package} is not installed", flush=True)
        sys.exit(PACKAGE_MISSING)


if __name__ == "__main__":
    main()
