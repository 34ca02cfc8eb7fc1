"""Errors that users see. The command line turns them into exit statuses."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: names the file, row or argument and says what was expected. Exit status 2."""


class RunError(RuntimeError):
    """A run that cannot go on, though its input was acceptable. Exit status 1."""


class MissingExtraError(ImportError):
    """An optional package is missing; the message says which extra brings it. Exit status 1."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: "
            f"pip install 'cliquesim[{extra}]'"
        )
