"""How long a draw of the network takes, beside every other stochastic forward pass."""

from __future__ import annotations

import contextlib

import numpy as np
import tensorflow as tf

from benchmarks import measuring, networks, peers, profiling
from tfp_uqseg.layers import noise
from tfp_uqseg.uncertainty import draws, moments, network

QUESTION = "How long does a draw of the network take?"
PRECISIONS = ("float32", "bfloat16")
BATCHES = 4
METHODS = (
    "mc_dropout",
    "flipout",
    "reparameterization",
    "local_reparameterization",
    "latent",
)
DRAWS = 20


def main() -> None:
    """Measure, print and write."""
    options = measuring.parser(QUESTION)
    peers.add_options(options)
    options = options.parse_args()
    with contextlib.ExitStack() as stack:
        functions = _single_draws()
        others = peers.Found()
        if not options.no_peers:
            others = peers.torch_functions(
                stack, "forward", times=BATCHES, folder=options.peers_dir
            )
        rows = measuring.alternate({**functions, **others.functions}, options.rounds)
    for name, note in others.notes.items():
        rows[name] = measuring.Row(name, [], note=note)
    ratios = list(_ratios(rows))
    predictions, shares = _predictions()
    more = measuring.alternate(predictions, max(3, options.rounds // 2), warm_up=1)
    ratios += list(_passes(more, shares))
    profiled = profiling.rows("profile of a draw of latent", _latent_draw(), 3)
    measuring.report(
        "draws",
        QUESTION,
        [*rows.values(), *more.values(), *profiled],
        ratios,
        out=options.out,
        settings={
            **networks.described(),
            **others.described(),
            "batches": BATCHES,
            "draws": DRAWS,
        },
        more_versions=others.versions,
    )


def _single_draws() -> dict:
    """Return one draw over four batches of every kind, and the deterministic pass."""
    images, _ = networks.batch()
    functions = {}
    for precision in PRECISIONS:
        for method in ("deterministic", "flipout"):
            model = networks.ours(method, precision)
            functions[f"{method}, {precision}"] = _draw(model, images)
    stock = networks.stock()
    run = tf.function(lambda x: stock(x, training=False))

    def forward():
        for _ in range(BATCHES):
            run(images).numpy()

    functions["stock tfp.layers, float32"] = forward
    return functions


def _draw(model, images):
    """Return a function that runs a new draw over the batches."""
    net, count = network.of(model), iter(range(10**9))
    inner = tf.constant(1)

    def run():
        key = noise.draw_key(0, next(count))
        weights = net.draw_weights(key)
        for _ in range(BATCHES):
            moments.probabilities(
                net, (net.prefix(images), key, weights, inner)
            ).numpy()

    run.model = model  # the network holds no reference to it
    return run


def _latent_draw():
    """Return what a draw of `latent` repeats on one batch; it has run before."""
    model = networks.ours("latent", _fast_precision())
    net, key = network.of(model), noise.draw_key(0, 0)
    drawn = (net.prefix(networks.batch()[0]), key, net.draw_weights(key))

    def run():
        moments.probabilities(net, (*drawn, tf.constant(1))).numpy()

    run.model = model
    run()
    return run


def _fast_precision() -> str:
    return "bfloat16" if measuring.has_fast_bfloat16() else "float32"


def _ratios(rows: dict):
    fast = measuring.has_fast_bfloat16()
    stock = rows["stock tfp.layers, float32"]
    bounds = {"float32": (1.7, 3.8), "bfloat16": (3.2, 6.5) if fast else (None, None)}
    for precision in PRECISIONS:
        drawn = rows[f"flipout, {precision}"]
        yield measuring.ratio(
            f"draw / deterministic, {precision}",
            drawn,
            rows[f"deterministic, {precision}"],
            1.15,
        )
        yield measuring.ratio(
            f"stock / draw, {precision}",
            stock,
            drawn,
            bounds[precision][0],
            at_most=False,
        )
        for name, row in rows.items():
            if name.startswith("PyTorch"):
                bound = bounds[precision][1] if "bayesian_torch" in name else None
                yield measuring.ratio(
                    f"{name} / draw, {precision}", row, drawn, bound, at_most=False
                )


def _predictions():
    """Return predictions of a few draws for every method, and their random shares."""
    precision = _fast_precision()
    images = np.concatenate([networks.batch(seed=i)[0].numpy() for i in range(BATCHES)])
    functions, shares = {}, {}

    def add(name: str, method: str, draws_: int, inner: int = 1):
        model = networks.ours(method, precision)
        fixed = networks.ours(method, precision, shape=networks.SHAPE[1:])
        shares[name] = inner * _share(fixed)
        functions[name] = lambda: draws.predict(
            model, images, draws_, num_latent_draws=inner
        )

    add("deterministic, one pass", "deterministic", 1)
    for method in METHODS:
        inner = draws.DEFAULT_LATENT_DRAWS if method == "latent" else 1
        add(f"{method}, {DRAWS} draws", method, DRAWS, inner)
    add(f"latent, {DRAWS} draws of one inner draw", "latent", DRAWS)
    return functions, shares


def _share(model) -> float:
    """Return the part of the operations that every draw repeats."""
    counted = networks.operations(model)
    _, suffix = network.split(model)
    repeated = {layer.name for layer in suffix.layers}
    return sum(v for name, v in counted.items() if name in repeated) / sum(
        counted.values()
    )


def _passes(rows: dict, shares: dict):
    once = rows["deterministic, one pass"]
    for name, row in rows.items():
        if row is once:
            continue
        small = shares[name] <= 0.15
        yield measuring.ratio(
            f"{name} / one deterministic pass",
            row,
            once,
            5.0 if small else None,
            note=f"a draw repeats {shares[name]:.0%} of a pass's operations",
        )


if __name__ == "__main__":
    main()
