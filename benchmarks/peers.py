"""Other packages, each in an environment of its own and spoken to line by line.

What they need (PyTorch, mostly) would not fit beside TensorFlow. An environment is made
from the package registry at the first use and kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import venv

WORKERS = pathlib.Path(__file__).parent / "workers"
#: Folder of the environments; another one by this variable.
VARIABLE = "TFP_UQSEG_PEERS"
FOLDER = pathlib.Path.home() / ".cache" / "tfp_uqseg_benchmarks"
#: PyTorch's own index of builds without GPU code; the registry's build will do too.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

TORCH = {
    "bayesian_torch": ["torch", "bayesian-torch==0.5.0"],
    "torch_uncertainty": ["torch", "torch-uncertainty"],
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
        folder: Where environments are kept.

    Raises:
        Unavailable: It cannot be made.
    """
    folder = folder or pathlib.Path(os.environ.get(VARIABLE, FOLDER))
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
    if "torch" in requirements:
        quick = ["--retries", "0", "--timeout", "10", "--index-url", CPU_INDEX]
        # Where that index is out of reach, the registry's build follows below.
        subprocess.run([*pip, *quick, "torch"], capture_output=True, text=True)
    subprocess.run([*pip, *requirements], capture_output=True, text=True, check=True)


class Worker(contextlib.AbstractContextManager):
    """A script of `workers/` that runs in an environment and answers requests.

    Args:
        python: Of the environment.
        script: File name below `workers/`, or a path.
    """

    def __init__(self, python: str | os.PathLike, script: str | os.PathLike):
        path = WORKERS / script  # an absolute path stays what it is
        self._process = subprocess.Popen(
            [str(python), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request) -> dict:
        """Return the answer to a request.

        Raises:
            Unavailable: The worker ended, or could not do what was asked.
        """
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            said = self._process.stderr.read().strip().splitlines()
            raise Unavailable(f"the worker ended: {said[-1] if said else 'no word'}")
        answer = json.loads(line)
        if "error" in answer:
            raise Unavailable(answer["error"])
        return answer

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()


def torch_functions(stack: contextlib.ExitStack, what: str, *, times: int = 1):
    """Return what PyTorch's networks do, as functions that return their own seconds.

    Args:
        stack: Ends the workers.
        what: ``"train_step"`` or ``"forward"``.
        times: How often a call does it.

    Returns:
        The functions by name; why others are missing, by name; versions.
    """
    functions, notes, versions = {}, {}, {}
    for name, requirements in TORCH.items():
        models = _MODELS[name]
        titles = {model: f"PyTorch {model}" for model in models}
        try:
            python = environment(name, requirements)
            worker = stack.enter_context(Worker(python, "torch_unet.py"))
            versions.update(worker.ask(do="versions"))
        except Unavailable as reason:
            notes.update(dict.fromkeys(titles.values(), str(reason)))
            continue
        for model in models:
            for precision in ("float32", "bfloat16"):
                title = f"{titles[model]}, {precision}"
                request = {"do": what, "model": model, "precision": precision}
                try:
                    worker.ask(**request, repeats=1)
                except Unavailable as reason:
                    notes[title] = str(reason)
                    continue
                functions[title] = _asker(worker, request, times)
    return functions, notes, versions


def _asker(worker: Worker, request: dict, times: int):
    def ask() -> float:
        return times * float(worker.ask(**request, repeats=times)["seconds"])

    return ask


if __name__ == "__main__":
    for each in sys.argv[1:] or TORCH:
        print(environment(each, TORCH[each]))
