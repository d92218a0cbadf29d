"""How long a training step takes, beside every other implementation."""

from __future__ import annotations

import contextlib
import unittest.mock

from benchmarks import measuring, networks, peers
from tfp_uqseg.layers import flipout

QUESTION = "How long does a training step of a Flipout U-Net take?"
PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    """Measure, print and write."""
    options = measuring.parser(QUESTION)
    peers.add_options(options)
    options.add_argument("--xla", action="store_true", help="compiled steps too")
    options = options.parse_args()
    with contextlib.ExitStack() as stack:
        functions, operations = _tensorflow(options.xla)
        others = peers.Found()
        if not options.no_peers:
            others = peers.torch_functions(
                stack, "train_step", folder=options.peers_dir
            )
        rows = measuring.alternate({**functions, **others.functions}, options.rounds)
    for name, note in others.notes.items():
        rows[name] = measuring.Row(name, [], note=note)
    _add_rates(rows, operations)
    measuring.report(
        "training_step",
        QUESTION,
        list(rows.values()),
        list(_ratios(rows)),
        out=options.out,
        settings={**networks.described(), **others.described()},
        more_versions=others.versions,
    )


def _tensorflow(xla: bool):
    """Return the steps of TensorFlow's networks, and the operations of a step."""
    images, masks = networks.batch()
    functions = {}
    for precision in PRECISIONS:
        for method in ("deterministic", "flipout"):
            model = networks.ours(method, precision)
            name = f"{method}, {precision}"
            functions[name] = networks.train_step(model, images, masks)
            if xla:
                model = networks.ours(method, precision)
                step = networks.train_step(model, images, masks, xla=True)
                functions[f"{name}, XLA"] = step
        with unittest.mock.patch.object(
            flipout, "_runs_by_example", return_value=False
        ):
            model = networks.ours("flipout", precision)
            step = networks.train_step(model, images, masks)
            step()  # traced as two convolutions of the batch
        functions[f"flipout as two convolutions, {precision}"] = step
        product, _ = networks.matrix_product(precision)
        functions[f"matrix product, {precision}"] = product
    functions["stock tfp.layers, float32"] = networks.train_step(
        networks.stock(), images, masks
    )
    fixed = networks.ours("deterministic", shape=networks.SHAPE[1:])
    forward = sum(networks.operations(fixed).values()) * networks.SHAPE[0]
    return functions, 3.0 * forward


def _add_rates(rows: dict, operations: float) -> None:
    """Add what part of the arithmetic's own speed is reached."""
    for precision in PRECISIONS:
        product = rows.pop(f"matrix product, {precision}")
        count = networks.matrix_product(precision)[1]
        rates = [count / seconds / 1e9 for seconds in product.values]
        name = f"matrix product, {precision}"
        rows[name] = measuring.Row(name, rates, "GFLOP/s")
        for method in ("deterministic", "flipout"):
            step = rows[f"{method}, {precision}"]
            rates = [operations / seconds / 1e9 for seconds in step.values]
            name = f"convolutions of a {method} step, {precision}"
            rows[name] = measuring.Row(
                name, rates, "GFLOP/s", "three convolutions a layer, one forward"
            )


def _ratios(rows: dict):
    fast = measuring.has_fast_bfloat16()
    stock = rows["stock tfp.layers, float32"]
    without = "" if fast else "no bfloat16 instructions here: the bound does not hold"
    yield measuring.ratio(
        "flipout float32 / stock", rows["flipout, float32"], stock, 1.02
    )
    yield measuring.ratio(
        "flipout bfloat16 / stock",
        rows["flipout, bfloat16"],
        stock,
        0.60 if fast else None,
        note=without,
    )
    for precision in PRECISIONS:
        yield measuring.ratio(
            f"flipout / deterministic, {precision}",
            rows[f"flipout, {precision}"],
            rows[f"deterministic, {precision}"],
        )
        yield measuring.ratio(
            f"flipout / flipout as two convolutions, {precision}",
            rows[f"flipout, {precision}"],
            rows[f"flipout as two convolutions, {precision}"],
        )
    bound = {"bayesian_torch": 0.40 if fast else None}
    for name, row in rows.items():
        if name.startswith("PyTorch"):
            kind = next((key for key in bound if key in name), None)
            yield measuring.ratio(
                f"flipout bfloat16 / {name}",
                rows["flipout, bfloat16"],
                row,
                bound.get(kind),
                note=row.note or without,
            )


if __name__ == "__main__":
    main()
