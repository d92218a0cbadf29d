"""Reading B: the deep weight prior of :cite:t:`atanov2019`, Algorithm 1 read literally.

There w is one slice of a kernel (3x3, say), and p(w) = integral p(w|z) N(z; 0, 1) dz
is learned from the kernels of networks that were trained on related data. For a kernel
with a factorised normal posterior q(w), in expectation over w ~ q and z ~ r(z|w),

    - H[q(w)] + sum over slices [ KL(r(z|w) || N(0, 1)) - log p(w|z) ]

is an upper bound of KL(q(w) || p(w)): Eq. 13, mended. The decoder p(w|z) (phi) stays as
it was fitted, the encoder r(z|w) (psi) learns with the network (Eq. 14). Slices are
measured in units of their layer, w = s v, so that log p(w|z) = log p(v|z) - D log s.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks, _files
from tfp_uqseg.layers import latent, noise, priors

LATENT_SIZE, HIDDEN = 10, 64
#: In units of the layer: keeps the density of a decoder that is sure of itself finite.
MIN_STDDEV = 0.05
_PARTS = ("encoder", "decoder")
_LOG_2PI = math.log(2.0 * math.pi)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class KernelPrior:
    """A fitted deep weight prior: one variational autoencoder per kernel extent.

    Attributes:
        parameters: Arrays by name, ``"3x3/encoder0/kernel"``.
        scales: Unit of the kernels of each layer, by layer name; a layer that is absent
            has the He scale.
        latent_size: Length of the code z of a slice.
        bounds: By extent, nats per slice in units of the layer: mean negative log
            density of the slices it was fitted on, bounded by the autoencoder, and that
            under N(0, 1).
    """

    parameters: Mapping[str, np.ndarray]
    scales: Mapping[str, float]
    latent_size: int = LATENT_SIZE
    bounds: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def extents(self) -> tuple[str, ...]:
        """The kernel extents that have an autoencoder, such as ``("2x2", "3x3")``."""
        return tuple(sorted({name.partition("/")[0] for name in self.parameters}))

    def sample(self, extent: str, count: int, *, seed: int = 0) -> np.ndarray:
        """Draw kernel slices v ~ p(v|z) with z ~ N(0, 1).

        Args:
            extent: One of `extents`, such as ``"3x3"``.
            count: Number S of slices.
            seed: Of code and noise.

        Returns:
            Float32 (S, D) in units of the layer, D the entries of a slice.

        Raises:
            ValueError: The prior has no such extent.
        """
        _checks.one_of("extent", extent, self.extents)
        own = _of_extent(self.parameters, extent)
        codes, entries = noise.draw_key(seed, 0), noise.draw_key(seed, 1)
        code = noise.normal(codes, (count, self.latent_size))
        mean, stddev = _answer(own, "decoder", code)
        return (mean + stddev * noise.normal(entries, tf.shape(mean))).numpy()

    def settings(self) -> dict:
        """Return plain values from which `unfitted` makes a prior of these shapes."""
        return {
            "shapes": {name: list(v.shape) for name, v in self.parameters.items()},
            "scales": dict(self.scales),
            "latent_size": self.latent_size,
        }

    def save(self, path: str | os.PathLike) -> None:
        """Write the prior to one .npz file, whole or not at all."""
        described = json.dumps(
            {
                "scales": dict(self.scales),
                "latent_size": self.latent_size,
                "bounds": {name: list(pair) for name, pair in self.bounds.items()},
            }
        )
        with _files.whole_file(path) as temporary, open(temporary, "wb") as file:
            content = {"__description__": np.array(described), **self.parameters}
            np.savez(file, allow_pickle=False, **content)

    def __repr__(self):
        return f"KernelPrior(extents={self.extents}, latent_size={self.latent_size})"


def load(path: str | os.PathLike) -> KernelPrior:
    """Read a prior that `KernelPrior.save` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        described = json.loads(str(arrays.pop("__description__")))
        bounds = {name: tuple(pair) for name, pair in described.pop("bounds").items()}
    except (KeyError, ValueError, OSError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"{path} must hold a kernel prior; it cannot be read ({error}). Fit one "
            "with `models.deep_weight.fit`."
        ) from error
    return KernelPrior(arrays, bounds=bounds, **described)


