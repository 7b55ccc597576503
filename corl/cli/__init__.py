"""The `corl` command. Exit code 0: done. 1: a check said no. 2: the input is wrong, and one line says what to do."""

import argparse
import os
import signal
import sys
from typing import NoReturn

from corl.cli import data, models, rods
from corl.cli.parsing import Parser


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:2] == ["eval", "compare"]:  # a form of its own beside `corl eval MODEL_DIR`
        arguments = ["eval compare", *arguments[2:]]
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except ValueError as error:
        _refuse(str(error))
    except OSError as error:
        if error.filename is None:  # not about a place that the caller named
            raise
        _refuse(f"{error.filename} cannot be used ({error.strerror}); check the path")


def _refuse(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="corl", description=__doc__)
    top = parser.add_subparsers(metavar="COMMAND", required=True)
    for part in (data, rods, models):
        part.add(top)
    return parser
