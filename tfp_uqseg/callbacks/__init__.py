"""Callbacks that know about Bayesian layers, and that a resumed run continues."""

from tfp_uqseg.callbacks.annealing import KLAnnealing
from tfp_uqseg.callbacks.backup import resumed_epoch
from tfp_uqseg.callbacks.cyclical import CyclicalLearningRate
from tfp_uqseg.callbacks.finder import FoundRates, find_learning_rate
from tfp_uqseg.callbacks.memory import Memory, in_order
from tfp_uqseg.callbacks.plateau import ReduceLROnPlateau
from tfp_uqseg.callbacks.stopping import EarlyStopping, has_stopped

__all__ = [
    "CyclicalLearningRate",
    "EarlyStopping",
    "FoundRates",
    "KLAnnealing",
    "Memory",
    "ReduceLROnPlateau",
    "find_learning_rate",
    "has_stopped",
    "in_order",
    "resumed_epoch",
]
