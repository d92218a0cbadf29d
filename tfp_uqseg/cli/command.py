"""``uqseg``: reads arguments; every command is a call one floor below.

Exit codes: 0 done, 1 the data or the run cannot be used, 2 wrong arguments, 130
stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import os
import re
import shlex
import sys
import warnings
from collections.abc import Sequence

from tfp_uqseg import _startup
from tfp_uqseg.cli import arguments as arguments_module

#: A line in which TensorFlow repeats the error of a function that it traced.
_TOLD = re.compile(r"\w*Error: (.+)")
#: What a parser holds beside options.
_NO_OPTIONS = ("command", "debug", "data", "run", "maps")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: Those after ``uqseg``; None takes the process's own.

    Returns:
        0, 1 or 130; wrong arguments end the process with 2.
    """
    options = arguments_module.parser().parse_args(arguments)
    if options.command is None:
        arguments_module.parser().print_help()
        return 2
    try:
        # Loaded now, not above: reading `--help` must not wait for TensorFlow.
        _startup.load_tensorflow()
        commands = importlib.import_module("tfp_uqseg.experiments.commands")
        with warnings.catch_warnings():
            warnings.showwarning = functools.partial(_show_warning, options)
            commands.COMMANDS[options.command](options)
    except KeyboardInterrupt:
        return _say_stopped(options)
    except BrokenPipeError:
        # Whoever read our output has left: `uqseg evaluate ... | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.debug:
            raise
        sys.stderr.write(f"uqseg: error: {_in_words_of(options, _one_line(error))}\n")
        return 1
    finally:
        # TensorFlow complains when Python tears down iterators at its very end.
        gc.collect()
    return 0


def _show_warning(options: argparse.Namespace, message, *_, **__) -> None:
    sys.stderr.write(f"uqseg: note: {_in_words_of(options, str(message))}\n")


def _say_stopped(options: argparse.Namespace) -> int:
    text = "uqseg: stopped"
    if options.command == "train":
        again = [options.data, "--out", options.out, "--resume"]
        for name in ("pattern", "label_pattern"):
            if getattr(options, name):
                again += [f"--{name.replace('_', '-')}", getattr(options, name)]
        text += f"; `uqseg train {shlex.join(map(str, again))}` goes on"
    if options.command == "reproduce":
        text += "; the same command goes on with the networks that are left"
    if options.command == "prepare":
        text += "; the same command goes on with the studies that are left"
    if options.command == "predict":
        text += "; the same command goes on with the cases that are left"
    sys.stderr.write(f"\n{text}\n")
    return 130


def _one_line(error: Exception) -> str:
    """Return what a user needs of an error, without its kind where we wrote it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = lines or [type(error).__name__]
    text = lines[0]
    if text.endswith(":"):
        # TensorFlow's first line may only announce: "in user code:". The last lines
        # may be the arguments of a Keras layer.
        told = [found[1] for found in map(_TOLD.fullmatch, lines) if found]
        text = told[-1] if told else lines[-1]
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (ValueError, OSError)):
        return text
    return f"{type(error).__name__}: {text} (`--debug` shows where)"


def _in_words_of(options: argparse.Namespace, text: str) -> str:
    """Return `text` with Python's arguments written as options of the command.

    The package's errors say what to pass in Python: `label_scheme="binary"`.
    """

    def option(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if name not in vars(options) or name in _NO_OPTIONS:
            return match[0]
        words = " ".join(re.findall(r"[\w./-]+", value or ""))
        words = "" if words in ("", "True") else f" {words}"
        return f"`--{name.replace('_', '-')}{words}`"

    return re.sub(r"`(\w+)(?:=([^`]*))?`", option, text)
