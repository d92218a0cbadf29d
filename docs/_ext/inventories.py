"""Writes the inventories that intersphinx reads, so that the build needs no network.

Each file in `inventories/` lists the few names of one project that our pages refer to,
one per line: name, Sphinx domain and role, address below the project's base.
"""

from __future__ import annotations

import pathlib
import zlib

_HEADER = "# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
_NOTE = "# The remainder of this file is compressed using zlib.\n"


def compile_inventory(source: pathlib.Path, folder: pathlib.Path) -> str:
    """Write the inventory of the list `source` into `folder`; return its path."""
    entries = []
    for line in source.read_text("utf-8").splitlines():
        name, role, address = line.split()
        entries.append(f"{name} {role} 1 {address} -\n")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{source.stem}.inv"
    header = _HEADER.format(project=source.stem) + _NOTE
    target.write_bytes(header.encode() + zlib.compress("".join(entries).encode()))
    return str(target)
