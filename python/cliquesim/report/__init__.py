"""The report: one self-contained HTML page about a run, and its figures for use from Python.

`ReportData` holds the arrays, `write_report` writes the page, `figures` makes single plots, `grid`
draws search results. The page and the plots need the extra `report` (matplotlib, jinja2); the grids
need Pillow alone.
"""

from __future__ import annotations

from cliquesim.report.data import ReportData
from cliquesim.report.page import write_report

__all__ = ["ReportData", "write_report"]
