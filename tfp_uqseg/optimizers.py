"""Optimisers whose weight decay keeps off everything that is no kernel.

Decoupled weight decay multiplies a kernel by 1 - rate * decay before each step. On a
posterior's scale, a bias or the parameters of a normalisation it would pull towards an
arbitrary point: the untransformed scale of 0 is a standard deviation of 0.69. Keras's
`exclude_from_weight_decay` is forgotten when a model is saved; these classes are not.
"""

from __future__ import annotations

import tf_keras

from tfp_uqseg import _checks

_PACKAGE = "tfp_uqseg"

#: Decay of `SGD` where none is given, that of :cite:t:`sagar2020`.
SGD_WEIGHT_DECAY = 0.0005


def is_decayed(variable) -> bool:
    """Return whether weight decay applies to a variable: to means of kernels alone.

    Left out are posterior scales, biases, the encoder of a deep weight prior, and
    everything else whose own name does not say ``kernel``, such as offsets and scales
    of normalisations.

    Args:
        variable: A weight of a layer.
    """
    place, _, name = variable.name.rpartition("/")
    of_prior = place.startswith("kernel_prior")
    return "kernel" in name and "scale" not in name and not of_prior


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Adam(tf_keras.optimizers.Adam):
    """Adam with decoupled weight decay on kernels alone.

    Args:
        learning_rate: The rate, or a Keras schedule.
        weight_decay: The decay, at least 0; none if None.
        **kwargs: Further arguments of `tf_keras.optimizers.Adam`.
    """

    def __init__(self, learning_rate=0.001, weight_decay=None, **kwargs):
        super().__init__(learning_rate, weight_decay=_decay(weight_decay), **kwargs)

    def _use_weight_decay(self, variable):
        return is_decayed(variable) and super()._use_weight_decay(variable)


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class SGD(tf_keras.optimizers.SGD):
    """Gradient descent with momentum and decoupled weight decay on kernels alone.

    Momentum and decay are those of :cite:t:`sagar2020`, where the decay is probably
    part of the gradient; here it does not pass through the momentum.

    Args:
        learning_rate: The rate, or a Keras schedule.
        momentum: Share of the last step that goes on, from 0 to 1.
        weight_decay: The decay, at least 0; none if None.
        **kwargs: Further arguments of `tf_keras.optimizers.SGD`.
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=SGD_WEIGHT_DECAY,
        **kwargs,
    ):
        super().__init__(
            learning_rate, momentum, weight_decay=_decay(weight_decay), **kwargs
        )

    def _use_weight_decay(self, variable):
        return is_decayed(variable) and super()._use_weight_decay(variable)


OPTIMIZERS = {"adam": Adam, "sgd": SGD}


def make(
    name: str, learning_rate: float, *, weight_decay: float | None = None
) -> tf_keras.optimizers.Optimizer:
    """Return the optimiser called `name`.

    Args:
        name: ``"adam"`` or ``"sgd"``.
        learning_rate: The rate.
        weight_decay: The decay, at least 0; None takes none for Adam and 0.0005 for
            SGD.

    Raises:
        ValueError: If `name` is another, or `weight_decay` below 0.
    """
    _checks.one_of("name", name, OPTIMIZERS)
    given = {} if weight_decay is None else {"weight_decay": weight_decay}
    return OPTIMIZERS[name](learning_rate, **given)


def _decay(value: float | None) -> float | None:
    return None if value is None else _checks.non_negative("weight_decay", value)
