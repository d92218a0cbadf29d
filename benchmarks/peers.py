"""Other packages, each in an environment of its own and spoken to line by line.

What they need (PyTorch, mostly) would not fit beside TensorFlow. An environment is made
from the package registry at the first use and kept.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import queue
import subprocess
import tempfile
import threading
import venv
from collections.abc import Callable

WORKERS = pathlib.Path(__file__).parent / "workers"
#: Folder of the environments; another one by this variable.
VARIABLE = "TFP_UQSEG_PEERS"
FOLDER = pathlib.Path.home() / ".cache" / "tfp_uqseg_benchmarks"
#: PyTorch's own index of builds without GPU code, a tenth of the registry's in size.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
#: One release for all, so that their numbers compare.
PYTORCH = "torch==2.13.0"

TORCH = {
    "bayesian_torch": [PYTORCH, "bayesian-torch==0.5.0"],
    "torch_uncertainty": [PYTORCH, "torch-uncertainty[cpu]==0.13.0"],
}
_MODELS = {
    "bayesian_torch": ("deterministic", "bayesian_torch"),
    "torch_uncertainty": ("torch_uncertainty",),
}


class Unavailable(Exception):
    """A peer cannot be installed or run here; the message says why."""


def environment(
    name: str, requirements: list[str], folder: pathlib.Path | None = None
) -> pathlib.Path:
    """Return the Python of an environment with `requirements`, made if it is not there.

    Args:
        name: Of the environment.
        requirements: As pip takes them.
        folder: Where environments are kept (default: what VARIABLE says, or FOLDER).

    Raises:
        Unavailable: It cannot be made: no network, no release for this Python, ...
    """
    folder = pathlib.Path(folder or os.environ.get(VARIABLE) or FOLDER)
    digest = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:8]
    place = folder / f"{name}-{digest}"
    python = place / "bin" / "python"
    if (place / "complete").is_file():
        return python
    try:
        venv.create(place, with_pip=True, clear=True)
        _install(python, requirements)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        said = [line for line in said if line.startswith("ERROR")] or said
        reason = said[-1] if said else "pip says nothing"
        raise Unavailable(f"{name} cannot be installed: {reason}") from error
    (place / "complete").touch()
    return python


def _install(python: pathlib.Path, requirements: list[str]) -> None:
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    quick = ["--retries", "0", "--timeout", "10", "--index-url", CPU_INDEX]
    for requirement in requirements:
        if requirement.partition("==")[0] in ("torch", "torchvision"):
            # Where that index is out of reach, the registry's build follows below.
            subprocess.run([*pip, *quick, requirement], capture_output=True)
    subprocess.run([*pip, *requirements], capture_output=True, text=True, check=True)


class Worker(contextlib.AbstractContextManager):
    """A script of `workers/` that runs in an environment and answers requests.

    It reads a JSON object a line, ``{"do": ..., ...}``, and answers each with one line:
    what was asked for (seconds, say), or ``{"error": ...}``.

    Args:
        python: Of the environment.
        script: File name below `workers/`, or a path.
        timeout: Seconds that an answer may take.

    Raises:
        Unavailable: There is no such Python.
    """

    def __init__(
        self,
        python: str | os.PathLike,
        script: str | os.PathLike,
        *,
        timeout: float = 600.0,
    ):
        self._name, self._timeout = pathlib.Path(script).stem, timeout
        # A file, not a pipe: a pipe that nobody reads would stop a chatty worker.
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [str(python), str(WORKERS / script)],  # an absolute path stays itself
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
            )
        except OSError as error:
            self._said.close()
            raise Unavailable(f"{self._name} cannot be started: {error}") from error
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def ask(self, **request) -> dict:
        """Return the answer to a request.

        Raises:
            Unavailable: The worker ended, fell silent, or could not do what was asked.
        """
        with contextlib.suppress(OSError):  # it ended; the answer below says so
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=self._timeout)
        except queue.Empty:
            self._process.kill()
            reason = f"no answer in {self._timeout:g} s"
            raise Unavailable(f"{self._name} was ended: {reason}") from None
        if not line:
            self._answers.put("")  # for whoever asks again
            raise Unavailable(f"{self._name} ended: {self._last_words()}")
        try:
            answer = json.loads(line)
        except ValueError:
            raise Unavailable(f"{self._name} answered {line.strip()!r}") from None
        if "error" in answer:
            raise Unavailable(f"{self._name}: {answer['error']}")
        return answer

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()[-3:]
        return " | ".join(lines) or f"exit code {self._process.poll()}, no word"

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        self._process.stdout.close()
        self._said.close()


@dataclasses.dataclass
class Found:
    """What there is to measure of other packages.

    Attributes:
        functions: By name; each returns the seconds it took.
        notes: Why others are missing, by name.
        versions: Of the packages.
        parameters: Of the networks, by name: a check that all are the same network.
    """

    functions: dict[str, Callable[[], float]] = dataclasses.field(default_factory=dict)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    parameters: dict[str, int] = dataclasses.field(default_factory=dict)

    def described(self) -> dict:
        """Return the settings that a reader should know."""
        counts = [f"{count} of {name}" for name, count in self.parameters.items()]
        return {"parameters": ", ".join(counts)} if counts else {}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every benchmark that has peers."""
    parser.add_argument("--no-peers", action="store_true", help="leave PyTorch out")
    parser.add_argument(
        "--peers-dir",
        type=pathlib.Path,
        default=os.environ.get(VARIABLE, FOLDER),
        help="folder of their environments",
    )


def torch_functions(
    stack: contextlib.ExitStack,
    what: str,
    *,
    times: int = 1,
    folder: pathlib.Path | None = None,
) -> Found:
    """Return what PyTorch's networks do, as functions that return their own seconds.

    Args:
        stack: Ends the workers.
        what: ``"train_step"`` or ``"forward"``.
        times: How often a call does it.
        folder: Where environments are kept.
    """
    found = Found()
    for name, requirements in TORCH.items():
        titles = {model: f"PyTorch {model}" for model in _MODELS[name]}
        try:
            python = environment(name, requirements, folder)
            worker = stack.enter_context(Worker(python, "torch_unet.py"))
            described = worker.ask(do="versions")
        except Unavailable as reason:
            found.notes.update(dict.fromkeys(titles.values(), str(reason)))
            continue
        found.versions.update(described["versions"])
        for model, title in titles.items():
            found.parameters[title] = described["parameters"][model]
            for precision in ("float32", "bfloat16"):
                request = {"do": what, "model": model, "precision": precision}
                _try(found, f"{title}, {precision}", worker, request, times)
    return found


def _try(found: Found, title: str, worker: Worker, request: dict, times: int) -> None:
    """Add the function of a request, or why it cannot be done."""

    def ask() -> float:
        return times * float(worker.ask(**request, repeats=times)["seconds"])

    try:
        worker.ask(**request, repeats=1)
    except Unavailable as reason:
        found.notes[title] = str(reason)
    else:
        found.functions[title] = ask


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Make the environments of peers.")
    options.add_argument("names", nargs="*", help=f"of {', '.join(TORCH)} (all)")
    options.add_argument("--peers-dir", type=pathlib.Path, help="where to keep them")
    options = options.parse_args()
    for each in options.names or TORCH:
        print(environment(each, TORCH[each], options.peers_dir))
