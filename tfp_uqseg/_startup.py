"""Loads TensorFlow without the lines it writes to standard error on every start.

TensorFlow logs some lines before it reads its own settings, so `TF_CPP_MIN_LOG_LEVEL`
cannot stop them. They are held back here while it loads; what is more than information
is passed on. Setting `TF_CPP_MIN_LOG_LEVEL=0` shows everything.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

#: Information lines in both formats TensorFlow uses, the note that precedes the early
#: ones, and errors that every CUDA build logs whatever the machine.
_HARMLESS = re.compile(
    r"I\d{4} |\d{4}-\S+ \S+ I "
    r"|WARNING: All log messages before absl::InitializeLog"
    r"|.*Unable to register cu\w+ factory"
    r"|.*computation_placer.* already registered"
)
_CUDA_NOT_STARTED = re.compile(_HARMLESS.pattern + r"|.*failed call to cuInit")


def is_command() -> bool:
    """Return whether this process is the command `uqseg`."""
    program = os.path.basename(sys.argv[0]) if sys.argv else ""
    return os.path.splitext(program)[0] == "uqseg"


def load_tensorflow() -> None:
    """Import TensorFlow and TensorFlow Probability, unless that was done before."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if "tensorflow" in sys.modules or os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0":
        return
    with _holding_back(_HARMLESS):
        tensorflow = importlib.import_module("tensorflow")
        importlib.import_module("tensorflow_probability")
    if not _has_cuda_driver():
        # Without a driver the first operation logs that CUDA did not start; looking
        # for devices now has the same effect and starts nothing.
        with _holding_back(_CUDA_NOT_STARTED):
            tensorflow.config.list_physical_devices()


def _has_cuda_driver() -> bool:
    """Return whether CUDA could be there; only Linux has TensorFlow with CUDA."""
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _holding_back(harmless: re.Pattern[str]) -> Iterator[None]:
    """Keep lines that match `harmless` from standard error.

    It works on the file descriptor, since the lines come from compiled code.
    """
    try:
        saved = os.dup(2)
        file = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError:  # no standard error, or nowhere to keep it
        yield
        return
    reports_crashes = not faulthandler.is_enabled()
    if reports_crashes:  # a processor TensorFlow cannot run on ends the process here
        faulthandler.enable(saved)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        if reports_crashes:
            faulthandler.disable()
        file.seek(0)
        lines = file.read().decode(errors="replace").splitlines(keepends=True)
        file.close()
        os.write(saved, "".join(ln for ln in lines if not harmless.match(ln)).encode())
        os.close(saved)
