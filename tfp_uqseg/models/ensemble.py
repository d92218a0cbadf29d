"""Several networks as one: deep ensembles, and ensembles with dropout."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_uqseg import _files
from tfp_uqseg import callbacks as kl_callbacks
from tfp_uqseg.layers import logits as logits_module
from tfp_uqseg.models import segmenter

DESCRIPTION_FILE = "ensemble.json"
_EDGE = 1e-7  # of probabilities, before they become logits


def member_seed(seed: int, index: int) -> int:
    """Return the seed of member `index` of an ensemble with `seed`."""
    state = np.random.SeedSequence([seed & 0xFFFFFFFF, index]).generate_state(1)
    return int(state[0] & 0x7FFFFFFF)


class Ensemble:
    """Networks that differ in their seed alone :cite:p:`lakshminarayanan2017`.

    Behaves as one network in `uncertainty.draws.predict` and `serving`: network draw d
    of M members is draw ``d // M`` of member ``d % M``.

    Args:
        members: `Segmenter` objects, at least one.
        method: ``"deep_ensemble"`` or ``"ensemble_mc_dropout"``.
        seed: From which those of the members were derived.
    """

    def __init__(
        self, members: Sequence[segmenter.Segmenter], *, method: str, seed: int
    ):
        self.members = list(members)
        self.seed = int(seed)
        own = {"method": method, "seed": self.seed, "num_members": len(self.members)}
        self.settings = {**self.members[0].settings, **own}

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.settings["method"]

    @property
    def num_regions(self) -> int:
        """Number K of regions."""
        return self.members[0].num_regions

    @property
    def input_shape(self) -> tuple:
        """Shape of the images, the batch first."""
        return self.members[0].input_shape

    @property
    def largest_intensity(self) -> float:
        """Images beyond are not scaled."""
        return self.members[0].largest_intensity

    @property
    def size_divisor(self) -> int:
        """What the extents of an image must be multiples of inside a member."""
        return self.members[0].size_divisor

    @property
    def weights(self) -> list:
        """The variables of all members."""
        return [weight for member in self.members for weight in member.weights]

    def compile(self, optimizer=None, loss=None, metrics=None, **kwargs) -> None:
        """Compile every member, each with an optimiser of its own.

        Args:
            optimizer: An optimiser, of which every member gets a copy; None for Adam.
            loss: See `Segmenter.compile`.
            metrics: A function that returns new metrics, or None for Dice.
            **kwargs: See `Segmenter.compile`.
        """
        for member in self.members:
            copy = optimizer
            if optimizer is not None:
                described = tf_keras.optimizers.serialize(
                    tf_keras.optimizers.get(optimizer)
                )
                copy = tf_keras.optimizers.deserialize(described)
            own = None if metrics is None else metrics()
            member.compile(copy, loss=loss, metrics=own, **kwargs)

    def fit(
        self,
        x,
        y=None,
        *,
        batch_size: int = 8,
        epochs: int = 1,
        callbacks: Callable[[int], list] | None = None,
        folder: str | os.PathLike | None = None,
        verbose="auto",
        **kwargs,
    ) -> list[dict]:
        """Train the members one after the other, each with an order of its own.

        Args:
            x: Images (N, ..., C), which every member sees in another order; or a
                function of (number of a member, first epoch) that returns its data set
                of (images, masks) batches, which should be in another order for each;
                or one such data set for all. The first epoch is 0 but for a member that
                was interrupted.
            y: Masks (N, ..., K), where `x` are images.
            batch_size: Where `x` are images.
            epochs: Of every member.
            callbacks: Function that takes the number of a member and returns new
                callbacks.
            folder: Where finished members and the checkpoint of the running one are
                kept, so that a call that was interrupted goes on there when repeated,
                with the same settings; a finished member is not trained further.
            verbose: See Keras.
            **kwargs: Further arguments of `Segmenter.fit`.

        Returns:
            The history of every member that this call trained, by member.

        Raises:
            ValueError: `folder` holds members that were built otherwise.
        """
        folder = None if folder is None else pathlib.Path(folder)
        histories = []
        for index, member in enumerate(self.members):
            extra = list(callbacks(index)) if callbacks is not None else []
            first = 0
            if folder is not None:
                finished = folder / f"member_{index}.keras"
                if finished.exists():
                    self.members[index] = _finished(finished, member)
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                backup = str(folder / f"member_{index}_backup")
                extra.append(tf_keras.callbacks.BackupAndRestore(backup))
                first = kl_callbacks.resumed_epoch(backup)
            options = {**kwargs, "epochs": epochs, "callbacks": extra or None}
            if y is None:
                data = x(index, first) if callable(x) else x
            else:
                data = _in_order(x, y, batch_size, member.settings["seed"], first)
                options.setdefault("steps_per_epoch", -(-len(x) // batch_size))
            history = member.fit(data, verbose=verbose, **options)
            histories.append(history.history)
            if folder is not None:
                with _files.whole_file(finished) as temporary:
                    member.save(temporary)
        return histories

    def __call__(self, images):
        """Return the logits of the members' mean probability, as a distribution."""
        answers = [
            logits_module.mean_probabilities(member(images, training=False))
            for member in self.members
        ]
        mean = tf.clip_by_value(tf.add_n(answers) / len(answers), _EDGE, 1.0 - _EDGE)
        return logits_module.PointLogits()(tf.math.log(mean) - tf.math.log1p(-mean))

    def predict(self, images, batch_size: int = 8) -> np.ndarray:
        """Return the logits of the members' mean probability, (N, ..., K)."""
        parts = [
            tf.convert_to_tensor(self(tf.constant(images[start : start + batch_size])))
            for start in range(0, len(images), batch_size)
        ]
        return np.concatenate([part.numpy() for part in parts])

    def save(self, folder: str | os.PathLike) -> None:
        """Write a folder with a .keras file per member; whole or not at all.

        Raises:
            FileExistsError: The folder holds something.
        """
        folder = pathlib.Path(folder)
        if folder.exists() and (folder.is_file() or any(folder.iterdir())):
            raise FileExistsError(
                f"`folder` must be new or empty; {folder} holds something. Remove it "
                "or name another."
            )
        with _files.whole_folder(folder) as unfinished:
            for index, member in enumerate(self.members):
                member.save(unfinished / f"member_{index}.keras")
            described = {
                "method": self.method,
                "seed": self.seed,
                "num_members": len(self.members),
            }
            _files.write_json(unfinished / DESCRIPTION_FILE, described)

    def __repr__(self):
        return f"Ensemble({self.method!r}, members={len(self.members)})"


