"""What the parts of the command line are built with."""

import argparse
from collections.abc import Callable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Raises ValueError where argparse would print its usage and leave."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see `{self.prog} --help`")


def group(top: argparse._SubParsersAction, name: str, summary: str) -> argparse._SubParsersAction:
    return top.add_parser(name, help=summary).add_subparsers(metavar="COMMAND", required=True)


def command_of(
    group: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace], None], summary: str
) -> argparse.ArgumentParser:
    command = group.add_parser(name, help=summary, description=summary)
    command.set_defaults(run=run)
    return command
