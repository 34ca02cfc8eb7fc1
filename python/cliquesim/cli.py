"""The command line. Exit status: 0 success, 2 bad usage or input, 1 failure; progress on stderr."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

import cliquesim
from cliquesim._device import check_device
from cliquesim.config import PRESETS, Config, make_config, parse_setting
from cliquesim.errors import InputError, MissingExtraError, RunError
from cliquesim.tables import print_baselines, print_evaluation, print_plan

if TYPE_CHECKING:
    from cliquesim.corpus import Corpus

app = typer.Typer(
    name="cliquesim",
    help="Learn visual similarity from unlabelled frames: fit, search, embed, evaluate, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)

Command = TypeVar("Command", bound=Callable[..., None])


def _fail(message: str, status: int) -> typer.Exit:
    typer.secho(f"error: {message}", fg=typer.colors.RED, err=True)
    return typer.Exit(status)


def _reports_errors(command: Command) -> Command:
    """Errors of the library as one line on stderr and the right exit status."""

    def say(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        typer.secho(f"warning: {message}", fg=typer.colors.YELLOW, err=True)

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = say
                command(*args, **kwargs)
        except InputError as error:
            raise _fail(str(error), 2) from error
        except (RunError, MissingExtraError, OSError) as error:
            raise _fail(str(error), 1) from error
        except MemoryError as error:
            raise _fail(f"out of memory {error}", 1) from error
        except KeyboardInterrupt:
            raise _fail(
                "interrupted; what was finished stays, run the same command to go on", 1
            ) from None

    return wrapped  # type: ignore[return-value]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"cliquesim {cliquesim.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


Run = Annotated[Path, typer.Argument(help="Run folder of a fit.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Run folder to make or to go on with.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads; default: all processors.")
]
Device = Annotated[str, typer.Option(help="'cpu' or 'cuda'.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Preset = Annotated[str, typer.Option(help=f"One of: {', '.join(PRESETS)}.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change one setting; repeatable."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="JSON file of settings over the preset.")
]


@app.command(epilog="Example: `cliquesim demo --out cliquesim-demo`")
@_reports_errors
def demo(
    out: Out = Path("cliquesim-demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A tiny corpus and few steps: a check, not a result.")
    ] = False,
    as_json: Json = False,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Render moving athletes, learn their similarity, print a table of AUCs, write a report."""
    from cliquesim.demo import run_demo

    result, report = run_demo(out, quick=quick, num_threads=threads, observer=_observer(quiet))
    print_evaluation(result, as_json)
    if not as_json:
        typer.echo(f"\nReport: {report}")


