"""What every uncertainty map means, in NumPy.

A stack of draws has shape (S, ..., K): the probabilities p_s of S network draws, each a
sigmoid per region. Entropies are binary, per region, in nats.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

#: Largest binary entropy, in nats.
MAX_ENTROPY = math.log(2.0)


def binary_entropy(probabilities) -> np.ndarray:
    """Return -p ln p - (1 - p) ln(1 - p), nats, 0 (sure) to ln 2.

    >>> [round(float(h), 3) for h in binary_entropy([0.0, 0.5, 1.0])]
    [0.0, 0.693, 0.0]
    """
    p = np.asarray(probabilities)
    return special.entr(p) + special.entr(1 - p)


def mean_probabilities(probabilities) -> np.ndarray:
    """Return the mean over draws (axis 0) of p_s (Eq. 10 on probabilities)."""
    return np.mean(probabilities, axis=0)


def predictive_entropy(probabilities) -> np.ndarray:
    """Return H[mean_s p_s], nats: all uncertainty of the prediction."""
    return binary_entropy(mean_probabilities(probabilities))


def expected_entropy(probabilities) -> np.ndarray:
    """Return mean_s H[p_s], nats: the aleatoric part.

    Eq. 21 over the draws of a network; over those of all members, Eq. 22.
    """
    return np.mean(binary_entropy(probabilities), axis=0)


def mutual_information(probabilities) -> np.ndarray:
    """Return `predictive_entropy` - `expected_entropy`, nats: the epistemic part.

    >>> mutual_information([[0.3], [0.3]])
    array([0.])
    """
    difference = predictive_entropy(probabilities) - expected_entropy(probabilities)
    return np.maximum(difference, 0.0)


def aleatoric_variance(probabilities) -> np.ndarray:
    """Return mean_s p_s (1 - p_s), probability^2, 0 to 1/4."""
    p = np.asarray(probabilities)
    return np.mean(p * (1 - p), axis=0)


def epistemic_variance(probabilities) -> np.ndarray:
    """Return var_s p_s (over S), probability^2, 0 to 1/4.

    With `aleatoric_variance` it adds up to the total variance p (1 - p) of the mean p.
    """
    return np.var(probabilities, axis=0)


def expected_sigmoid(loc, stddev) -> np.ndarray:
    """Return E[sigmoid(logit)] for normal logits, by 8-node Gauss-Hermite quadrature.

    Beyond a standard deviation of two, sigmoid(loc / sqrt(1 + pi stddev^2 / 8)).
    """
    loc, stddev = np.asarray(loc), np.asarray(stddev)
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    spread = special.expit(loc[..., None] + stddev[..., None] * nodes)
    probit = special.expit(loc / np.sqrt(1 + math.pi / 8 * np.square(stddev)))
    return np.where(stddev <= 2.0, spread @ (weights / weights.sum()), probit)


def scaled_uncertainty(entropy) -> np.ndarray:
    """Return a binary entropy on the QU-BraTS scale, 0 (sure) to 100."""
    return np.clip(100.0 / MAX_ENTROPY * np.asarray(entropy), 0.0, 100.0)
