"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator


def sha256(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(path: str | os.PathLike) -> str:
    """Return 16 hexadecimal digits that change with any byte of a file."""
    return sha256(path)[:16]


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yield a temporary path that becomes `path` when the block ends well.

    The temporary file keeps the ending of `path`, since writers choose their format
    by it. A failure inside the block leaves whatever stood at `path` before.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    _sweep(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yield a temporary folder that becomes `path` when the block ends well.

    A folder that stood at `path` before is replaced, and kept if the block fails.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    replaced = path.with_name(f".replaced-{os.getpid()}-{path.name}")
    _sweep(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            os.replace(path, replaced)
        os.replace(temporary, path)
    finally:
        if replaced.exists() and not path.exists():
            os.replace(replaced, path)
        shutil.rmtree(replaced, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, values: object) -> None:
    """Write plain `values` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def _sweep(path: pathlib.Path) -> None:
    """Put back or remove what a killed process left beside `path`."""
    for kind in ("replaced", "partial"):
        pattern = rf"\.{kind}-(\d+)-{re.escape(path.name)}"
        for leftover in path.parent.glob(f".{kind}-*"):
            match = re.fullmatch(pattern, leftover.name)
            if match is None or _runs(int(match[1])):
                continue
            if leftover.is_file():
                leftover.unlink(missing_ok=True)
            elif kind == "replaced" and not path.exists():
                os.replace(leftover, path)
            else:
                shutil.rmtree(leftover, ignore_errors=True)


def _runs(pid: int) -> bool:
    """Return whether another live process has the number `pid`."""
    if pid == os.getpid() or os.name == "nt":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
