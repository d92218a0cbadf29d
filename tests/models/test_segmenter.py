from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from scipy import ndimage

from tfp_uqseg import callbacks, layers, losses, models
from tfp_uqseg.layers import noise
from tfp_uqseg.models import bottleneck
from tfp_uqseg.uncertainty import draws

tfd = tfp.distributions

#: One method of each kind of objective; `test_methods` has them all.
KINDS = ("deterministic", "flipout", "latent")

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 16, 16, 2)).astype(np.float32)
MASKS = (IMAGES + 0.5 * RNG.normal(size=IMAGES.shape) > 0.7).astype(np.float32)


def build(method, **arguments):
    settings = {
        "input_shape": (None, None, 2),
        "num_regions": 2,
        "num_train_examples": 8,
        "base_filters": 4,
        "depth": 2,
    }
    return models.build(method, **{**settings, **arguments})


def data(batch_size=4):
    return tf.data.Dataset.from_tensor_slices((IMAGES, MASKS)).batch(batch_size)


@pytest.mark.parametrize("method", KINDS)
def test_calling_returns_a_distribution_that_turns_into_its_mean(method):
    logits = build(method)(IMAGES)
    assert isinstance(logits, tfd.Distribution)
    np.testing.assert_array_equal(tf.convert_to_tensor(logits), logits.mean())
    assert logits.mean().shape == (8, 16, 16, 2)
    spread = logits.stddev().numpy()
    assert (spread.min() > 0.0) == (method == "latent")
    assert (spread.max() > 0.0) == (method == "latent")


@pytest.mark.parametrize("method", KINDS)
def test_three_dimensions_use_the_same_builders(method):
    model = build(method, input_shape=(None, None, None, 2))
    volumes = RNG.normal(size=(1, 8, 8, 16, 2)).astype(np.float32)
    assert model(volumes).mean().shape == (1, 8, 8, 16, 2)


def test_flipout_makes_every_convolution_bayesian():
    model = build("flipout")
    kinds = [type(layer).__name__ for layer in model.layers]
    assert not any(kind.startswith("Conv2D") for kind in kinds)
    convolutions = [kind for kind in kinds if kind.startswith("Convolution2D")]
    assert len(model.bayesian_layers) == len(convolutions) == 8


