"""The files below a folder that count: no hidden ones, links followed, every folder once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cliquesim.errors import InputError


def visible_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Folder and name of every file below `root`; InputError for a folder that cannot be read."""
    seen: set[tuple[int, int]] = set()
    folders: list[Path] = [root]
    links: list[Path] = []
    while folders or links:
        # Links last: a folder that can be reached both ways keeps its own name.
        folder = folders.pop() if folders else links.pop()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue  # a link back into the tree, or a second way to the same folder
        seen.add((status.st_dev, status.st_ino))
        for entry in _visible_entries(folder):
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(Path(entry.path))
            else:
                yield folder, entry.name


def _visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (entry for entry in entries if not entry.name.startswith(".")),
                key=lambda entry: entry.name,
            )
    except PermissionError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