def _finished(path: pathlib.Path, member: segmenter.Segmenter):
    """Return the finished member in `path`, which must be what `member` was to be."""
    found = tf_keras.models.load_model(path)
    wanted, has = (
        {**m.settings, "input_shape": m.input_shape} for m in (member, found)
    )
    names = sorted(
        name
        for name, value in wanted.items()
        if name != "kernel_prior" and value != has.get(name)
    )
    if names:
        raise ValueError(
            f"`folder` must be that of the same ensemble; {path} was built with other "
            f"settings ({', '.join(names)} differ). Name another folder."
        )
    return found


def _in_order(images, masks, batch_size: int, seed: int, first: int):
    """Return endless epochs, each in an order of its own, from epoch `first` on."""
    images, masks = tf.constant(images), tf.constant(masks)

    def one_epoch(epoch):
        key = [tf.constant(seed, tf.int64), epoch]
        noise = tf.random.stateless_uniform([len(images)], key, alg="philox")
        order = tf.data.Dataset.from_tensor_slices(tf.argsort(noise))
        examples = order.map(lambda i: (tf.gather(images, i), tf.gather(masks, i)))
        return examples.batch(batch_size)

    return tf.data.Dataset.range(first, tf.int64.max).flat_map(one_epoch)


def load(path: str | os.PathLike, *, compile: bool = True):
    """Return the network or the ensemble that was saved at `path`.

    Args:
        path: A .keras file, or the folder of an ensemble.
        compile: Whether to restore loss, metrics and optimiser too.

    Raises:
        FileNotFoundError: There is nothing, or a folder that is no ensemble.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist.")
        return tf_keras.models.load_model(path, compile=compile)
    if not (path / DESCRIPTION_FILE).is_file():
        raise FileNotFoundError(
            f"{path} holds no ensemble (`{DESCRIPTION_FILE}` is expected there)."
        )
    described = json.loads((path / DESCRIPTION_FILE).read_text("utf-8"))
    members = [
        tf_keras.models.load_model(path / f"member_{index}.keras", compile=compile)
        for index in range(described["num_members"])
    ]
    return Ensemble(members, method=described["method"], seed=described["seed"])