def test_seeds_make_members_and_repeat_them():
    first, again, other = (build("flipout", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first(IMAGES).mean(), again(IMAGES).mean())
    assert np.abs(first(IMAGES).mean() - other(IMAGES).mean()).max() > 0.01


@pytest.fixture(scope="module", params=KINDS)
def trained(request):
    tf_keras.utils.set_random_seed(0)
    model = build(request.param)
    model.compile(tf_keras.optimizers.Adam(0.01))
    anneal = callbacks.KLAnnealing(epochs=40)
    model.fit(data(), epochs=8, validation_data=data(), callbacks=[anneal], verbose=0)
    return model


def test_fitting_lowers_the_data_loss(trained):
    losses_of_epochs = trained.history.history["data_loss"]
    assert losses_of_epochs[-1] < 0.95 * losses_of_epochs[0]


def test_terms_are_logged_apart_and_validation_is_free_of_them(trained):
    history = trained.history.history
    assert ("kl" in history) == (trained.method != "deterministic")
    assert ("latent_bound" in history) == (trained.method == "latent")
    assert not {"val_kl", "val_latent_bound", "val_code_kl"} & set(history)
    assert history["val_loss"] == history["val_data_loss"]


def test_loss_is_the_sum_that_the_documentation_states():
    model = build(
        "latent", beta=0.7, map_share=0.4, kl_weight=3.0, num_train_examples=50
    )
    model.compile(tf_keras.optimizers.SGD(0.0), loss=losses.CrossEntropy())
    model.annealing.assign(0.25)
    logs = model.fit(data(8), verbose=0).history
    elements = 16 * 16 * 2
    regularisation = 0.7 * logs["latent_bound"][0] + 0.25 * 3 * logs["kl"][0] / 50
    maps = 0.75 + 0.25 * 0.4  # what the warm-up leaves to the maps, and what stays
    data_part = (1 - maps) * logs["data_loss"][0] + maps * logs["map_loss"][0]
    expected = data_part + regularisation / elements
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(logs["kl"][0], model.kl_divergence(), rtol=1e-5)


def gradient_of_the_bound(annealing):
    """Return what one step's bound asks of the backbone's last layer."""
    model = build("latent", beta=1.0, normalization=None)
    model.compile(tf_keras.optimizers.SGD(1.0), loss=Nothing())
    model.annealing.assign(annealing)
    before = model.get_layer("map_parameters").get_weights()
    model.fit(data(8), verbose=0)
    after = model.get_layer("map_parameters").get_weights()
    return np.concatenate(
        [(new - old).ravel() for new, old in zip(after, before, strict=True)]
    )


class Nothing(tf_keras.losses.Loss):
    def call(self, y_true, y_pred):
        return 0.0 * tf.reduce_sum(tf.convert_to_tensor(y_pred), axis=[1, 2, 3])


def test_the_warm_up_holds_the_bounds_gradient_back():
    whole, half = gradient_of_the_bound(0.999), gradient_of_the_bound(0.5)
    assert np.abs(whole).max() > 1e-3
    np.testing.assert_allclose(half / 0.5, whole / 0.999, rtol=1e-3, atol=1e-5)
    assert np.abs(gradient_of_the_bound(0.0)).max() == 0.0


def test_a_step_of_training_is_traced_once():
    model, traces = build("deterministic"), []
    model.compile()
    step = model.train_step
    model.train_step = lambda batch: (traces.append(1), step(batch))[1]
    model.fit(data(), epochs=2, verbose=0)
    assert len(traces) == 1


def test_validation_weighs_images_and_not_batches():
    model = build("deterministic")
    model.compile()
    odd = tf.data.Dataset.from_tensor_slices((IMAGES, MASKS)).batch(7)
    found = model.evaluate(odd, verbose=0, return_dict=True)
    expected = losses.DiceCrossEntropy()(MASKS, model(IMAGES)).numpy()
    assert found["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", KINDS)
def test_a_stock_loss_on_logits_and_weights_of_images_work(method):
    model = build(method)
    model.compile(loss=tf_keras.losses.BinaryCrossentropy(from_logits=True))
    assert np.isfinite(model.fit(data(), verbose=0).history["loss"]).all()
    model.compile()
    weighted = model.fit(IMAGES, MASKS, sample_weight=np.arange(8.0), verbose=0)
    assert np.isfinite(weighted.history["loss"]).all()


def test_methods_start_with_kernels_of_one_spread():
    spreads = [
        [
            np.std(layer.get_weights()[0])
            for layer in build(method).layers
            if layer.name.startswith(("down", "bottom", "up"))
            and layer.get_weights()
            and "norm" not in layer.name
        ]
        for method in ("deterministic", "flipout")
    ]
    np.testing.assert_allclose(*spreads, rtol=0.2)


def test_dice_loss_is_the_default_and_the_exact_elbo_one_argument_away():
    model = build("flipout")
    model.compile()
    assert isinstance(model.compiled_loss._user_losses, losses.DiceCrossEntropy)


def linear_gaussian(code_loc, code_stddev, weight, noise_stddev, map_loc, map_stddev):
    """Return a sample and the moments of q(w), r(z|w) and p(w|z) = N(weight z, .)."""
    count = 40000
    w = map_loc + map_stddev * RNG.normal(size=(count, 1))
    loc = code_loc(w)
    z = loc + code_stddev * RNG.normal(size=(count, 1))
    means = [(map_loc * np.ones_like(w), map_stddev), (loc, code_stddev)]
    means.append((weight * z, noise_stddev))
    moments = [
        (tf.constant(mean, tf.float32), tf.fill(w.shape, np.float32(stddev)))
        for mean, stddev in means
    ]
    return [tf.constant(w, tf.float32), *moments]


def test_bound_is_tight_at_the_exact_posterior_and_loose_elsewhere():
    """With w = a z + e, all normal, KL(q(w) || p(w)) and r(z|w) have closed forms."""
    a, e, m, s = 1.5, 0.8, 0.6, 0.4
    marginal = tfd.Normal(0.0, float(np.sqrt(a**2 + e**2)))
    exact = tfd.kl_divergence(tfd.Normal(m, s), marginal).numpy()
    gain, spread = a / (a**2 + e**2), e / np.sqrt(a**2 + e**2)
    tight, _ = bottleneck.latent_bound(
        *linear_gaussian(lambda w: gain * w, spread, a, e, m, s)
    )
    loose, _ = bottleneck.latent_bound(
        *linear_gaussian(lambda w: 0.2 * w, 1.2, a, e, m, s)
    )
    assert tf.reduce_mean(tight).numpy() == pytest.approx(exact, abs=0.03)
    assert tf.reduce_mean(loose).numpy() > exact + 0.1


def test_prior_head_sees_the_code_alone():
    """Given the code, p(w|z) has no other way to the maps: the bound stays a bound."""
    model = build("latent")
    seen, waiting = set(), [model.get_layer("prior_head")]
    while waiting:
        layer = waiting.pop()
        if layer.name in seen:
            continue
        seen.add(layer.name)
        if layer.name == "code":
            continue
        inputs = tf.nest.flatten(layer.input)
        if layer.name == "code_grid":
            inputs = inputs[:1]  # of the second input it takes the extents alone
        waiting += [tensor.node.layer for tensor in inputs]
    assert "code" in seen
    assert not {"maps", "sampled_maps", "map_parameters"} & seen


def discs(count=48, size=32):
    """Images of faint discs in noise, some of them empty, and their masks."""
    rng, grid = np.random.default_rng(0), np.arange(size)
    centres = rng.uniform(8, size - 8, (count, 2, 1, 1))
    radii = rng.uniform(3, 7, (count, 1, 1)) * (rng.random((count, 1, 1)) > 0.3)
    distances = (grid[:, None] - centres[:, 0]) ** 2 + (grid - centres[:, 1]) ** 2
    masks = (distances < radii**2)[..., None].astype(np.float32)
    return (0.5 * masks + rng.normal(size=masks.shape)).astype(np.float32), masks


@pytest.mark.slow
def test_the_latent_is_not_ignored():
    """Where voxels alone say little, codes carry information that answers heed."""
    images, masks = discs()
    # As one batch of many: the KL of the weights would drown 48 examples and the code.
    model = build(
        "latent", input_shape=(None, None, 1), num_regions=1, num_train_examples=3000
    )
    model.compile(tf_keras.optimizers.Adam(0.003))
    stream = tf.data.Dataset.from_tensor_slices((images, masks)).batch(8)
    anneal = callbacks.KLAnnealing(epochs=10)
    history = model.fit(stream, epochs=30, verbose=0, callbacks=[anneal]).history
    assert history["code_kl"][-1] > 1.0
    seen = images[masks.any(axis=(1, 2, 3))]
    assert bottleneck.code_effect(model, seen) > 0.03


def test_answers_to_given_codes_differ_by_the_code_alone():
    model = build("latent", decoder_skips=False)
    head = model.get_layer("predictive_head")
    head.kernel_loc.assign(tf.random.stateless_normal(head.kernel_loc.shape, [1, 2]))
    codes = np.stack([np.full(10, -2.0), np.full(10, 2.0)]).astype(np.float32)
    low, high = bottleneck.decode(model, np.stack([IMAGES[0]] * 2), codes)
    assert np.abs(low - high).max() > 0.01
    again = bottleneck.decode(model, IMAGES[:1], codes[1])[0]
    np.testing.assert_allclose(again, high, atol=1e-6)
    other = bottleneck.decode(model, IMAGES[:1], codes[1], draw=1)[0]
    assert np.abs(other - high).max() > 1e-4
    with pytest.raises(ValueError, match="must have 10 entries"):
        bottleneck.decode(model, IMAGES, np.zeros(3))
    with pytest.raises(ValueError, match="must have a latent code"):
        bottleneck.decode(build("flipout"), IMAGES, np.zeros(10))


def test_a_network_that_ignores_its_code_has_no_code_effect():
    model = build("latent")
    decoder = model.get_layer("decoder2_conv")
    decoder.kernel_loc.assign(tf.zeros_like(decoder.kernel_loc))
    decoder.kernel_untransformed_scale.assign(tf.fill(decoder.kernel_loc.shape, -100.0))
    assert bottleneck.code_effect(model, IMAGES) < 1e-5


@pytest.mark.parametrize("rank", [2, 3])
def test_linear_upsampling_is_that_of_scipy(rank):
    image = RNG.normal(size=(*(4, 6, 3)[:rank], 2)).astype(np.float32)
    found = bottleneck.LinearUpsampling()(image[np.newaxis])[0].numpy()
    places = [np.arange(2 * extent) / 2 - 0.25 for extent in image.shape[:-1]]
    grid = np.meshgrid(*places, indexing="ij")
    for channel in range(2):
        expected = ndimage.map_coordinates(
            image[..., channel], grid, order=1, mode="nearest"
        )
        np.testing.assert_allclose(found[..., channel], expected, atol=1e-5)


def test_annealing_reads_the_epoch_and_survives_saving(tmp_path):
    model = build("flipout")
    model.compile()
    anneal = callbacks.KLAnnealing(epochs=4)
    model.fit(data(), epochs=2, callbacks=[anneal], verbose=0)
    assert model.annealing.numpy() == pytest.approx(0.5)
    model.save(tmp_path / "m.keras")
    loaded = tf_keras.models.load_model(tmp_path / "m.keras")
    assert loaded.annealing.numpy() == model.annealing.numpy()


class Watch(tf_keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self.values = [*getattr(self, "values", []), float(self.model.annealing)]


def test_an_interrupted_warm_up_is_taken_up_again():
    model = build("flipout")
    model.compile()
    with pytest.raises(KeyboardInterrupt):
        model.fit(data(), epochs=20, callbacks=[Interrupt()], verbose=0)
    assert 0.0 < model.annealing.numpy() < 1.0
    model.fit(data(), epochs=3, verbose=0)
    assert model.annealing.numpy() == 1.0


def test_a_fit_of_one_epoch_ends_at_full_weight():
    model = build("flipout")
    model.compile()
    stream = tf.data.Dataset.from_generator(
        lambda: iter([(IMAGES, MASKS)]),
        output_signature=(
            tf.TensorSpec((None, 16, 16, 2)),
            tf.TensorSpec((None, 16, 16, 2)),
        ),
    )
    model.fit(stream, epochs=1, verbose=0)
    assert model.annealing.numpy() == 1.0


def test_a_first_fit_warms_up_by_itself():
    model, watch = build("flipout"), Watch()
    model.compile()
    model.fit(data(), epochs=10, callbacks=[watch], verbose=0)
    assert watch.values == pytest.approx([0.0, 1 / 3, 2 / 3, *[1.0] * 7])
    again = Watch()
    model.fit(data(), epochs=2, callbacks=[again], verbose=0)
    assert again.values == [1.0, 1.0]


@pytest.mark.parametrize("chosen", ["callback", "value"])
def test_a_warm_up_of_ones_own_is_kept(chosen):
    model, watch = build("flipout"), Watch()
    model.compile()
    callback = [callbacks.KLAnnealing(0)] if chosen == "callback" else []
    model.annealing.assign(1.0 if callback else 0.5)
    model.fit(data(), epochs=2, callbacks=[*callback, watch], verbose=0)
    assert watch.values == ([1.0, 1.0] if callback else [0.5, 0.5])


READ_BACK = """
    import sys, numpy as np, tf_keras, tfp_uqseg
    from tfp_uqseg.uncertainty import draws
    folder = sys.argv[1]
    model = tf_keras.models.load_model(folder + "/m.keras", safe_mode=True)
    images = np.load(folder + "/images.npy")
    p = draws.predict(model, images, num_draws=3, seed=4)
    np.savez(folder + "/read.npz", p=p.mean_probabilities, v=p.epistemic_variance,
             mean=model.predict(images, verbose=0),
             steps=model.optimizer.iterations.numpy())
"""


@pytest.mark.slow
def test_a_new_process_predicts_the_same(trained, tmp_path):
    trained.save(tmp_path / "m.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    script = textwrap.dedent(READ_BACK)
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    read = np.load(tmp_path / "read.npz")
    here = draws.predict(trained, IMAGES, num_draws=3, seed=4)
    np.testing.assert_allclose(read["p"], here.mean_probabilities, atol=1e-6)
    np.testing.assert_allclose(read["v"], here.epistemic_variance, atol=1e-6)
    np.testing.assert_allclose(
        read["mean"], trained.predict(IMAGES, verbose=0), atol=1e-5
    )
    assert read["steps"] == 16


class Interrupt(tf_keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("method", ["flipout", "latent"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(method, tmp_path):
    def fresh():
        model = build(method)
        model.compile(tf_keras.optimizers.Adam(0.003))
        return model, [callbacks.KLAnnealing(epochs=3)]

    whole, anneal = fresh()
    whole.fit(data(), epochs=4, callbacks=anneal, verbose=0)
    for interruptions in ([Interrupt()], []):
        parts, anneal = fresh()
        backup = tf_keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        try:
            parts.fit(
                data(), epochs=4, callbacks=[*anneal, backup, *interruptions], verbose=0
            )
        except KeyboardInterrupt:
            continue
    assert parts.optimizer.iterations == whole.optimizer.iterations == 8
    for one, other in zip(parts.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("method", KINDS)
def test_mixed_precision_trains_and_predicts(method, policy):
    tf_keras.mixed_precision.set_global_policy(policy)
    model = build(method)
    model.compile(tf_keras.optimizers.Adam(0.01))
    history = model.fit(data(), epochs=6, verbose=0).history
    assert history["data_loss"][-1] < history["data_loss"][0]
    prediction = draws.predict(model, IMAGES, num_draws=2)
    assert prediction.mean_probabilities.dtype == np.float32
    assert np.isfinite(prediction.predictive_entropy).all()
    assert model(IMAGES).mean().dtype == tf.float32


@pytest.mark.parametrize("method", KINDS)
def test_keras_3_reads_the_exported_model(method, tmp_path):
    keras = pytest.importorskip("keras")
    model = build(method)
    images = IMAGES[:, :15, :13]
    folder = models.export(model, tmp_path / "exported")
    serve = keras.layers.TFSMLayer(folder, call_endpoint="serve")
    served = serve(images)["probabilities"]
    assert served.shape == (8, 15, 13, 2)
    draw = keras.layers.TFSMLayer(folder, call_endpoint="draw")
    keyed = {"images": images, "draw_key": np.array([4, 7], np.int32)}
    here = draws.probabilities(model, images, draw=7, seed=4, num_latent_draws=1)
    np.testing.assert_allclose(draw(keyed)["probabilities"], here, atol=1e-5)
    with pytest.raises(FileExistsError, match="must not exist yet"):
        models.export(model, folder)


@pytest.mark.slow
def test_replicas_count_kl_once(tmp_path):
    """Two replicas of half the batch take the step of one with the whole batch."""
    script = """
        import sys, numpy as np, tensorflow as tf
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 2)
        import tf_keras
        from tfp_uqseg import callbacks, models
        def run(strategy):
            with strategy.scope():
                model = models.build("flipout", input_shape=(8, 8, 1), num_regions=1,
                    num_train_examples=1, base_filters=2, depth=2, normalization=None,
                    initial_stddev_ratio=1e-4)
                model.compile(tf_keras.optimizers.SGD(0.1), loss="mse")
            x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
            logs = model.fit(x, x > 0, batch_size=4, epochs=1, verbose=0, shuffle=False,
                callbacks=[callbacks.KLAnnealing(0)])
            return logs.history, model.bayesian_layers[0].kernel_loc.numpy()
        one, kernel = run(tf.distribute.OneDeviceStrategy("CPU:0"))
        two, other = run(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
        for name in ("loss", "data_loss", "kl"):
            np.testing.assert_allclose(one[name], two[name], rtol=1e-3)
        np.testing.assert_allclose(kernel, other, atol=1e-3)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=300
    )


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"method": "mc"}, "`method` must be one of 'deterministic'"),
        ({"backbone": "resnet"}, "`backbone` must be one of 'unet'"),
        ({"input_shape": (31, 32, 2)}, "multiples of 2"),
        ({"input_shape": (32, 32)}, "`input_shape` must be"),
        ({"num_regions": 0}, "`num_regions` must be a whole number above 0"),
        ({"beta": -1.0}, "`beta` must be finite and at least 0"),
        ({"map_share": 1.5}, "`map_share` must be from 0 to 1; got 1.5"),
        ({"gaussian_logits": False}, "`gaussian_logits` must be True"),
        ({"normalization": "layer"}, "`normalization` must be one of"),
    ],
)
def test_bad_arguments_are_named(arguments, match):
    if "input_shape" in arguments:
        arguments = {"depth": 2, **arguments}
        arguments["input_shape"] = tuple(
            extent - 1 if extent == 30 else extent
            for extent in arguments["input_shape"]
        )
    with pytest.raises(ValueError, match=match):
        build(**{"method": "latent", **arguments})


def test_masks_of_another_shape_are_an_error():
    model = build("deterministic")
    model.compile()
    with pytest.raises(ValueError, match="`masks` must have 2 regions"):
        model.fit(IMAGES, MASKS[..., :1], verbose=0)


def test_representation_names_the_essentials():
    assert repr(build("latent")).startswith(
        "Segmenter(method='latent', backbone='unet'"
    )


def test_a_training_scope_closes_with_its_block():
    with noise.use(noise.TrainingScope(tf.constant([0, 0]))):
        assert noise.current() is not None
    assert noise.current() is None


def test_a_network_put_together_by_hand_needs_few_settings():
    tensor = tf_keras.Input((4, 4, 2))
    drawn = layers.Convolution2DFlipout(2, 1, seed=5)(tensor)
    model = models.Segmenter(tensor, layers.PointLogits()(drawn))
    model.configure({"beta": 1.0, "seed": 0, "num_train_examples": 8})
    model.compile()
    model.fit(IMAGES[:, :4, :4], MASKS[:, :4, :4], verbose=0)
    shown = "Segmenter(method='own', backbone='own', input_shape=(4, 4, 2), "
    assert repr(model).startswith(shown)


@pytest.mark.filterwarnings("ignore::UserWarning:tensorflow_probability")
@pytest.mark.filterwarnings("ignore:The initializer RandomNormal:UserWarning")
def test_a_layer_of_tfp_itself_is_refused_since_its_kl_would_be_left_out():
    images = tf_keras.Input((16, 16, 2))
    stock = tfp.layers.Convolution2DFlipout(2, 3, padding="same", name="stock")
    logits = layers.PointLogits(name="logits")(stock(images))
    model = models.Segmenter(images, logits)
    model.configure({"seed": 0, "beta": 1.0, "num_regions": 2, "num_train_examples": 8})
    with pytest.raises(ValueError, match=r"'stock' is `tfp.layers.Conv2DFlipout`.*KL"):
        model.compile()
