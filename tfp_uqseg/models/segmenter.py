"""The Keras model that every method shares, with its objective."""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from tfp_uqseg import _checks, losses, optimizers
from tfp_uqseg import callbacks as kl_callbacks
from tfp_uqseg import metrics as overlap_metrics
from tfp_uqseg.layers import kernel, noise
from tfp_uqseg.models import deep_weight, guard

_PACKAGE = "tfp_uqseg"

#: Part of a training in which the KL terms are phased in.
WARM_UP = 0.3


@tf_keras.saving.register_keras_serializable(package=_PACKAGE)
class Segmenter(tf_keras.Model):
    """A functional network with the objective that every method shares.

    Per voxel and region, the training loss is

        data + beta * latent_bound / M + annealing * kl_weight * KL_weights / (N * M)

    with M voxels times regions of an example, N training examples, the latent bound in
    nats per example and the weights' KL in nats. With `losses.CrossEntropy` as data
    loss and all factors at one this is the exact negative ELBO (Eq. 4, or minus Eq. 9,
    over N M); of a latent bottleneck with `map_share` 0, else the mean of two.
    Validation reports the data loss at the posterior mean, free of KL.

    `annealing` climbs from 0 to 1 in the first 30 % of `fit`. The network with a latent
    bottleneck learns a share of its data loss from the maps q(w|x) alone, read as
    logits: all of it at first (the paper's pre-trained backbone), `map_share` of it
    once `annealing` is 1. Of the bound's gradient only the share `annealing` is used.

    Built by `models.build`. Calling it returns a distribution over logits that turns
    into its mean, at the posterior mean of weights and latents; draws come from
    `tfp_uqseg.uncertainty.draws`.

    Attributes:
        settings: The arguments of `models.build`, as plain values.
        annealing: Variable, 0 to 1, moved by `callbacks.KLAnnealing`.
        beta: Factor of the latent bound.
        map_share: Share of the data loss that stays with the maps alone.
        kl_weight: Factor of the weights' KL.
        callback_memory: What callbacks remember of the training; see
            `callbacks.Memory`.
    """

    #: Images beyond are not scaled; `uncertainty.draws` refuses them too.
    largest_intensity = guard.LARGEST_INTENSITY

    def __init__(self, inputs, outputs, name=None, trainable=True, **kwargs):
        super().__init__(
            inputs=inputs, outputs=outputs, name=name, trainable=trainable, **kwargs
        )

    def configure(self, settings: dict) -> None:
        """Attach the settings and the state that a functional graph cannot carry.

        Args:
            settings: `seed`, `beta`, `num_train_examples` and `num_regions`, of a
                latent bottleneck `map_share`, `kl_weight` where it is not 1, and what
                else `models.build` takes;
                `size_divisor`, what extents must be multiples of, where it is not 1
                (8 with a latent bottleneck).
                Without `num_regions` masks are not checked against the network.
        """
        self.settings = self._read_from_graph() | settings
        self._warming_up = False
        self.annealing = self.add_weight(
            name="annealing",
            shape=(),
            initializer="ones",
            trainable=False,
            dtype=tf.float32,
            experimental_autocast=False,
        )
        self.callback_memory = kl_callbacks.Memory()
        self.beta = float(settings["beta"])
        # Networks saved before there was such a share had none.
        self.map_share = float(settings.get("map_share", 0.0))
        self.kl_weight = float(settings.get("kl_weight", 1.0))
        self._add_kernel_prior(settings.get("kernel_prior"))
        names = ["loss", "data_loss"]
        names += ["map_loss", "latent_bound", "code_kl"] if self._has_latent() else []
        names += ["kl"] if self.bayesian_layers else []
        self._means = {name: tf_keras.metrics.Mean(name=name) for name in names}

    def _read_from_graph(self) -> dict:
        """Return the settings that hold of a network put together by hand."""
        latent = self._has_latent()
        return {
            "method": "latent" if latent else "own",
            "backbone": "own",
            "input_shape": tuple(self.input_shape[1:]),
            "num_regions": None,
            "size_divisor": 8 if latent else 1,
        }

    def _add_kernel_prior(self, described: dict | None) -> None:
        """Create the variables of a deep weight prior; its encoder learns too."""
        self._kernel_prior, self._kernel_scales = {}, {}
        if described is None:
            return
        self._kernel_scales = dict(described["scales"])
        for name, shape in sorted(described["shapes"].items()):
            self._kernel_prior[name] = self.add_weight(
                name=f"kernel_prior/{name}",
                shape=shape,
                initializer="zeros",
                trainable="/encoder" in name,
                dtype=tf.float32,
                experimental_autocast=False,
            )

    def set_kernel_prior(self, prior: deep_weight.KernelPrior) -> None:
        """Give the deep weight prior the fitted values, of the shapes it has."""
        for name, variable in self._kernel_prior.items():
            variable.assign(prior.parameters[name])

    def _has_latent(self) -> bool:
        return any(layer.name == "latent_bound" for layer in self.layers)

    def __getattr__(self, name):
        settings = self.__dict__.get("settings", {})
        if name in settings:
            return settings[name]
        return super().__getattribute__(name)

    @property
    def bayesian_layers(self) -> list[tf_keras.layers.Layer]:
        """The layers with a posterior over their kernel, in the network's order."""
        return [layer for layer in self.layers if hasattr(layer, "kl_divergence")]

    def kl_divergence(self) -> tf.Tensor:
        """Return the sum over layers of KL(q(w) || p(w)): float32 scalar, nats.

        With a deep weight prior, a bound on it (Eq. 13), estimated as that of a scale
        mixture is (`layers.kernel`).
        """
        terms = [self._kl_of(layer) for layer in self.bayesian_layers]
        return tf.add_n(terms) if terms else tf.constant(0.0)

    def _kl_of(self, layer) -> tf.Tensor:
        extents = {name.partition("/")[0] for name in self._kernel_prior}
        known = deep_weight.extent_of(layer.kernel_loc) in extents
        if layer.prior != "deep_weight" or not known:
            return layer.kl_divergence()
        scope = noise.current()
        keys = [
            noise.draw_key(self.settings["seed"], i) for i in range(kernel.KL_DRAWS)
        ]
        if isinstance(scope, noise.TrainingScope):
            keys = [scope.key]
        prior, scales = self._kernel_prior, self._kernel_scales
        bounds = [deep_weight.kl_bound(layer, prior, scales, key) for key in keys]
        return tf.add_n(bounds) / len(bounds)

    def compile(self, optimizer=None, loss=None, metrics=None, **kwargs):
        """Configure training; every argument has a default.

        Args:
            optimizer: `optimizers.Adam` with rate 0.001 if None.
            loss: `losses.DiceCrossEntropy` if None; `losses.CrossEntropy` for the exact
                ELBO; any Keras loss on logits.
            metrics: ``[metrics.Dice()]`` if None.
            **kwargs: Further arguments of :meth:`tf_keras.Model.compile`.

        Raises:
            ValueError: If one of them is of Keras 3, or a layer of the network has a KL
                term that nobody would add.
        """
        guard.check_stock_layers(self)
        for name, given in {
            "optimizer": optimizer,
            "loss": loss,
            "metrics": metrics,
        }.items():
            _checks.keras2(name, given)
        self.callback_memory.reset()
        super().compile(
            optimizer=optimizers.Adam(1e-3) if optimizer is None else optimizer,
            loss=losses.DiceCrossEntropy() if loss is None else loss,
            metrics=[overlap_metrics.Dice()] if metrics is None else metrics,
            **kwargs,
        )

    def compile_from_config(self, config):
        """Compile as the saved model was, and make the optimiser's variables."""
        self.compile(**tf_keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        **kwargs,
    ):
        """Train as :meth:`tf_keras.Model.fit` does, with a warm-up of the KL terms.

        The aim is Eq. 5; raising the bound is enough for it, by Eq. 8.

        The first call anneals during the first 30 % of `epochs`, unless `callbacks`
        hold a `callbacks.KLAnnealing` (of 0 epochs for none) or `annealing` was set.
        One that was interrupted begins again at the next call's first epoch.

        Args:
            x: Data set of (images, masks), or images (N, ..., C).
            y: Masks (N, ..., K), where `x` are images.
            batch_size: See Keras.
            epochs: See Keras.
            verbose: See Keras.
            callbacks: List of callbacks. Those that remember act before the others;
                see `callbacks.in_order`.
            **kwargs: Further arguments of :meth:`tf_keras.Model.fit`.

        Returns:
            The Keras history.

        Raises:
            ValueError: If images or masks cannot be right (extents that do not divide,
                unscaled intensities, label ids), or a callback is of Keras 3.
        """
        _checks.keras2("callbacks", callbacks)
        if self.bayesian_layers and self._needs_warm_up(callbacks):
            self._warming_up = True
            warm_up = kl_callbacks.KLAnnealing(WARM_UP * epochs)
            callbacks = [warm_up, *(callbacks or [])]
        callbacks = kl_callbacks.in_order(callbacks)
        self._make_optimizer_variables()
        with guard.plain_errors():
            return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def _make_optimizer_variables(self) -> None:
        """Make them now: a step that makes variables is traced a second time."""
        if self.optimizer is not None and hasattr(self.optimizer, "build"):
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def evaluate(self, *args, **kwargs):
        """Evaluate as :meth:`tf_keras.Model.evaluate` does.

        Raises:
            ValueError: If images or masks cannot be right.
        """
        with guard.plain_errors():
            return super().evaluate(*args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        """Run the network on images whose extents it can divide.

        Raises:
            ValueError: If they are no multiples of `size_divisor`.
        """
        if tf.is_tensor(inputs):
            guard.check_extents(inputs, self.size_divisor)
        return super().call(inputs, training=training, mask=mask)

    def _needs_warm_up(self, callbacks) -> bool:
        value = tf_keras.backend.get_value  # of a variable on several devices too
        started = self.optimizer is not None and value(self.optimizer.iterations) > 0
        untouched = value(self.annealing) == 1.0
        interrupted = self._warming_up and not untouched
        if not interrupted and (started or not untouched):
            return False
        return isinstance(callbacks, (list, tuple, type(None))) and not any(
            getattr(callback, "anneals_kl", False) for callback in callbacks or ()
        )

    def train_step(self, data):
        """Take one step; see the class for the objective, Eq. 14 for its negative."""
        images, masks, weights = tf_keras.utils.unpack_x_y_sample_weight(data)
        images, masks = guard.checked(images, masks, self.num_regions)
        key = noise.step_key(self.settings["seed"], self.optimizer.iterations)
        with (
            tf.GradientTape() as tape,
            noise.use(noise.TrainingScope(key)) as scope,
        ):
            logits = self(images, training=True)
            data_loss = self.compiled_loss(masks, logits, weights)
            terms = {**scope.records}
            if self.bayesian_layers:
                terms["kl"] = self.kl_divergence()
            loss = data_loss + self._regularisation(terms, masks)
            if scope.early_logits is not None:
                map_loss = self.compiled_loss(masks, scope.early_logits, weights)
                share = 1.0 - (1.0 - self.map_share) * self.annealing
                loss += share * (map_loss - data_loss)
                terms["map_loss"] = map_loss
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        self._record({"loss": loss, "data_loss": data_loss, **terms}, masks)
        return self._logs(masks, logits, weights)

    def _regularisation(self, terms: dict, masks) -> tf.Tensor:
        """Return what the bound and KL add to the loss, per voxel and region."""
        elements = tf.cast(tf.size(masks) / tf.shape(masks)[0], tf.float32)
        total = self.beta * self._held_back(terms.get("latent_bound", 0.0)) / elements
        if "kl" in terms:
            examples = float(self.settings["num_train_examples"])
            weight = self.annealing * self.kl_weight
            total += weight * terms["kl"] / (examples * elements)
        # Gradients are summed over replicas, the data loss is already divided.
        return total / tf.distribute.get_strategy().num_replicas_in_sync

    def _held_back(self, bound) -> tf.Tensor:
        """Return the bound, of whose gradient the share `annealing` passes.

        The value is always counted in full, as the objective is written. Before the
        maps have learned to say anything, the cheapest way to a small bound is a map
        that is constant.
        """
        share = self.annealing
        return share * bound + tf.stop_gradient((1.0 - share) * bound)

    def test_step(self, data):
        """Evaluate the data loss and the metrics at the posterior mean."""
        images, masks, weights = tf_keras.utils.unpack_x_y_sample_weight(data)
        images, masks = guard.checked(images, masks, self.num_regions)
        logits = self(images, training=False)
        data_loss = self.compiled_loss(masks, logits, weights)
        self._record({"loss": data_loss, "data_loss": data_loss}, masks)
        logs = self._logs(masks, logits, weights)
        training_only = ("map_loss", "latent_bound", "code_kl", "kl")
        return {name: log for name, log in logs.items() if name not in training_only}

    def _record(self, values: dict, masks) -> None:
        examples = tf.cast(tf.shape(masks)[0], tf.float32)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for name, value in values.items():
            if name in ("loss", "data_loss", "map_loss"):
                value = value * replicas
            self._means[name].update_state(value, sample_weight=examples)

    def _logs(self, masks, logits, weights) -> dict:
        self.compiled_metrics.update_state(masks, logits, weights)
        results = {metric.name: metric.result() for metric in self._means.values()}
        for metric in self.compiled_metrics.metrics:
            results[metric.name] = metric.result()
        return results

    @property
    def metrics(self) -> list:
        """The running means of the loss terms, then the compiled metrics."""
        compiled = self.compiled_metrics.metrics if self.compiled_metrics else []
        return [*self._means.values(), *compiled]

    def save_own_variables(self, store):
        """Write the variables that belong to no layer, and the callbacks' memory."""
        super().save_own_variables(store)
        store["callback_memory"] = self.callback_memory.values()

    def load_own_variables(self, store):
        """Read what `save_own_variables` wrote; older files hold no memory."""
        own = {name: store[name] for name in store.keys()}  # noqa: SIM118 (an h5 group)
        numbers = own.pop("callback_memory", None)
        super().load_own_variables(own)
        if numbers is not None:
            self.callback_memory.numbers.assign(numbers)

    def get_config(self) -> dict:
        """Return the network and the settings as plain values."""
        return {**super().get_config(), "settings": dict(self.settings)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Build the network and attach its settings."""
        config = dict(config)
        settings = config.pop("settings")
        model = super().from_config(config, custom_objects)
        model.configure(settings)
        return model

    def __repr__(self):
        settings = {
            name: self.settings[name]
            for name in ("method", "backbone", "input_shape", "num_regions")
        }
        shown = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        return f"Segmenter({shown}, parameters={self.count_params():,})"
