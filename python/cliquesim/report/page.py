"""The page itself: sections into the template, the template onto disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import cliquesim
from cliquesim._files import write_atomically
from cliquesim.errors import MissingExtraError
from cliquesim.report import sections
from cliquesim.report.data import ReportData, clique_statistics

#: Above this share of pairs within one sequence, cliques start to mean "same sequence" (Sect. 2.2).
SAME_SEQUENCE_WARNING = 0.2


def _duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _warnings(data: ReportData) -> list[str]:
    warnings = list(data.warnings)
    if data.membership is not None and data.sequence is not None and data.membership.shape[0]:
        share = clique_statistics(data).same_sequence
        if share is not None and share > SAME_SEQUENCE_WARNING:
            warnings.append(
                f"{share:.0%} of the pairs within cliques come from one sequence: the similarity "
                "may learn to tell sequences apart instead of postures."
            )
    return warnings


def write_report(
    path: str | os.PathLike[str],
    data: ReportData,
    progress: Callable[[float], object] | None = None,
) -> Path:
    """Write one self-contained HTML page: no script, no other file, no network.

    Parameters
    ----------
    path : path
        The page to write; an earlier one is replaced only when the new one is complete.
    data : ReportData
        Parts that it lacks are left out with a sentence that says so.
    progress : callable, optional
        Called with the share of the sections that are done.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    InputError
        Two parts of `data` do not fit together.
    MissingExtraError
        matplotlib or jinja2 is not installed (extra `report`).

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> data = ReportData(
    ...     frames=rng.integers(0, 255, (12, 32, 32, 3), dtype=np.uint8),
    ...     sequence=np.repeat([0, 1, 2], 4),
    ...     features={"learned": rng.normal(size=(12, 8)).astype(np.float32)},
    ... )
    >>> page = write_report(tempfile.mkdtemp() + "/report.html", data)
    >>> page.read_text(encoding="utf-8")[:15]
    '<!DOCTYPE html>'
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "jinja2", "report", "the report") from error
    data.check()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["duration"] = _duration
    source = files("cliquesim.report").joinpath("template.html").read_text(encoding="utf-8")
    style = files("cliquesim.report").joinpath("style.css").read_text(encoding="utf-8")
    text = environment.from_string(source).render(
        title=data.title,
        summary=sections.summary(data),
        warnings=_warnings(data),
        style=style,
        version=cliquesim.__version__,
        **sections.build(data, progress),
    )
    target = Path(path)
    with write_atomically(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target
