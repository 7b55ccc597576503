"""`corl grade`, `eval`, `eval compare` and `export`: what a model wrote, how well, and its weights."""

import argparse
import sys
from pathlib import Path

from corl.cli.parsing import command_of


def add(top: argparse._SubParsersAction) -> None:
    """Add grade, eval, eval compare and export to the command line."""
    command = command_of(top, "grade", _grade, "add format_ok, extracted and correct to lines of completions")
    command.add_argument("file", metavar="FILE", help='JSON lines with "completion", "options", "gold"[, "prefill"]')
    either = command.add_mutually_exclusive_group()
    either.add_argument("--out", metavar="F", help="default: standard output")
    either.add_argument(
        "--labelled", action="store_true", help="the lines hold these three as labels: say how often grading errs"
    )

    command = command_of(top, "eval", _eval, "a model's accuracy on question sets, beside the paper's nine columns")
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

    command = command_of(top, "eval compare", _eval_compare, "two evaluations of the same items, paired")
    command.add_argument("first", metavar="DIR1")
    command.add_argument("second", metavar="DIR2")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the bootstrap's draws; default: 0")
    command.add_argument("--report", metavar="JSON", help="write the comparison as one JSON object")

    command = command_of(top, "export", _export, "a run's weights as a Hugging Face directory")
    command.add_argument("run_dir", metavar="RUN_DIR")
    command.add_argument("--out", required=True, metavar="DIR")
    command.add_argument("--checkpoint", default="latest", metavar="C", help="latest (default), best, or its name")
    command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: the run's model.dtype")


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
