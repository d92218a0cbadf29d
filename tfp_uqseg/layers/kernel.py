"""What every layer with a posterior over its kernel shares.

A factorised normal posterior over the kernel and a point estimate of the bias. Layers
subclass `tfp.layers`, whose argument names they keep where both have the argument, and
replace its drawing, initialisation and serialisation.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_uqseg import _checks
from tfp_uqseg.layers import noise, priors

tfd = tfp.distributions

_SCALE_FLOOR = float(np.finfo(np.float32).eps)
#: Kernels that estimate the KL of a prior without closed form outside training.
KL_DRAWS = 8


class BayesianKernel:
    """What every layer with a posterior over its kernel shares.

    Subclasses give `_linear` (the map that is linear in the kernel), the kernel's shape
    and its fan-in (`layers.linear`), and `_respond`, the estimator that training uses
    (`layers.flipout`, `layers.local`, `layers.reparameterization`); this class gives
    the posterior, the prior, KL and draws.
    """

    is_stochastic = True

    def _settle(self, prior, centred, initial_stddev_ratio, kl_weight, use_bias, seed):
        """Check and keep the arguments that `tfp.layers` does not know."""
        self.prior = priors.check(prior)
        self.centred_prior = bool(centred)
        if self.centred_prior and not priors.has_closed_form(self.prior):
            raise ValueError(
                "`centred_prior` needs a normal prior, whose mean it moves; got "
                f"`prior`={self.prior!r}."
            )
        self.initial_stddev_ratio = _checks.positive(
            "initial_stddev_ratio", initial_stddev_ratio
        )
        self.initial_kl_weight = _checks.non_negative("kl_weight", kl_weight)
        self.use_bias = bool(use_bias)
        self.seed = noise.fresh_seed() if seed is None else int(seed)

    def _add_posterior(self, shape: tuple[int, ...], fan_in: float) -> None:
        """Create the variables: kernel mean and scale in float32, bias, KL weight."""
        self._kernel_shape, self._fan_in = tuple(shape), float(fan_in)
        he = priors.he_stddev(fan_in)
        raw_scale = math.log(math.expm1(self.initial_stddev_ratio * he))
        key = noise.initial_key(self.seed)
        self.kernel_loc = self._add(
            "kernel_posterior_loc",
            shape,
            lambda shape, dtype=None, **_: he * noise.normal(key, shape),
        )
        self.kernel_untransformed_scale = self._add(
            "kernel_posterior_untransformed_scale",
            shape,
            tf_keras.initializers.Constant(raw_scale),
        )
        self.bias = self.kernel_prior_loc = None
        if self.use_bias:
            self.bias = self._add("bias", (shape[self._output_axis],), "zeros")
        if self.centred_prior:
            self.kernel_prior_loc = self._add(
                "kernel_prior_loc", shape, "zeros", trainable=False
            )
        start = tf_keras.initializers.Constant(self.initial_kl_weight)
        self.kl_weight = self._add("kl_weight", (), start, trainable=False)

    def _add(self, name: str, shape, initializer, *, trainable=True) -> tf.Variable:
        """Return a new float32 variable that no policy casts."""
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            trainable=trainable,
            dtype=tf.float32,
            experimental_autocast=False,
        )

    _output_axis = -1

    @property
    def fan_in(self) -> float:
        """Inputs of one output, from which the He scale follows."""
        return self._fan_in

    @property
    def kernel_stddev(self) -> tf.Tensor:
        """Posterior standard deviation of every kernel entry, float32."""
        return _SCALE_FLOOR + tf.nn.softplus(self.kernel_untransformed_scale)

    @property
    def kernel_posterior(self) -> tfd.Distribution:
        """The factorised normal posterior q(w) of the kernel (for Eq. 1), one event."""
        normal = tfd.Normal(tf.convert_to_tensor(self.kernel_loc), self.kernel_stddev)
        return tfd.Independent(
            normal, reinterpreted_batch_ndims=len(self._kernel_shape)
        )

    @property
    def kernel_prior(self) -> tfd.Distribution:
        """The prior p(w) of the kernel, one event."""
        loc = self.kernel_prior_loc
        loc = None if loc is None else tf.convert_to_tensor(loc)
        return priors.distribution(self.prior, self._kernel_shape, self._fan_in, loc)

    def kl_divergence(self) -> tf.Tensor:
        """Return KL(q(w) || p(w)) of the kernel, Eq. 6: float32 scalar, nats.

        By Eq. 7 it replaces Eq. 3, that from q to the posterior.

        A scale mixture has no closed form. Then only -E_q[log p(w)] is estimated: in
        a training step by the kernel that the step draws, elsewhere by the mean over
        `KL_DRAWS` fixed ones.
        """
        if priors.has_closed_form(self.prior):
            return tfd.kl_divergence(self.kernel_posterior, self.kernel_prior)
        scope, prior = noise.current(), self.kernel_prior
        if isinstance(scope, noise.TrainingScope):
            cross_entropy = -prior.log_prob(self.sample_kernel(scope.key))
        else:
            draws = [
                prior.log_prob(self.sample_kernel(noise.draw_key(self.seed, draw)))
                for draw in range(KL_DRAWS)
            ]
            cross_entropy = -tf.add_n(draws) / KL_DRAWS
        return cross_entropy - self.kernel_posterior.entropy()

    def sample_kernel(self, key: tf.Tensor) -> tf.Tensor:
        """Return the kernel, float32, that `key` and the layer's seed determine."""
        key = noise.layer_key(key, self.seed, "kernel")
        return self.kernel_loc + self.kernel_stddev * noise.normal(
            key, self._kernel_shape
        )

    def draw_weights(self, key: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Return the kernel of the network draw `key`, in the compute dtype."""
        return (tf.cast(self.sample_kernel(key), self.compute_dtype),)

    def __call__(self, inputs, *args, **kwargs):
        """Apply the layer, to tensors of Keras 2 alone."""
        _checks.keras2("inputs", inputs)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs, training=None):
        """Apply the layer; see the module's text for which kernel is used."""
        inputs = tf.cast(inputs, self.compute_dtype)
        scope = noise.current()
        if isinstance(scope, noise.DrawScope):
            outputs = self._linear(inputs, *scope.weights_of(self))
        elif training:
            outputs = self._respond(inputs)
            if scope is None:
                self.add_loss(self.kl_weight * self.kl_divergence())
        else:
            mean_kernel = tf.cast(self.kernel_loc, self.compute_dtype)
            outputs = self._linear(inputs, mean_kernel)
        if self.bias is not None:
            outputs = tf.nn.bias_add(outputs, tf.cast(self.bias, self.compute_dtype))
        return outputs if self.activation is None else self.activation(outputs)

    def __repr__(self):
        shape = getattr(self, "_kernel_shape", None)
        kernel = "not built" if shape is None else f"kernel {shape}"
        kind = type(self).__name__
        return f"<{kind} {self.name!r}, {kernel}, prior={self.prior!r}>"

    def _respond(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the response, before the bias, of a step of training."""
        raise NotImplementedError

    def _shared_config(self) -> dict:
        """Return the plain values of the arguments that all Bayesian layers share."""
        return {
            **tf_keras.layers.Layer.get_config(self),
            "activation": tf_keras.activations.serialize(self.activation)
            if self.activation is not None
            else None,
            "use_bias": self.use_bias,
            "prior": self.prior,
            "centred_prior": self.centred_prior,
            "initial_stddev_ratio": self.initial_stddev_ratio,
            "kl_weight": self.initial_kl_weight,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict):
        """Build the layer from the plain values of `get_config`; runs no byte code."""
        return cls(**config)
