"""What a graphics card makes of it: precisions, XLA, draws folded into the batch."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from benchmarks import measuring, networks
from tfp_uqseg.layers import noise
from tfp_uqseg.uncertainty import moments, network

QUESTION = "What do precisions, XLA and folded draws give on this device?"
PRECISIONS = ("float32", "bfloat16", "float16")
_FOLDED = 4


def main() -> None:
    """Measure, print and write."""
    options = measuring.parser(QUESTION)
    options.add_argument(
        "--device", choices=("gpu", "cpu"), default="gpu", help="cpu: a rehearsal"
    )
    options.add_argument("--size", type=int, default=networks.SHAPE[1], help="voxels")
    options.add_argument("--batch", type=int, default=networks.SHAPE[0], help="images")
    options = options.parse_args()
    if options.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise SystemExit("There is no GPU here; `--device cpu` rehearses the code.")
    shape = (options.batch, options.size, options.size, networks.SHAPE[-1])
    with tf.device(f"/{options.device.upper()}:0"):
        rows = measuring.alternate(functions(shape), options.rounds)
    _add_rates(rows)
    measuring.report(
        "gpu",
        QUESTION,
        list(rows.values()),
        list(_ratios(rows)),
        out=options.out,
        settings={"device": _name(options.device), "input": list(shape)},
    )


def _name(device: str) -> str:
    if device == "cpu":
        return "the processor: a rehearsal, no figure of a card"
    card = tf.config.list_physical_devices("GPU")[0]
    details = tf.config.experimental.get_device_details(card)
    return str(details.get("device_name", "unknown"))


def functions(shape: tuple) -> dict:
    """Return steps and draws in every precision, and what bounds them."""
    images, masks = networks.batch(shape)
    made = {}
    for precision in PRECISIONS:
        for xla in (False, True):
            ending = f"{precision}{', XLA' if xla else ''}"
            for method in ("deterministic", "flipout"):
                model = networks.ours(method, precision)
                step = networks.train_step(model, images, masks, xla=xla)
                made[f"training step, {method}, {ending}"] = step
            model = networks.ours("flipout", precision)
            for name, run in draws_of(model, images, xla=xla).items():
                made[f"{name}, {ending}"] = run
        made[f"matrix product, {precision}"] = _product(precision)
    made["copy of 256 MB"] = _copy()
    return made


def draws_of(model, images, *, xla: bool) -> dict:
    """Return draws one after the other, and the same ones as one batch."""
    net, inner = network.of(model), tf.constant(1)

    @tf.function(jit_compile=xla)
    def one(key):
        weights = net.draw_weights(key)
        return moments.of_draw(net, [images], key, weights, inner)[0]

    @tf.function(jit_compile=xla)
    def folded(keys):
        return tf.vectorized_map(one.python_function, keys)

    keys = tf.stack([noise.draw_key(0, draw) for draw in range(_FOLDED)])
    found = {
        f"{_FOLDED} draws, one by one": lambda: [one(key).numpy() for key in keys],
        f"{_FOLDED} draws, folded": lambda: folded(keys).numpy(),
    }
    one.model = model  # the network holds no reference to it
    return found


def _product(precision: str):
    dtype = tf.as_dtype(precision)
    square = tf.cast(tf.random.stateless_normal([2048, 2048], [0, 1]), dtype)
    run = tf.function(lambda a: tf.linalg.matmul(a, a))
    return lambda: run(square)[0, 0].numpy()


def _copy():
    source = tf.Variable(tf.zeros([64 * 2**20]))
    run = tf.function(lambda: tf.identity(source + 1.0))
    return lambda: run()[0].numpy()


def _add_rates(rows: dict) -> None:
    for precision in PRECISIONS:
        seconds = rows.pop(f"matrix product, {precision}").values
        rates = [2.0 * 2048**3 / value / 1e9 for value in seconds]
        name = f"matrix product, {precision}"
        rows[name] = measuring.Row(name, rates, "GFLOP/s")
    seconds = rows.pop("copy of 256 MB").values
    rates = [2 * 4 * 64 * 2**20 / value / 1e9 for value in seconds]
    rows["copy"] = measuring.Row("copy", rates, "GB/s")


def _ratios(rows: dict):
    for ending in np.ravel([[p, f"{p}, XLA"] for p in PRECISIONS]):
        yield measuring.ratio(
            f"training step, flipout / deterministic, {ending}",
            rows[f"training step, flipout, {ending}"],
            rows[f"training step, deterministic, {ending}"],
        )
        yield measuring.ratio(
            f"draws folded / one by one, {ending}",
            rows[f"{_FOLDED} draws, folded, {ending}"],
            rows[f"{_FOLDED} draws, one by one, {ending}"],
        )


if __name__ == "__main__":
    main()