@app.command(
    epilog="Examples: `cliquesim fit FRAMES --out RUN` · `cliquesim fit MONDAY TUESDAY --out RUN` "
    "· `cliquesim fit a.mp4 b.mp4 --out RUN` · "
    "`cliquesim fit --manifest boxes.csv --root VIDEOS --out RUN --set training.steps=2000`"
)
@_reports_errors
def fit(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of frames (a sub-folder per sequence), or videos and folders of videos."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder.")] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet: path, sequence, frame, optional box, instead of SOURCES."
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that the manifest's paths start from.")
    ] = None,
    boxes: Annotated[
        str, typer.Option(help="'auto' (a bboxes folder beside the frames), 'none', or a folder.")
    ] = "auto",
    every: Annotated[int, typer.Option(min=1, help="Take every n-th frame of a video.")] = 1,
    preset: Preset = "default",
    config: ConfigFile = None,
    settings: Settings = None,
    update: Annotated[
        bool, typer.Option("--update", help="Accept other settings for an existing run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, how long, how much memory.")
    ] = False,
    as_json: Json = False,
    threads: Threads = None,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Learn the similarity of a corpus; goes on where an earlier call stopped.

    Under torchrun the processes train together.
    """
    from cliquesim import pipeline
    from cliquesim.stages import CORPUS
    from cliquesim.training.distributed import joined_ranks

    if out is None:
        raise InputError("--out RUN is missing: the folder where the run is kept")
    with contextlib.ExitStack() as cleaning:
        ranks = cleaning.enter_context(joined_ranks(device))
        if ranks.rank > 0:
            pipeline.help_to_train(ranks)
            return
        chosen = make_config(preset, config, dict(parse_setting(one) for one in settings or []))
        check_device(device, stage="fit")
        observer = _observer(quiet)
        if out.exists():
            # A foreign folder or another version is refused before any frame is read.
            pipeline.check_run_folder(out)
        cache = out / CORPUS
        if dry_run and not cache.exists():
            cache = Path(cleaning.enter_context(tempfile.TemporaryDirectory(prefix="cliquesim-")))
        corpus = _open_corpus(sources, manifest, root, boxes, every, chosen, cache, observer)
        if dry_run:
            print_plan(pipeline.plan(corpus, out, chosen, num_threads=threads), as_json)
            return
        result = pipeline.fit(
            corpus,
            out,
            chosen,
            update=update,
            source=str(manifest) if manifest else [str(one.absolute()) for one in sources or []],
            num_threads=threads,
            device=device,
            observer=observer,
            ranks=ranks,
        )
    if as_json:
        typer.echo(json.dumps(result.summary, indent=2))
    else:
        typer.echo(result.describe())


@app.command(epilog="Example: `cliquesim embed RUN FRAMES --out embedding.npy`")
@_reports_errors
def embed(
    run: Run,
    frames: Annotated[list[Path], typer.Argument(help="Image files, or folders of frames.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, .npy.")],
    as_json: Json = False,
    threads: Threads = None,
    device: Device = "cpu",
) -> None:
    """Embed frames with a learned similarity; rows in the order of the paths, listed beside."""
    from cliquesim import search as searching

    rows, dimensions, listing = searching.embed_to_file(
        run, frames, out, num_threads=threads, device=device
    )
    if as_json:
        typer.echo(json.dumps({"rows": rows, "dimensions": dimensions, "file": str(out)}))
    else:
        typer.echo(f"{rows} x {dimensions} float32 in {out}; the paths of the rows in {listing}")


@app.command(epilog="Example: `cliquesim search RUN QUERY.jpg -k 20 --grid out.png`")
@_reports_errors
def search(
    run: Run,
    queries: Annotated[list[Path], typer.Argument(help="Query image files.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours per query.")] = 20,
    grid: Annotated[
        Path | None, typer.Option(help="Write a picture of the queries and their neighbours.")
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="XMIN,YMIN,XMAX,YMAX", help="Crop the queries to this box, pixels."),
    ] = None,
    per_sequence: Annotated[
        int,
        typer.Option(
            min=0,
            help="At most this many neighbours of one sequence, or of each piece where the fit cut "
            "it; 0: no limit.",
        ),
    ] = 0,
    as_json: Json = False,
    threads: Threads = None,
) -> None:
    """Find the frames of the corpus that are most similar to query images."""
    from cliquesim import search as searching

    result = searching.search_files(
        run,
        queries,
        k,
        grid=grid,
        box=_parse_box(box),
        per_sequence=per_sequence,
        num_threads=threads,
    )
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    for query in result["queries"]:
        typer.echo(f"{query['query']}")
        for rank, hit in enumerate(query["neighbors"], 1):
            typer.echo(f"  {rank:3d}  {hit['similarity']:.3f}  {hit['path']}")
    if grid:
        typer.echo(f"Grid: {grid}")


class _Evaluate(typer.core.TyperCommand):
    """`--baselines` may stand alone; it means the table's then."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)
        if "--baselines" in words:
            place = words.index("--baselines") + 1
            if place == len(words) or words[place].startswith("-") or _is_path(words[place]):
                words.insert(place, "table")
        return super().parse_args(ctx, words)


def _is_path(word: str) -> bool:
    """Whether what follows a bare `--baselines` is the run's folder."""
    from cliquesim.baselines.catalogue import is_known

    return not is_known(_names(word)) and Path(word).exists()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


