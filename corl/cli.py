"""The `corl` command. Exit code 0: done. 1: a check said no. 2: the input is wrong, and one line says what to do."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def main(arguments: list[str] | None = None) -> None:
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
    except ValueError as error:
        _refuse(str(error))
    except OSError as error:
        if error.filename is None:  # not about a place that the caller named
            raise
        _refuse(f"{error.filename} cannot be used ({error.strerror}); check the path")


def _refuse(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="corl", description=__doc__)
    top = parser.add_subparsers(metavar="COMMAND", required=True)

    data = _group(top, "data", "question sets")
    command = _command(data, "import", _data_import, "a published question set as a file of items")
    command.add_argument("name", metavar="NAME", help="pubmedqa or medqa")
    command.add_argument("src", metavar="SRC", help="its file or folder")
    command.add_argument("--out", required=True, metavar="FILE")
    command.add_argument("--split", metavar="S", help="which rows to take; pubmedqa: train (default), test or all")
    command.add_argument("--category", metavar="C")
    command.add_argument("--cop-base", type=int, choices=(0, 1))
    command.add_argument("--strict", action="store_true", help="any dropped row is an error")

    rods = _group(top, "rods", "the reasoning-oriented data strategy")
    command = _command(rods, "distill", _rods_distill, "items to cold-start traces, written without a language model")
    command.add_argument("items", metavar="ITEMS", help="items; those without a path get a template from their label")
    command.add_argument("--out", required=True, metavar="FILE")

    command = _command(top, "grade", _grade, "add format_ok, extracted and correct to lines of completions")
    command.add_argument("file", metavar="FILE", help='JSON lines with "completion", "options", "gold"[, "prefill"]')
    command.add_argument("--out", metavar="F", help="default: standard output")

    command = _command(top, "export", _export, "a run's weights as a Hugging Face directory")
    command.add_argument("run_dir", metavar="RUN_DIR")
    command.add_argument("--out", required=True, metavar="DIR")
    command.add_argument("--checkpoint", default="latest", metavar="C", help="latest (default), best, or its name")
    command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: the run's model.dtype")
    return parser


def _group(top: argparse._SubParsersAction, name: str, summary: str) -> argparse._SubParsersAction:
    return top.add_parser(name, help=summary).add_subparsers(metavar="COMMAND", required=True)


def _command(
    group: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace], None], summary: str
) -> argparse.ArgumentParser:
    command = group.add_parser(name, help=summary, description=summary)
    command.set_defaults(run=run)
    return command


def _data_import(options: argparse.Namespace) -> None:
    from corl.data.importing import import_dataset

    report = import_dataset(
        options.name,
        options.src,
        options.out,
        split=options.split,
        category=options.category,
        cop_base=options.cop_base,
        strict=options.strict,
    )
    for drop in report.dropped:
        print(f"dropped row {drop.row} ({drop.id}): {drop.reason}")
    print(
        f"{options.out}: {report.written} items; read {report.read}, dropped {len(report.dropped)}, "
        f"not selected {report.not_selected}"
    )


def _rods_distill(options: argparse.Namespace) -> None:
    from corl.data.items import read_items, write_traces
    from corl.rods.traces import templated_trace, trace

    traces = [trace(item) if item.meta.get("path") else templated_trace(item) for item in read_items(options.items)]
    write_traces(options.out, traces)
    conditioned = sum(t.label_conditioned for t in traces)
    print(f"{options.out}: {len(traces)} traces, {conditioned} of them written from the label by a template")


def _grade(options: argparse.Namespace) -> None:
    from corl.data.items import write_whole
    from corl.grading import grade_file

    lines = [line + "\n" for line in grade_file(options.file)]
    if options.out is None:
        sys.stdout.writelines(lines)
    else:
        write_whole(options.out, (line.encode() for line in lines))


def _export(options: argparse.Namespace) -> None:
    from corl.export import export_run

    checkpoint = export_run(Path(options.run_dir), Path(options.out), options.checkpoint, options.dtype)
    print(f"{options.out}: {checkpoint}")


if __name__ == "__main__":
    main()
