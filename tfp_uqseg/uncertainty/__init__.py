"""Network draws (TensorFlow) and the uncertainty measures they feed (NumPy)."""

from tfp_uqseg.uncertainty import draws, measures, network, test_time, volumes
from tfp_uqseg.uncertainty.draws import Prediction

__all__ = ["Prediction", "draws", "measures", "network", "test_time", "volumes"]
