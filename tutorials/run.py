"""Runs the notebooks of this folder in a new process each.

    python tutorials/run.py            run all, and keep their outputs in the files
    python tutorials/run.py --check    run copies with small values, keep nothing

The small values stand in the metadata, entry `small`, of the cell tagged `parameters`.
The code of folded solutions runs too, as a cell of its own that is not kept.
Notebooks work in a temporary folder, so that what they write is gone afterwards.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import pathlib
import re
import sys
import tempfile
import time

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).resolve().parent
MAX_SECONDS = 900
SOLUTION = {"tags": ["solution"]}


def run(path: pathlib.Path, *, small: bool) -> nbformat.NotebookNode:
    """Return the notebook at `path` with the outputs of a new run.

    Args:
        path: The notebook.
        small: Whether to put the small values in place of the cell tagged
            `parameters`.
    """
    notebook = nbformat.read(path, as_version=4)
    if small:
        use_small_values(notebook)
    add_solutions(notebook)
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook,
            timeout=MAX_SECONDS,
            kernel_name="python3",
            record_timing=False,
            # It warns of talking to itself without encryption.
            extra_arguments=["--IPKernelApp.log_level=40"],
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    # The version of Python would change with the machine that ran it last.
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    return notebook


def use_small_values(notebook: nbformat.NotebookNode) -> None:
    """Replace the source of the cell tagged `parameters` by its small values."""
    cells = [
        cell
        for cell in notebook.cells
        if "parameters" in cell.metadata.get("tags", []) and "small" in cell.metadata
    ]
    if len(cells) != 1:
        raise ValueError(
            "A notebook must have one cell with the tag `parameters` and the metadata "
            f"entry `small`; found {len(cells)}."
        )
    cells[0].source = cells[0].metadata["small"]


def add_solutions(notebook: nbformat.NotebookNode) -> None:
    """Put the code of every folded solution in a cell of its own, where it stands."""
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            for folded in re.findall(r"<details>.*?</details>", cell.source, re.DOTALL):
                for code in re.findall(r"```python\n(.*?)```", folded, re.DOTALL):
                    cells.append(nbformat.v4.new_code_cell(code, metadata=SOLUTION))
    notebook.cells = cells


def complaints(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what the notebook wrote to standard error."""
    return [
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ]


def run_one(path: pathlib.Path, *, small: bool) -> bool:
    """Run a notebook, say how long it took, and return whether it was clean."""
    start = time.monotonic()
    try:
        notebook = run(path, small=small)
    except nbclient.exceptions.CellExecutionError as error:
        print(f"{path.name} failed:\n{error}", flush=True)
        return False
    told = complaints(notebook)
    for text in told:
        print(f"{path.name} wrote to standard error:\n{text}")
    if not small:
        kept = [each for each in notebook.cells if each.metadata != SOLUTION]
        notebook.cells = kept
        nbformat.write(notebook, path)
    print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)
    return not told


def main() -> int:
    """Run the notebooks that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks to run; all if none")
    parser.add_argument(
        "--check", action="store_true", help="small values, outputs are not kept"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="notebooks at a time (1)"
    )
    arguments = parser.parse_args()
    paths = [pathlib.Path(name) for name in arguments.names]
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        found = pool.map(
            lambda path: run_one(path, small=arguments.check),
            paths or sorted(FOLDER.glob("*.ipynb")),
        )
        return int(not all(found))


if __name__ == "__main__":
    sys.exit(main())
