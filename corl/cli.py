"""The `corl` command. Exit code 0: done. 1: a check said no. 2: the input is wrong, and one line says what to do."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:2] == ["eval", "compare"]:  # a form of its own beside `corl eval MODEL_DIR`
        arguments = ["eval compare", *arguments[2:]]
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
    command.add_argument(
        "name",
        metavar="NAME",
        help="medqa, medmcqa, pubmedqa, medxpertqa, mmlu_pro, careqa, medbullets, jmed, cmexam, medkgqa or items",
    )
    command.add_argument("src", metavar="SRC", help="a file, a folder, a folder saved by `datasets`, or a hub id")
    command.add_argument("--out", required=True, metavar="FILE")
    command.add_argument(
        "--split", metavar="S", help="one of the source's splits; pubmedqa: train (default), test or all"
    )
    command.add_argument("--category", metavar="C", help="mmlu_pro: only its rows")
    command.add_argument("--cop-base", type=int, choices=(0, 1), help="medmcqa: what `cop` counts from")
    command.add_argument("--strict", action="store_true", help="any dropped row is an error")

    command = _command(data, "check", _data_check, "wrong, repeated and contaminated rows of a file of items")
    command.add_argument("file", metavar="FILE", help="items; wrong lines are findings, not errors")
    command.add_argument(
        "--against", nargs="+", action="extend", default=[], metavar="ITEMS|HASHES", help="test sets, or fingerprints"
    )
    command.add_argument("--write-filter", metavar="KEPT", help="write the rows without a finding")
    command.add_argument("--fingerprint", metavar="OUT", help="write the questions as hashes, for --against")
    command.add_argument("--report", metavar="JSON", help="write the findings as one JSON object")

    rods = _group(top, "rods", "the reasoning-oriented data strategy")
    command = _command(rods, "distill", _rods_distill, "items to cold-start traces, written without a language model")
    command.add_argument("items", metavar="ITEMS", help="items; those without a path get a template from their label")
    command.add_argument("--out", required=True, metavar="FILE")

    command = _command(top, "grade", _grade, "add format_ok, extracted and correct to lines of completions")
    command.add_argument("file", metavar="FILE", help='JSON lines with "completion", "options", "gold"[, "prefill"]')
    either = command.add_mutually_exclusive_group()
    either.add_argument("--out", metavar="F", help="default: standard output")
    either.add_argument(
        "--labelled", action="store_true", help="the lines hold these three as labels: say how often grading errs"
    )

    command = _command(top, "eval", _eval, "a model's accuracy on question sets, beside the paper's nine columns")
    command.add_argument(
        "model", nargs="?", metavar="MODEL_DIR", help="a Hugging Face directory; with --completions any name, or none"
    )
    # MODEL_DIR stands first: behind --items it would be one more file
    command.usage = (
        "corl eval MODEL_DIR (--items FILE [FILE ...] | --suite fleming) [--samples K] [--limit N] [--out DIR]\n"
        "                 [--completions FILE] [..]\n       corl eval compare DIR1 DIR2"
    )
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--items", nargs="+", action="extend", metavar="FILE", help="items")
    what.add_argument("--suite", choices=("fleming",), help="the nine columns, from the *.jsonl in --items-dir")
    command.add_argument("--items-dir", metavar="DIR", help="of --suite; default: data/fleming")
    command.add_argument("--samples", type=int, metavar="K", help="completions an item; default: 1")
    command.add_argument("--limit", type=int, metavar="N", help="each set's first N items")
    command.add_argument("--out", metavar="DIR", help="continued where it was begun; default: runs/eval/NAME")
    command.add_argument("--completions", metavar="FILE", help='grade JSON lines {"id", "completion"} instead')
    command.add_argument("--temperature", type=float, metavar="T", help="default: 0 for 1 sample, else 0.6")
    command.add_argument("--top-p", type=float, metavar="P", help="default: 1 at temperature 0, else 0.95")
    command.add_argument("--max-tokens", type=int, metavar="N", help="of a completion; default: 8192")
    command.add_argument("--seed", type=int, metavar="S", help="of the draws and of --shuffle; default: 0")
    command.add_argument("--system", metavar="TEXT", help="a system turn; default: none")
    command.add_argument("--open-think", action="store_true", help="put <think> behind prompts that do not open it")
    command.add_argument("--shuffle", action="store_true", help="the options in another order (a control)")
    command.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: the checkpoint's")
    command.add_argument(
        "--max-seqs", type=int, metavar="N", help="decoded together; default: 256 on a GPU, 32 on a CPU"
    )

    command = _command(top, "eval compare", _eval_compare, "two evaluations of the same items, paired")
    command.add_argument("first", metavar="DIR1")
    command.add_argument("second", metavar="DIR2")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the bootstrap's draws; default: 0")
    command.add_argument("--report", metavar="JSON", help="write the comparison as one JSON object")

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
    told = report.dropped if len(report.dropped) <= 50 else report.dropped[:20]
    for drop in told:
        print(f"dropped row {drop.row} ({drop.id}): {drop.reason}")
    if len(told) < len(report.dropped):
        print(f"dropped {len(report.dropped) - len(told)} more rows, listed in {options.out}.report.json")
    if report.repaired:
        print(f"repaired {len(report.repaired)} times, listed in {options.out}.report.json")
    if len(report.files) > 1:
        print("read " + ", ".join(f"{name} ({rows} rows)" for name, rows in report.files.items()))
    for name, why in report.ignored.items():
        print(f"ignored {name}: {why}")
    print(
        f"{options.out}: {report.written} items; read {report.read}, dropped {len(report.dropped)}, "
        f"not selected {report.not_selected}"
    )


def _data_check(options: argparse.Namespace) -> None:
    from corl.data.checking import check_items, check_places, describe, write_fingerprint, write_kept, write_report

    check_places([options.file, *options.against], [options.write_filter, options.fingerprint, options.report])
    report = check_items(options.file, options.against, with_sections=options.fingerprint is not None)
    for line in describe(report):
        print(line)
    if options.report is not None:
        write_report(report, options.report)
    if options.fingerprint is not None:
        write_fingerprint(report, options.fingerprint)
        for section in report.sections:
            print(f"{options.fingerprint}: {section.title}")
    if options.write_filter is not None:
        kept = write_kept(report, options.write_filter)
        print(f"{options.write_filter}: {kept} of {report.rows} rows kept")
    if report.findings:
        raise SystemExit(1)


def _rods_distill(options: argparse.Namespace) -> None:
    from corl.data.items import read_items, write_traces
    from corl.rods.traces import templated_trace, trace

    traces = [trace(item) if item.meta.get("path") else templated_trace(item) for item in read_items(options.items)]
    write_traces(options.out, traces)
    conditioned = sum(t.label_conditioned for t in traces)
    print(f"{options.out}: {len(traces)} traces, {conditioned} of them written from the label by a template")


def _grade(options: argparse.Namespace) -> None:
    from corl.data.items import write_whole
    from corl.grading import check_labels, grade_file, tally

    if options.labelled:
        agreement = check_labels(options.file)
        for note in agreement.notes:
            print(note)
        print(agreement)
        if agreement.notes:
            raise SystemExit(1)
        return
    lines = grade_file(options.file)
    if options.out is None:
        sys.stdout.writelines(line + "\n" for line in lines)
    else:
        write_whole(options.out, (f"{line}\n".encode() for line in lines))
        print(f"{options.out}: {tally(lines)}")


def _eval(options: argparse.Namespace) -> None:
    from corl.evaluation.benchmark import Plan, run_plan

    if options.items and options.items_dir is not None:
        raise ValueError("--items-dir is of --suite; leave it out beside --items")
    given = {key: value for key, value in vars(options).items() if key not in ("run", "suite") and value is not None}
    print(run_plan(Plan(**{"model": None} | given)), end="")


def _eval_compare(options: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from corl.data.items import write_whole
    from corl.evaluation.compare import compare_runs, describe_comparison

    comparison = compare_runs(Path(options.first), Path(options.second), seed=options.seed)
    if options.report is not None:
        write_whole(options.report, [json.dumps(asdict(comparison), indent=1).encode() + b"\n"])
    print(describe_comparison(comparison), end="")


def _export(options: argparse.Namespace) -> None:
    from corl.export import export_run

    checkpoint = export_run(Path(options.run_dir), Path(options.out), options.checkpoint, options.dtype)
    print(f"{options.out}: {checkpoint}")


if __name__ == "__main__":
    main()
