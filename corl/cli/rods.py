"""`corl rods`: from pages to a graph, from a graph to questions, from questions to traces."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from corl.cli.parsing import command_of, group

if TYPE_CHECKING:
    from corl.rods.teachers.opening import TeacherPlan

_GRAPH = "embedded, a folder with nodes.tsv and edges.tsv, or synthetic:NODES[:SEED]"


def add(top: argparse._SubParsersAction) -> None:
    """Add `corl rods` and its commands to the command line."""
    rods = group(top, "rods", "the reasoning-oriented data strategy")
    command = command_of(rods, "crawl", _rods_crawl, "pages worth extracting, best first, from a dump or a wiki's API")
    either = command.add_mutually_exclusive_group(required=True)
    either.add_argument("--dump", metavar="FILE", help="a MediaWiki XML dump (.xml, .bz2)")
    either.add_argument("--api", metavar="URL", help="a wiki's api.php, as https://en.wikipedia.org/w/api.php")
    command.add_argument("--out", required=True, metavar="DIR", help="pages.xml, visits.jsonl, manifest.json; resumes")
    command.add_argument("--contact", metavar="WHO", help="of --api: your mail address or web page, for the wiki")
    command.add_argument("--pause", type=float, metavar="S", help="of --api: between two requests; default: 1")
    command.add_argument("--seed", nargs="+", action="extend", default=[], metavar="TITLE", help="articles to begin at")
    command.add_argument("--seeds", metavar="FILE", help="more of them, one a line")
    command.add_argument(
        "--box", nargs="+", action="extend", default=[], metavar="NAME",
        help="begin at the articles with these boxes; default, without seeds: the medical ones",
    )  # fmt: skip
    command.add_argument("--entities", type=int, default=1000, metavar="N", help="pages with a box; default: 1000")
    command.add_argument("--floor", type=float, default=0.2, metavar="X", help="score to stop at; default: 0.2")
    command.add_argument("--batch", type=int, default=50, metavar="B", help="titles a request; default: 50")

    command = command_of(rods, "extract", _rods_extract, "MediaWiki pages to a typed graph with provenance")
    command.add_argument("src", metavar="SRC", help="an XML dump (.xml, .bz2) or a folder of .wiki and .xml files")
    command.add_argument("--out", required=True, metavar="DIR", help="written when whole; a killed run starts anew")
    command.add_argument("--workers", type=int, default=1, metavar="W", help="processes that read boxes; default: 1")

    command = command_of(rods, "graph", _rods_graph, "a graph's nodes by type and edges by relation")
    command.add_argument("graph", metavar="DIR", help=_GRAPH)

    command = command_of(rods, "show", _rods_show, "items or traces as a person reads them")
    command.add_argument("file", metavar="FILE", help="items or traces")
    command.add_argument("--n", type=int, default=10, metavar="N", help="the first N; default: 10")

    command = command_of(rods, "sample", _rods_sample, "questions from a graph, each with the proof of its answer")
    command.add_argument("--graph", required=True, metavar="G", help=_GRAPH)
    command.add_argument("--n", required=True, type=int, metavar="N", help="items; exactly so many or none")
    command.add_argument("--out", required=True, metavar="FILE", help="items; FILE.manifest.json says what they are")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of all draws; default: 0")
    command.add_argument(
        "--workers", type=int, default=1, metavar="W", help="processes; the file is the same for any number; default: 1"
    )
    command.add_argument("--lang", choices=("en", "zh", "both"), default="en", help="default: en")
    command.add_argument("--config", metavar="FILE", help="YAML: shares of the shapes, bounds, difficulty")
    command.add_argument(
        "--public",
        nargs="+",
        action="extend",
        default=[],
        metavar="ITEMS",
        help="public train questions: what they name often counts as less rare",
    )

    command = command_of(rods, "audit", _rods_audit, "are the questions sound? recomputed from the graph alone")
    command.add_argument("file", metavar="FILE", help="items of `corl rods sample`")
    command.add_argument("--graph", metavar="G", help="default: embedded, where the items name it")
    command.add_argument("--report", metavar="JSON", help="write every finding and bound as one JSON object")

    command = command_of(rods, "filter", _rods_filter, "items fit to train on: kept, rejected and review, with reasons")
    command.add_argument("items", nargs="+", metavar="ITEMS", help="items; a wrong line is rejected, not an error")
    command.add_argument("--out", required=True, metavar="DIR", help="kept, rejected, review, rewritten, manifest")
    command.add_argument(
        "--against",
        nargs="+",
        action="extend",
        default=[],
        metavar="TESTSETS|HASHES",
        help="what must not be among them",
    )
    command.add_argument("--graph", metavar="G", help="proves made items; default: embedded, where they name it")
    command.add_argument("--lang", nargs="+", action="extend", default=[], metavar="L", help="keep only these")

    command = command_of(rods, "label", _rods_label, "the label check: a teacher answers every item several times")
    command.add_argument("items", nargs="+", metavar="ITEMS")
    command.add_argument("--out", required=True, metavar="DIR", help="kept, review, unanswered, answers, manifest")
    command.add_argument("--trials", type=int, default=5, metavar="N", help="of each item; default: 5")
    command.add_argument("--least-right", type=int, default=1, metavar="N", help="fewer go to review; default: 1")
    command.add_argument("--temperature", type=float, metavar="T", help="default: 1")
    command.add_argument("--max-tokens", type=int, metavar="N", help="of an answer; default: 4096")
    _teacher_options(command, required=True)

    command = command_of(
        rods, "review", _rods_review, "decide on the items of a review file; without a decision: list them"
    )
    command.add_argument("file", metavar="FILE", help="review.jsonl of filter or label; it is never changed")
    command.add_argument("decision", nargs="?", choices=("accept", "fix", "drop", "replay"))
    command.add_argument("--id", dest="ids", nargs="+", action="extend", default=[], metavar="ID", help="which items")
    command.add_argument("--answer", metavar="X", help="of fix: the right letter")
    command.add_argument("--log", metavar="DECISIONS", help="of replay: another review's log, on the same items")

    command = command_of(
        rods, "tier", _rods_tier, "easy, moderate or difficult, by formula, language model or pass rate"
    )
    command.add_argument("items", metavar="ITEMS")
    command.add_argument("--out", metavar="F", help="the items with their tiers")
    command.add_argument("--method", choices=("formula", "llm", "pass_rate"))
    command.add_argument(
        "--pass-rates", metavar="PLACE", help="of pass_rate: a run, a pool.npz, rollouts, or the folder of `corl eval`"
    )
    command.add_argument("--config", metavar="FILE", help="of formula: the cut points of `corl rods sample --config`")
    command.add_argument("--votes", type=int, default=3, metavar="N", help="of llm; default: 3")
    command.add_argument("--compare", action="store_true", help="how the methods that judged these items agree")
    _teacher_options(command, required=False)

    command = command_of(rods, "mix", _rods_mix, "N items of several files at quotas that hold in every prefix")
    command.add_argument("items", nargs="+", metavar="FILES")
    command.add_argument("--out", required=True, metavar="FILE", help="FILE.manifest.json says what it is made of")
    command.add_argument("--n", required=True, type=int, metavar="N", help="items; exactly so many or none")
    for attribute, names in (
        ("weights", "sources, or synthetic and public"),
        ("tier", "easy, moderate, difficult, none"),
        ("lang", "languages"),
        ("result", "right and wrong, by pass rate"),
    ):
        command.add_argument(
            f"--{attribute}", nargs="+", action="extend", default=[], metavar="NAME=W", help=f"weights of {names}"
        )
    command.add_argument("--preset", metavar="P", help="stage1, stage2 (the paper's ratios) or sources (1:1)")
    command.add_argument("--pass-rates", metavar="PLACE", help="as of `corl rods tier`; default: the items' own")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="which items of a class; default: 0")

    command = command_of(rods, "export", _rods_export, "items in another layout")
    command.add_argument("items", nargs="+", metavar="ITEMS")
    command.add_argument("--medkgqa", action="store_true", required=True, help="graph_idx, question, choices, answer")
    command.add_argument("--out", required=True, metavar="FILE", help="JSON lines; FILE.report.json: what was left out")

    command = command_of(
        rods, "distill", _rods_distill, "items to cold-start traces, without a language model or by a teacher"
    )
    command.add_argument(
        "items",
        metavar="ITEMS",
        help="items; without a teacher, those that have no proof or path get a template from their label",
    )
    command.add_argument("--out", required=True, metavar="FILE", help="with a teacher also FILE.report.json")
    _teacher_options(command, required=False)
    command.add_argument("--k", type=int, metavar="K", help="samples an item, without its label; default: 8")
    command.add_argument("--depth", type=int, metavar="N", help="strategies on an attempt that failed; default: 3")
    command.add_argument("--tries", type=int, metavar="N", help="attempts that are taken up; default: 2")
    command.add_argument(
        "--told-share", type=float, metavar="X", help="most of the file written with the label told; default: 0.2"
    )
    command.add_argument("--words", metavar="A:B", help="fewest and most words of a thought; default: 20:500")
    command.add_argument("--temperature", type=float, metavar="T", help="default: 0.8")
    command.add_argument("--max-tokens", type=int, metavar="N", help="of a completion; default: 2048")
    command.add_argument("--graph", metavar="G", help="names of masked nodes; default: embedded, where items name it")

    command = command_of(
        rods, "rephrase", _rods_rephrase, "questions in a teacher's words, where their proof still holds"
    )
    command.add_argument("items", metavar="ITEMS", help="items of `corl rods sample`; others stay as they are")
    command.add_argument(
        "--out", required=True, metavar="FILE", help="all items; FILE.report.json says what became of each"
    )
    command.add_argument("--graph", metavar="G", help="default: embedded, where the items name it")
    _teacher_options(command, required=True)
    command.add_argument("--temperature", type=float, default=0.7, metavar="T", help="default: 0.7")

    command = command_of(
        rods, "triples", _rods_triples, "edges that prose states, found by a teacher, each with its evidence"
    )
    command.add_argument("prose", metavar="PROSE", help='JSON lines {"title", "revision", "text"}')
    command.add_argument("--graph", required=True, metavar="DIR", help=_GRAPH)
    command.add_argument("--out", required=True, metavar="DIR", help="the graph with the new edges; report.json")
    _teacher_options(command, required=True)


def _teacher_options(command: argparse.ArgumentParser, *, required: bool) -> None:
    """Who answers, and at what cost; `_teacher_plan` reads them."""
    command.add_argument(
        "--teacher",
        required=required,
        metavar="URL|MODEL_DIR",
        help="an OpenAI-compatible endpoint (http://HOST/v1), or a checkpoint for our own engine",
    )
    command.add_argument("--model", metavar="NAME", help="the endpoint's name for its model")
    command.add_argument("--store", metavar="FILE", help="answered requests, asked once; default: OUT.requests.sqlite")
    command.add_argument("--token-budget", type=int, metavar="N", help="of all requests in the store; default: no end")
    command.add_argument(
        "--concurrency", type=int, metavar="N", help="default: 16 requests; 32 samples of a checkpoint"
    )
    command.add_argument("--timeout", dest="timeout_s", type=float, metavar="S", help="of a request; default: 300")
    command.add_argument("--retries", type=int, metavar="N", help="after 429, 5xx, time-outs and the like; default: 6")
    command.add_argument("--retry-wait", dest="retry_wait_s", type=float, metavar="S", help="first one; default: 1")
    command.add_argument("--teacher-seed", dest="seed", type=int, metavar="S", help="of the draws; default: 0")
    command.add_argument("--request", metavar="JSON", help='more fields of a request: {"reasoning_effort": "low"}')
    command.add_argument("--api-key-env", metavar="NAME", help="variable with the key; default: OPENAI_API_KEY")
    command.add_argument("--dtype", choices=("float32", "bfloat16"), help="of a checkpoint; default: its own")


def _teacher_plan(options: argparse.Namespace) -> "TeacherPlan":
    from corl.rods.teachers.opening import TeacherPlan

    given = {name: getattr(options, name) for name in TeacherPlan.__dataclass_fields__}
    given["store"] = options.store or f"{str(options.out).rstrip('/')}.requests.sqlite"
    return TeacherPlan(**{name: value for name, value in given.items() if value is not None})


def _rods_graph(options: argparse.Namespace) -> None:
    from corl.rods.graph import load_graph
    from corl.rods.graph.counts import describe_graph

    for line in describe_graph(load_graph(options.graph)):
        print(line)


def _rods_show(options: argparse.Namespace) -> None:
    from corl.rods.show import shown

    if options.n < 1:
        raise ValueError(f"--n {options.n}: give 1 or more")
    for line in shown(options.file, count=options.n):
        print(line)


def _rods_sample(options: argparse.Namespace) -> None:
    from corl.rods.sampling.manifest import describe_manifest
    from corl.rods.sampling.sample import sample_items
    from corl.rods.sampling.settings import load_settings

    content = sample_items(
        options.graph,
        options.out,
        items=options.n,
        seed=options.seed,
        lang=options.lang,
        workers=options.workers,
        settings=load_settings(options.config),
        public=options.public,
    )
    for line in describe_manifest(content):
        print(line)
    print(f"{options.out}: {options.n} items")


def _rods_audit(options: argparse.Namespace) -> None:
    from corl.data.checking import check_places
    from corl.rods.audit import audit_file, describe, write_report

    check_places([options.file], [options.report])
    report = audit_file(options.file, options.graph)
    for line in describe(report):
        print(line)
    if options.report is not None:
        write_report(report, options.report)
    if not report.ok:
        raise SystemExit(1)


def _rods_crawl(options: argparse.Namespace) -> None:
    from corl.rods.agent.command import crawl_from, read_titles
    from corl.rods.agent.crawl import CrawlPlan, describe

    titles = (*options.seed, *(read_titles(options.seeds) if options.seeds else ()))
    plan = CrawlPlan(options.entities, options.floor, titles, tuple(options.box), options.batch)
    told = {"dump": options.dump, "api": options.api, "contact": options.contact, "pause_s": options.pause}
    for line in describe(crawl_from(options.out, plan, **told), options.out):
        print(line)


def _rods_extract(options: argparse.Namespace) -> None:
    from corl.rods.extraction.extract import describe, extract

    for line in describe(extract(options.src, options.out, workers=options.workers), options.out):
        print(line)


def _rods_filter(options: argparse.Namespace) -> None:
    from corl.rods.filtering import Request, describe, filter_files

    out = Path(options.out)
    report = filter_files(Request(options.items, out, options.against, options.graph, options.lang))
    for line in describe(report, out):
        print(line)
    if not report.kept:
        raise SystemExit(1)


def _rods_label(options: argparse.Namespace) -> None:
    from corl.rods.labelling.check import describe
    from corl.rods.labelling.command import label_files

    out = Path(options.out)
    sampling = {
        key: getattr(options, key) for key in ("temperature", "max_tokens") if getattr(options, key) is not None
    }
    report = label_files(
        options.items,
        out,
        _teacher_plan(options),
        trials=options.trials,
        least_right=options.least_right,
        **sampling,
    )
    for line in describe(report, out):
        print(line)
    if report.unanswered:
        raise SystemExit(1)


def _rods_review(options: argparse.Namespace) -> None:
    from corl.rods.labelling.review import decide, describe, replay, told

    file = Path(options.file)
    if options.decision is None:
        for line in describe(file):
            print(line)
        return
    if options.decision == "replay":
        print(told(file, replay(file, Path(options.log) if options.log else None)))
        return
    if not options.ids:
        raise ValueError(f"{options.decision}: name the items with --id")
    print(told(file, decide(file, options.decision, options.ids, options.answer)))


def _rods_tier(options: argparse.Namespace) -> None:
    from corl.rods.tiering.command import agreement_lines, tier_file

    if options.method is None and options.compare and options.out is None:
        lines = agreement_lines(options.items)
    elif options.method is None or options.out is None:
        raise ValueError("give --method and --out, or --compare alone")
    else:
        lines = tier_file(
            options.items,
            Path(options.out),
            options.method,
            pass_rates=options.pass_rates,
            plan=_teacher_plan(options) if options.teacher is not None else None,
            config=options.config,
            votes=options.votes,
            with_agreement=options.compare,
        )
    for line in lines:
        print(line)


def _rods_mix(options: argparse.Namespace) -> None:
    from corl.rods.mixing import MixRequest, describe, mix_files
    from corl.rods.mixing.quotas import parse_weights

    asked = {"source": options.weights, "tier": options.tier, "lang": options.lang, "result": options.result}
    names = {"source": "--weights", "tier": "--tier", "lang": "--lang", "result": "--result"}
    out = Path(options.out)
    weights = {attribute: parse_weights(texts, names[attribute]) for attribute, texts in asked.items()}
    report = mix_files(
        MixRequest(
            files=options.items,
            out=out,
            count=options.n,
            weights=weights,
            preset=options.preset,
            pass_rates=options.pass_rates,
            seed=options.seed,
        )
    )
    for line in describe(report, out):
        print(line)


def _rods_export(options: argparse.Namespace) -> None:
    from corl.rods.medkgqa import describe, export_medkgqa

    out = Path(options.out)
    for line in describe(export_medkgqa(options.items, out), out):
        print(line)


def _rods_distill(options: argparse.Namespace) -> None:
    if options.teacher is not None:
        _distill_by_teacher(options)
        return
    alone = ("model", "store", "token_budget", "k", "depth", "tries", "told_share", "words", "request", "graph")
    if given := [name for name in alone if getattr(options, name) is not None]:
        raise ValueError(f"--{given[0].replace('_', '-')} is of a teacher; give --teacher URL|MODEL_DIR too")
    from corl.data.items import read_items, write_traces
    from corl.observe.progress import sample_bar
    from corl.rods.traces import distilled

    items = read_items(options.items)
    traces = []
    with sample_bar("distilling", len(items), shown=True) as bar:
        for trace in distilled(items):
            traces.append(trace)
            bar.update()
    write_traces(options.out, traces)
    conditioned = sum(t.label_conditioned for t in traces)
    print(f"{options.out}: {len(traces)} traces, {conditioned} of them written from the label by a template")


def _distill_by_teacher(options: argparse.Namespace) -> None:
    from corl.rods.cot.command import distill_file
    from corl.rods.cot.distilling import Distilling, bounds_from

    given = {name: getattr(options, name) for name in ("depth", "tries", "told_share", "temperature", "max_tokens")}
    given |= {"samples": options.k, "bounds": options.words and bounds_from(options.words)}
    settings = Distilling(**{name: value for name, value in given.items() if value is not None})
    done = distill_file(options.items, options.out, _teacher_plan(options), settings, graph=options.graph)
    for line in done.lines:
        print(line)
    if done.stopped:
        raise SystemExit(1)


def _rods_rephrase(options: argparse.Namespace) -> None:
    from corl.rods.rephrasing import rephrase_file

    plan = _teacher_plan(options)
    done = rephrase_file(options.items, options.out, plan, graph=options.graph, temperature=options.temperature)
    for line in done.lines:
        print(line)
    if done.stopped:
        raise SystemExit(1)


def _rods_triples(options: argparse.Namespace) -> None:
    from corl.rods.prose import triples_file

    done = triples_file(options.prose, options.graph, options.out, _teacher_plan(options))
    for line in done.lines:
        print(line)
    if done.stopped:
        raise SystemExit(1)