def extent_of(kernel) -> str:
    """Return the spatial extent of a kernel ``(*extent, a, b)``, such as ``"3x3"``."""
    return "x".join(str(size) for size in kernel.shape[:-2])


def slices_of(kernel) -> tf.Tensor:
    """Return the spatial slices of a kernel ``(*extent, a, b)``: (a b, D)."""
    rank = kernel.shape.rank
    moved = tf.transpose(kernel, [rank - 2, rank - 1, *range(rank - 2)])
    return tf.reshape(moved, [-1, math.prod(kernel.shape[:-2])])


def collect(networks: Sequence[tf_keras.Model]) -> tuple[dict, dict]:
    """Return the kernel slices of trained networks, and the unit of each layer.

    Args:
        networks: Of any method of `models.build`; posterior means count as kernels.

    Returns:
        Slices by extent, float32 (S, D), each divided by its layer's unit; and the
        units by layer name: root mean square of the layer's kernels over the networks.
    """
    kernels: dict[str, list] = {}
    for network in networks:
        for layer in network.layers:
            kernel = getattr(layer, "kernel_loc", None)
            kernel = getattr(layer, "kernel", None) if kernel is None else kernel
            if kernel is not None and math.prod(kernel.shape[:-2]) > 1:
                kernels.setdefault(layer.name, []).append(tf.convert_to_tensor(kernel))
    if not kernels:
        raise ValueError(
            "`networks` must hold convolutions wider than one voxel; found none."
        )
    scales, slices = {}, {}
    for name, found in kernels.items():
        scales[name] = float(np.sqrt(np.mean([np.square(k) for k in found])))
        for kernel in found:
            parts = slices.setdefault(extent_of(kernel), [])
            parts.append(slices_of(kernel).numpy() / scales[name])
    return {extent: np.concatenate(parts) for extent, parts in slices.items()}, scales


def initial_parameters(size: int, latent_size: int, seed: int) -> dict:
    """Return an autoencoder of slices with `size` entries that answers N(0, 1)."""
    widths = {
        "encoder": (size, HIDDEN, HIDDEN, 2 * latent_size),
        "decoder": (latent_size, HIDDEN, HIDDEN, 2 * size),
    }
    rng, parameters = np.random.default_rng((seed, size)), {}
    for part in _PARTS:
        for index in range(3):
            shape = widths[part][index : index + 2]
            spread = priors.he_stddev(shape[0]) if index < 2 else 0.0
            kernel = spread * rng.standard_normal(shape)
            parameters[f"{part}{index}/kernel"] = kernel.astype(np.float32)
            parameters[f"{part}{index}/bias"] = np.zeros(shape[1], np.float32)
    return parameters


def unfitted(
    extents: Sequence[Sequence[int]], *, latent_size: int = LATENT_SIZE, seed: int = 0
) -> KernelPrior:
    """Return a prior that knows nothing yet: N(0, He scale) for every kernel entry."""
    parameters = {}
    for extent in extents:
        start = initial_parameters(math.prod(extent), latent_size, seed)
        name = "x".join(str(size) for size in extent)
        parameters.update({f"{name}/{key}": value for key, value in start.items()})
    return KernelPrior(parameters, {}, latent_size)


def _of_extent(parameters: Mapping, extent: str) -> dict:
    """Return the parameters of one autoencoder, by name without the extent."""
    prefix = f"{extent}/"
    return {
        name.removeprefix(prefix): value
        for name, value in parameters.items()
        if name.startswith(prefix)
    }


