"""Where the time of a Flipout training step goes, part by part."""

from __future__ import annotations

import tensorflow as tf

from benchmarks import measuring, networks, profiling
from tfp_uqseg.layers import noise

QUESTION = "Where does the time of a Flipout training step go?"
PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    """Measure, print and write."""
    options = measuring.parser(QUESTION).parse_args()
    images, masks = networks.batch()
    functions = {}
    for precision in PRECISIONS:
        model = networks.ours("flipout", precision)
        plain = networks.ours("deterministic", precision)
        functions[f"the whole step, {precision}"] = networks.train_step(
            model, images, masks
        )
        functions[f"a deterministic step, {precision}"] = networks.train_step(
            plain, images, masks
        )
        for name, run in parts(model, images).items():
            functions[f"{name}, {precision}"] = run
    rows = measuring.alternate(functions, options.rounds)
    profiles = [
        row
        for precision in PRECISIONS
        for row in profiling.rows(
            f"profile, {precision}",
            functions[f"the whole step, {precision}"],
            options.rounds,
        )
    ]
    measuring.report(
        "step_parts",
        QUESTION,
        [*rows.values(), *profiles],
        list(_shares(rows)),
        out=options.out,
        settings={
            **networks.described(),
            "profile": "seconds of a step by kind of operation, both threads added up",
        },
    )


def parts(model, images) -> dict:
    """Return the parts of a step that can be run alone."""
    key, variables = tf.constant([1, 2]), model.trainable_variables
    ones = [tf.ones_like(variable) * 1e-6 for variable in variables]

    @tf.function
    def kl():
        with tf.GradientTape() as tape:
            value = model.kl_divergence()
        return [x for x in tape.gradient(value, variables) if x is not None]

    @tf.function
    def draw():
        return [layer.sample_kernel(key) for layer in model.bayesian_layers]

    @tf.function
    def update():
        model.optimizer.apply_gradients(zip(ones, variables, strict=True))
        return model.optimizer.iterations

    @tf.function
    def forward():
        with noise.use(noise.TrainingScope(key)):
            return tf.convert_to_tensor(model(images, training=True))

    return {
        "KL and its gradient": lambda: [x.numpy() for x in kl()],
        "drawing the kernels": lambda: [x.numpy() for x in draw()],
        "the optimiser's update": lambda: update().numpy(),
        "the forward pass": lambda: forward().numpy(),
    }


def _shares(rows: dict):
    for precision in PRECISIONS:
        whole = rows[f"the whole step, {precision}"]
        for name, row in rows.items():
            if name.endswith(precision) and row is not whole:
                yield measuring.ratio(f"{name} / the whole step", row, whole)


if __name__ == "__main__":
    main()
