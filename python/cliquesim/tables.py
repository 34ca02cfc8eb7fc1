"""Plans and evaluations for people, on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

_METHODS = {
    "hog": "raw HOG, centred",
    "hog_lda": "HOG-LDA",
    "hog_lda_pooled": "HOG-LDA + temporal pooling",
    "learned": "learned",
    "learned_pooled": "learned + temporal pooling",
    "fused": "learned + HOG-LDA",
    "fused_pooled": "learned + HOG-LDA + temporal pooling",
}


def print_evaluation(result: dict[str, Any], as_json: bool) -> None:
    """What `evaluate_run` gives: mean AUCs, or everything as JSON."""
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"ROC AUC, mean over {len(result['per_category'])} categories, "
        f"{result['anchors']} anchors"
    )
    table.add_column("similarity")
    table.add_column("AUC", justify="right")
    for name, title in _METHODS.items():
        if name in result["mean_auc"]:
            table.add_row(title, f"{result['mean_auc'][name]:.3f}")
    Console(file=sys.stdout).print(table)


def print_baselines(result: dict[str, Any], run: Path) -> None:
    """What `evaluate_baselines` gives; what was left out goes to stderr."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"ROC AUC, {result['anchors']} anchors, pooled with p = {result['pool_radius']}",
        caption="gap: the learned similarity's AUC minus this one's, with its 95 % bootstrap "
        "interval over anchors",
    )
    table.add_column("similarity")
    for name in ("AUC", "pooled", "gap", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result["rows"]:
        gap = row["difference"] or row["difference_pooled"]
        table.add_row(
            row["title"],
            *("" if value is None else f"{value:.3f}" for value in (row["auc"], row["auc_pooled"])),
            f"{gap['mean']:+.3f}",
            f"{gap['low']:+.3f} {gap['high']:+.3f}",
        )
    Console(file=sys.stdout).print(table)
    for one in result["skipped"]:
        typer.echo(f"note: left out {one['name']}: {one['reason']}", err=True)
    typer.echo(f"Table: {run / 'baselines/table.csv'}")


def print_plan(plan: dict[str, Any], as_json: bool) -> None:
    """What `pipeline.plan` gives: a line per stage, or everything as JSON."""
    if as_json:
        typer.echo(json.dumps(plan, indent=2))
        return
    for stage in plan["stages"]:
        state = "done, kept" if stage["done"] else f"about {_duration(stage['seconds'])}"
        typer.echo(f"  {stage['name']:<22} {state:<18} {stage['work']}")
    typer.echo(
        f"Would take about {_duration(plan['seconds'])}, {plan['memory_mib'] / 1024:.1f} GiB of "
        f"memory and {plan['disk_mib'] / 1024:.1f} GiB of disk. Nothing was done."
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