def _answer(parameters, part: str, tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return mean and standard deviation that one half of an autoencoder gives."""
    for index in range(3):
        kernel = parameters[f"{part}{index}/kernel"]
        tensor = tf.matmul(tensor, kernel) + parameters[f"{part}{index}/bias"]
        tensor = tf.nn.elu(tensor) if index < 2 else tensor
    floor = MIN_STDDEV if part == "decoder" else latent.MIN_STDDEV
    return latent.split_parameters(tensor, 1.0 - floor, min_stddev=floor)


def negative_log_density(parameters, slices, key) -> tf.Tensor:
    """Return a one-sample bound of -log p(v) for every slice.

    Args:
        parameters: Of one autoencoder, by name without the extent.
        slices: (S, D) in units of the layer.
        key: int32 (2,), of the code's noise.

    Returns:
        (S,), nats: KL(r(z|v) || N(0, 1)) - log p(v|z), at least -log p(v) on average.
    """
    loc, stddev = _answer(parameters, "encoder", slices)
    variance = tf.square(stddev)
    code_kl = 0.5 * (variance + tf.square(loc) - 1.0 - tf.math.log(variance))
    code = loc + stddev * noise.normal(key, tf.shape(loc))
    mean, spread = _answer(parameters, "decoder", code)
    error = tf.square((slices - mean) / spread)
    log_density = -0.5 * (error + 2.0 * tf.math.log(spread) + _LOG_2PI)
    return tf.reduce_sum(code_kl, axis=-1) - tf.reduce_sum(log_density, axis=-1)


def kl_bound(layer, parameters, scales, key) -> tf.Tensor:
    """Return a one-sample bound of KL(q(w) || p(w)) of a layer: float32 scalar, nats.

    Args:
        layer: A Bayesian layer whose kernel has an extent of the prior.
        parameters: Variables or arrays by name, as in `KernelPrior.parameters`.
        scales: As in `KernelPrior.scales`.
        key: int32 (2,); the kernel is the one that a step with this key draws.
    """
    kernel = layer.sample_kernel(key)
    own = _of_extent(parameters, extent_of(kernel))
    scale = scales.get(layer.name, priors.he_stddev(layer.fan_in))
    slices = slices_of(kernel) / scale
    code_key = noise.layer_key(key, layer.seed, "latent")
    density = tf.reduce_sum(negative_log_density(own, slices, code_key))
    size = float(math.prod(kernel.shape))
    return density + size * math.log(scale) - layer.kernel_posterior.entropy()


def fit(
    networks: Sequence[tf_keras.Model],
    *,
    latent_size: int = LATENT_SIZE,
    steps: int = 2000,
    batch_size: int = 512,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> KernelPrior:
    """Return the prior whose autoencoders were fitted to the kernels of `networks`.

    The decoder takes its steps here, with the gradient of Eq. 15.

    Args:
        networks: Trained networks whose layers resemble those that the prior is for;
            the data they were trained on must not hold the patients it is tested on.
        latent_size: Length of the code of a slice (Table 1 has ten).
        steps: Optimisation steps of each autoencoder (Adam).
        batch_size: Slices of a step.
        learning_rate: At the start; it falls to zero along half a cosine.
        seed: Of initial values, order and noise.

    Returns:
        The prior, with what was reached in `KernelPrior.bounds`.
    """
    _checks.positive_integer("latent_size", latent_size)
    _checks.positive_integer("steps", steps)
    slices, scales = collect(networks)
    parameters, bounds = {}, {}
    for extent, values in sorted(slices.items()):
        start = initial_parameters(values.shape[1], latent_size, seed)
        fitted, bound = _fit_one(start, values, steps, batch_size, learning_rate, seed)
        normal = 0.5 * np.mean(np.sum(values**2 + _LOG_2PI, axis=1))
        bounds[extent] = (bound, float(normal))
        parameters.update({f"{extent}/{name}": v for name, v in fitted.items()})
    return KernelPrior(parameters, scales, latent_size, bounds)


def _fit_one(start, values, steps, batch_size, learning_rate, seed):
    """Return the fitted parameters of one autoencoder and the bound they reach."""
    variables = {name: tf.Variable(value) for name, value in start.items()}
    rate = tf_keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    optimizer = tf_keras.optimizers.Adam(rate)
    optimizer.build(list(variables.values()))
    rng, batch_size = np.random.default_rng(seed), min(batch_size, len(values))

    @tf.function(reduce_retracing=True)
    def step(batch, number):
        key = noise.fold_in(noise.draw_key(seed, 0), number)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(negative_log_density(variables, batch, key))
        optimizer.minimize(loss, list(variables.values()), tape=tape)

    for number in range(steps):
        batch = values[rng.integers(len(values), size=batch_size)]
        step(tf.constant(batch), tf.constant(number))
    key = noise.draw_key(seed, 1)
    bound = tf.reduce_mean(negative_log_density(variables, tf.constant(values), key))
    return {name: v.numpy() for name, v in variables.items()}, float(bound)