@app.command(
    cls=_Evaluate,
    epilog="Examples: `cliquesim evaluate RUN --labels LABELS --json` · "
    "`cliquesim evaluate RUN --labels LABELS --baselines` · "
    "`cliquesim evaluate RUN --labels LABELS --baselines nn_cnn,ablations`",
)
@_reports_errors
def evaluate(
    run: Run,
    labels: Annotated[Path, typer.Option(help="Folder in the layout of the released annotations.")],
    frames: Annotated[
        Path | None,
        typer.Option(help="Folder of the labelled frames, if they are others than the run's."),
    ] = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            metavar="[NAMES]",
            help="Compute baselines with the run's settings, or take kept ones: names and groups "
            "(table, ablations, all) with commas; alone: table.",
        ),
    ] = None,
    imagenet: Annotated[
        Path | None,
        typer.Option(help="ImageNet weights of AlexNet for its baseline, safetensors."),
    ] = None,
    as_json: Json = False,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """ROC AUC of posture retrieval by the released protocol, per similarity and category."""
    from cliquesim.evaluation.run import evaluate_run

    if baselines is None:
        if imagenet is not None:
            raise InputError("--imagenet goes with --baselines")
        result = evaluate_run(run, labels, frames=frames, num_threads=threads)
        print_evaluation(result, as_json)
        return
    if frames is not None:
        raise InputError("--frames does not go with --baselines: these train on the run's frames")
    from cliquesim.baselines import choose, evaluate_baselines

    names = _names(baselines)
    choose(names)  # an unknown name is refused before anything is computed
    result = evaluate_run(run, labels, num_threads=threads)
    result["baselines"] = evaluate_baselines(
        run, labels, names, imagenet=imagenet, num_threads=threads, observer=_observer(quiet)
    )
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        print_baselines(result["baselines"], run)


@app.command(epilog="Example: `cliquesim report RUN --labels LABELS`")
@_reports_errors
def report(
    run: Run,
    labels: Annotated[
        Path | None, typer.Option(help="Labels folder, for the AUC table and curves.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Default: RUN/report.html.")
    ] = None,
) -> None:
    """Write one self-contained HTML page about a run."""
    from cliquesim.report.run import report_run

    typer.echo(f"Report: {report_run(run, labels=labels, out=out)}")


@app.command(epilog="Example: `cliquesim doctor --json`")
@_reports_errors
def doctor(as_json: Json = False) -> None:
    """What is installed, SIMD level, threads, CUDA and why not."""
    from cliquesim.doctor import diagnose

    facts = diagnose()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for section, values in facts.items():
        typer.secho(section, bold=True)
        for name, value in values.items():
            typer.echo(f"  {name:<22} {value}")


def _open_corpus(
    sources: list[Path] | None,
    manifest: Path | None,
    root: Path | None,
    boxes: str,
    every: int,
    config: Config,
    cache: Path,
    observer: Any,
) -> Corpus:
    import time

    from cliquesim.corpus.sources import open_corpus

    if bool(sources) == (manifest is not None):
        raise InputError("give either SOURCES (folders or video files) or --manifest FILE")
    observer.start("corpus")
    start = time.monotonic()
    corpus = open_corpus(
        sources or [],
        manifest=manifest,
        root=root,
        boxes=None if boxes == "none" else boxes,
        every=every,
        size=(config.frame_size, config.frame_size),
        box_scale=config.box_scale,
        max_rejected=config.max_rejected,
        cache=cache,
        progress=lambda fraction: observer.progress("corpus", fraction),
    )
    numbers = {"frames": len(corpus), "sequences": corpus.n_sequences}
    observer.finish("corpus", time.monotonic() - start, False, numbers)
    for note in corpus.notes:
        typer.echo(f"note: {note}", err=True)
    if corpus.rejected:
        path, reason = corpus.rejected[0]
        more = f", and {len(corpus.rejected) - 1} more" if len(corpus.rejected) > 1 else ""
        typer.echo(f"warning: left out {path}: {reason}{more}", err=True)
    return corpus


def _parse_box(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        xmin, ymin, xmax, ymax = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--box needs XMIN,YMIN,XMAX,YMAX, got {text!r}") from None
    if not (xmin < xmax and ymin < ymax):
        raise InputError(f"--box needs XMIN < XMAX and YMIN < YMAX, got {text!r}")
    return xmin, ymin, xmax, ymax


def _observer(quiet: bool) -> Any:
    from cliquesim.progress import terminal_observer

    return terminal_observer(quiet)


def main() -> None:
    """Entry point of the `cliquesim` command."""
    # Threads of torch's OpenMP that have nothing to do sleep then, instead of taking processor time
    # from the threads of our own kernels; OpenMP reads it when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    app()
