"""Watching one number of the logs for improvement."""

from __future__ import annotations

import math
import re
import sys
import warnings
import zlib

import tf_keras

from tfp_uqseg import _checks
from tfp_uqseg.callbacks import memory

MODES = ("auto", "min", "max")
_HIGHER_IS_BETTER = re.compile(
    r"(?:^|_)(?:dice|iou|acc\w*|auc|precision|recall)(?:_|$)"
)
_HOLDS_KL = re.compile(
    r"^loss$|(?:^|_)(?:kld?|kullback\w*|n?elbo)(?:_|$)|latent_bound|divergence"
)


class Monitor(memory.Remembering):
    """Abstract: count the epochs in which a number of the logs has not improved.

    Epochs in which a `models.Segmenter` with Bayesian layers still phases its KL terms
    in (`annealing` below 1) do not count: its objective is another from step to step.

    Args:
        monitor: Name in the logs of an epoch.
        patience: Epochs without improvement, above 0.
        verbose: 1 to say what is done, 0 for silence.
        mode: ``"min"``, ``"max"``, or ``"auto"``: a Dice, IoU, accuracy, AUC, precision
            or recall should rise, everything else fall.
        min_delta: Least change that counts as improvement, at least 0.
        allow_kl: Whether `monitor` may contain KL.

    Raises:
        ValueError: If an argument is out of its range, or `monitor` contains KL.
    """

    #: Of the fields of `memory.FIELDS`.
    kind: str

    def __init__(self, monitor, patience, verbose, mode, min_delta, allow_kl):
        super().__init__()
        self.monitor = monitor
        self.patience = _checks.positive_integer("patience", patience)
        _checks.one_of("verbose", verbose, (0, 1))
        self.verbose = verbose
        _checks.one_of("mode", mode, MODES)
        self.mode = mode
        self.min_delta = _checks.non_negative("min_delta", min_delta)
        self.allow_kl = allow_kl
        self._warned = False
        # The `val_loss` of a Segmenter is free of KL; which model it is shows later.
        watched = monitor.lower().removeprefix("val_")
        if not allow_kl and monitor != "val_loss" and _HOLDS_KL.search(watched):
            self._refuse_kl()

    def _refuse_kl(self) -> None:
        raise ValueError(
            "`monitor` must be a number without KL, which falls for its own reasons, "
            f"such as 'val_data_loss' or 'val_dice'; got {self.monitor!r}. Pass "
            "`allow_kl=True` to watch it nevertheless."
        )

    def on_train_begin(self, logs=None):
        """Refuse a validation loss that contains KL."""
        super().on_train_begin(logs)
        self._warned = False
        if self.monitor != "val_loss" or self.allow_kl:
            return
        if not hasattr(self.model, "annealing") and any(
            hasattr(layer, name)
            for layer in self.model.submodules
            for name in ("kl_divergence", "kernel_divergence_fn")
        ):
            self._refuse_kl()

    def _observe(self, logs, baseline: float | None = None) -> int | None:
        """Count the epoch.

        Returns:
            The epochs without improvement, 0 after one that is the best so far, None if
            the epoch does not count.
        """
        current = (logs or {}).get(self.monitor)
        if current is None:
            self._say_missing(logs or {})
            return None
        if self._warming_up():
            return None
        self._forget_other_monitor()
        wait = int(self._get("wait")) + 1
        if not self._improves(current, self._get("best")):
            self._put(wait=wait)
            return wait
        beaten = baseline is None or self._improves(current, baseline)
        self._put(best=float(current), wait=0 if beaten else wait)
        return 0

    def _improves(self, current: float, best: float) -> bool:
        if math.isnan(best):
            return math.isfinite(current)
        gain = current - best if self._rises() else best - current
        return gain > self.min_delta

    def _rises(self) -> bool:
        if self.mode == "auto":
            return bool(_HIGHER_IS_BETTER.search(self.monitor.lower()))
        return self.mode == "max"

    def _warming_up(self) -> bool:
        if not getattr(self.model, "bayesian_layers", ()):
            return False
        return tf_keras.backend.get_value(self.model.annealing) < 1.0

    def _forget_other_monitor(self) -> None:
        """Start afresh where an earlier `fit` watched another number."""
        name = float(zlib.crc32(f"{self.monitor} {self._rises()}".encode()))
        if self._get("monitor") != name:
            self._put(monitor=name, best=math.nan, wait=0)

    def _get(self, field: str) -> float:
        return self.memory.get(f"{self.kind}_{field}")

    def _put(self, **changes: float) -> None:
        self.memory.put(**{f"{self.kind}_{name}": v for name, v in changes.items()})

    def _say_missing(self, logs: dict) -> None:
        """Raise for a wrong name; warn once where an epoch was not validated."""
        validated = any(name.startswith("val_") for name in logs)
        if validated or not self.monitor.startswith("val_"):
            raise ValueError(
                f"`monitor` must be in the logs of an epoch; got {self.monitor!r}, "
                f"they hold {sorted(logs)}."
            )
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"`monitor` {self.monitor!r} is not in the logs of this epoch; "
                f"{type(self).__name__} waits for a validation. Pass "
                "`validation_data` to `fit`.",
                stacklevel=2,
            )

    def _say(self, epoch: int, text: str) -> None:
        if self.verbose:
            sys.stdout.write(f"\nEpoch {epoch + 1}: {text}\n")
