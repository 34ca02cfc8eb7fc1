"""Progress of a run: bars with the remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from cliquesim.run_folder import SilentObserver, StageObserver


def terminal_observer(quiet: bool = False) -> StageObserver:
    """Bars where stderr is a terminal, else one line per stage; nothing if `quiet`."""
    if quiet:
        return SilentObserver()
    return BarObserver() if sys.stderr.isatty() else LineObserver()


def _note(summary: Mapping[str, Any]) -> str:
    """The few numbers of a stage's summary that fit on a line."""
    short = {k: v for k, v in summary.items() if isinstance(v, (int, float, str)) and k[0] != "_"}
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in list(short.items())[:4]
    )


class LineObserver:
    """A line when a stage starts and ends, and every ten seconds between."""

    def __init__(self) -> None:
        self._last = 0.0
        self._start = 0.0

    def start(self, stage: str) -> None:
        self._start = self._last = time.monotonic()
        print(f"{stage} ...", file=sys.stderr, flush=True)

    def progress(self, stage: str, fraction: float, note: str = "") -> None:
        now = time.monotonic()
        if now - self._last < 10 or not 0 < fraction < 1:
            return
        self._last = now
        left = (now - self._start) * (1 - fraction) / fraction
        print(f"{stage} {fraction:4.0%}, {left:.0f} s left {note}", file=sys.stderr, flush=True)

    def finish(self, stage: str, seconds: float, reused: bool, summary: Mapping[str, Any]) -> None:
        state = "kept" if reused else f"{seconds:.1f} s"
        print(f"{stage}: {state}; {_note(summary)}", file=sys.stderr, flush=True)


class BarObserver:
    """A bar with elapsed and remaining time for the stage in progress, a line per finished one."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=sys.stderr)
        self._bar: Any = None
        self._task: Any = None

    def start(self, stage: str) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._stop()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(stage, total=1.0, note="")

    def progress(self, stage: str, fraction: float, note: str = "") -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=fraction, note=note)

    def finish(self, stage: str, seconds: float, reused: bool, summary: Mapping[str, Any]) -> None:
        self._stop()
        state = "kept" if reused else f"{seconds:.1f} s"
        self._console.print(f"[green]✓[/] {stage:<20} [dim]{state:>8}  {_note(summary)}[/]")

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
