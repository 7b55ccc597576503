"""`corl data`: published question sets as items, and what is wrong with items."""

import argparse

from corl.cli.parsing import command_of, group


def add(top: argparse._SubParsersAction) -> None:
    """Add `corl data` and its commands to the command line."""
    data = group(top, "data", "question sets")
    command = command_of(data, "import", _data_import, "a published question set as a file of items")
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

    command = command_of(data, "check", _data_check, "wrong, repeated and contaminated rows of a file of items")
    command.add_argument("file", metavar="FILE", help="items; wrong lines are findings, not errors")
    command.add_argument(
        "--against", nargs="+", action="extend", default=[], metavar="ITEMS|HASHES", help="test sets, or fingerprints"
    )
    command.add_argument("--write-filter", metavar="KEPT", help="write the rows without a finding")
    command.add_argument("--fingerprint", metavar="OUT", help="write the questions as hashes, for --against")
    command.add_argument("--report", metavar="JSON", help="write the findings as one JSON object")


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
