"""Where an interrupted training goes on, for streams that must know the epoch."""

from __future__ import annotations

import os
import pathlib

import tensorflow as tf

#: What `tf_keras.callbacks.BackupAndRestore` calls its folder and its counter.
_FOLDER = "chief"
_COUNTER = "ckpt_saved_epoch/.ATTRIBUTES/VARIABLE_VALUE"


def resumed_epoch(backup_dir: str | os.PathLike) -> int:
    """Return the number of the epoch with which a backed-up training goes on.

    `tf_keras.callbacks.BackupAndRestore` restores weights and counters, but the data
    set is made before it can: a stream that is to go on where it was needs the number,
    ``pipeline.slices(..., initial_epoch=resumed_epoch(backup_dir))``.

    Args:
        backup_dir: That of the callback.

    Returns:
        Whole epochs that the backup holds; 0 if there is none.
    """
    latest = tf.train.latest_checkpoint(str(pathlib.Path(backup_dir) / _FOLDER))
    if latest is None:
        return 0
    return int(tf.train.load_variable(latest, _COUNTER)) + 1
