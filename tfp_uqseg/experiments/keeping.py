"""What a run keeps after every epoch, so that it survives its process."""

from __future__ import annotations

import math

import tensorflow as tf
import tf_keras

from tfp_uqseg import _files
from tfp_uqseg.experiments import config as config_module
from tfp_uqseg.experiments import runs, schedule

#: `tensorboard.compat.proto.summary_pb2.DATA_CLASS_SCALAR`.
_DATA_CLASS_SCALAR = 1


class Keeper(tf_keras.callbacks.Callback):
    """Write history, network and checkpoint after every epoch; restore at the start.

    The checkpoint comes last: what a killed process wrote of an unfinished epoch is
    written again when the run resumes.

    Attributes:
        epoch: Whole epochs done.
        elapsed: Seconds of training they took.
        reserve: Seconds of the last validation.
        clock: The run's clock; set before training.
    """

    def __init__(
        self,
        run: runs.Run,
        model: tf_keras.Model,
        settings: config_module.TrainConfig,
    ):
        super().__init__()
        self._run, self._settings = run, settings
        self.clock: schedule.Clock | None = None
        self._state = {
            "epoch": tf.Variable(0, dtype=tf.int64, trainable=False),
            "elapsed": tf.Variable(0.0, dtype=tf.float64, trainable=False),
            "reserve": tf.Variable(0.0, dtype=tf.float64, trainable=False),
            "best_dice": tf.Variable(-1.0, dtype=tf.float64, trainable=False),
        }
        # Slots exist only now: a restore into an optimiser without them loses them.
        model.optimizer.build(model.trainable_variables)
        checkpoint = tf.train.Checkpoint(
            model=model, optimizer=model.optimizer, **self._state
        )
        self._manager = tf.train.CheckpointManager(
            checkpoint, str(run.backup), max_to_keep=2
        )
        self._restore(checkpoint)

    def _restore(self, checkpoint: tf.train.Checkpoint) -> None:
        latest = self._manager.latest_checkpoint
        self._rows = []
        if latest is not None:
            try:
                checkpoint.restore(latest).assert_existing_objects_matched()
            except (AssertionError, ValueError, tf.errors.OpError) as error:
                raise ValueError(
                    f"{latest} must be a checkpoint of this run; it cannot be read "
                    f"({str(error).splitlines()[0]}). Start a new run."
                ) from error
            rows = runs.read_history(self._run)
            self._rows = [row for row in rows if row["epoch"] <= self.epoch]

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return int(self._state["epoch"])

    @property
    def elapsed(self) -> float:
        """Seconds of training that the epochs took."""
        return float(self._state["elapsed"])

    @property
    def reserve(self) -> float:
        """Seconds to keep for the closing validation."""
        return float(self._state["reserve"])

    def on_epoch_end(self, epoch, logs=None):
        """Keep the epoch.

        Raises:
            ValueError: If the loss is not finite; nothing of the epoch is kept.
        """
        logs = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(logs.get("loss", math.nan)):
            raise ValueError(
                f"The loss became {logs.get('loss')} in epoch {epoch + 1}. Start again "
                "with a smaller learning rate or in float32; the run holds the epochs "
                "before."
            )
        self._rows.append({"epoch": epoch + 1, **logs})
        runs.write_history(self._run, self._rows)
        if self._is_kept(logs):
            with _files.whole_file(self._run.model) as temporary:
                self.model.save(temporary)
        self._state["epoch"].assign(epoch + 1)
        self._state["elapsed"].assign(self.clock.elapsed)
        self._state["reserve"].assign(self.clock.reserve)
        self._manager.save(checkpoint_number=epoch + 1)

    def _is_kept(self, logs: dict) -> bool:
        """Whether this epoch's weights replace those of `model.keras`."""
        if self._settings.keep == "last":
            return True
        warming = self.model.bayesian_layers and logs["kl_annealing"] < 1.0
        if warming or logs["val_dice"] <= float(self._state["best_dice"]):
            return bool(warming)
        self._state["best_dice"].assign(logs["val_dice"])
        return True


class EventWriter(tf_keras.callbacks.Callback):
    """Write the logs of every epoch as scalars for TensorBoard.

    Keras' own callback needs TensorBoard installed in order to write; this one does
    not, and TensorBoard reads the same files.

    Args:
        run: The run; training values go to ``logs/train``, others to
            ``logs/validation``.
    """

    def __init__(self, run: runs.Run):
        super().__init__()
        self._run = run
        self._writers = {}

    def on_epoch_end(self, epoch, logs=None):
        """Write the values of the epoch."""
        for name, value in (logs or {}).items():
            held_out = name.startswith("val_")
            part = "validation" if held_out else "train"
            if part not in self._writers:
                folder = str(self._run.logs / part)
                self._writers[part] = tf.summary.create_file_writer(folder)
            with self._writers[part].as_default(step=epoch + 1):
                name = name.removeprefix("val_")
                tf.summary.write(f"epoch_{name}", float(value), metadata=_scalar())
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs=None):
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def _scalar():
    """Return what tells TensorBoard that a value is a scalar."""
    metadata = tf.compat.v1.SummaryMetadata(data_class=_DATA_CLASS_SCALAR)
    metadata.plugin_data.plugin_name = "scalars"
    return metadata
