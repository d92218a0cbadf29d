"""The paper's formulas, each against an integral or a simulation of its own.

Models small enough to integrate: one or two voxels, one number z, one weight. What is
compared is never the formula with itself.
"""

from __future__ import annotations

import itertools
import math
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from scipy import integrate, special, stats

from tfp_uqseg import callbacks, layers, losses, models
from tfp_uqseg.layers import noise, priors
from tfp_uqseg.models import bottleneck, deep_weight
from tfp_uqseg.uncertainty import draws, measures

tfd = tfp.distributions

#: Nodes and weights of the expectation under N(0, 1).
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(24)
Z_NODES, Z_WEIGHTS = np.polynomial.hermite_e.hermegauss(90)
WEIGHTS, Z_WEIGHTS = WEIGHTS / WEIGHTS.sum(), Z_WEIGHTS / Z_WEIGHTS.sum()
#: A grid over z for densities that need not be smooth on the scale of the nodes.
GRID = np.linspace(-20.0, 20.0, 8001)


def inverse_softplus(values):
    return np.log(np.expm1(values)).astype(np.float32)


# --- Eq. 3 and 6 ---------------------------------------------------------------------


def integral_of_kl(q, p):
    """Eq. 6 as printed, -integral q log(p / q), of two scipy distributions."""
    low, high = q.mean() - 12 * q.std(), q.mean() + 12 * q.std()
    return integrate.quad(
        lambda x: -q.pdf(x) * (p.logpdf(x) - q.logpdf(x)), low, high, limit=200
    )[0]


def test_kl_of_a_layer_is_the_integral_of_equation_6():
    """From q to p, not back: the two differ, and so do prior and posterior here."""
    rng = np.random.default_rng(1)
    layer = layers.Convolution2DFlipout(2, 2, prior=0.7, centred_prior=True)
    layer.build((None, 4, 4, 1))
    loc, prior_loc = rng.normal(size=(2, *layer.kernel_loc.shape)).astype(np.float32)
    scale = rng.uniform(0.1, 1.5, loc.shape).astype(np.float32)
    layer.kernel_loc.assign(loc)
    layer.kernel_prior_loc.assign(prior_loc)
    layer.kernel_untransformed_scale.assign(inverse_softplus(scale))
    terms = [
        integral_of_kl(stats.norm(m, s), stats.norm(m_p, 0.7))
        for m, s, m_p in zip(loc.flat, scale.flat, prior_loc.flat, strict=True)
    ]
    one_by_one = tfd.kl_divergence(tfd.Normal(loc, scale), tfd.Normal(prior_loc, 0.7))
    found = layer.kl_divergence().numpy()
    assert found == pytest.approx(np.sum(terms), rel=1e-4)
    assert found == pytest.approx(np.sum(one_by_one), rel=1e-4)


def test_kl_to_the_named_mixture_is_in_units_of_the_he_scale():
    layer = layers.DenseFlipout(256, prior="scale_mixture", use_bias=False)
    layer.build((None, 64))
    he = math.sqrt(2 / 64)
    loc, scale = 0.4 * he, 0.6 * he
    layer.kernel_loc.assign(tf.fill(layer.kernel_loc.shape, np.float32(loc)))
    raw = inverse_softplus(scale)
    layer.kernel_untransformed_scale.assign(tf.fill(layer.kernel_loc.shape, raw))
    share, wide, narrow = priors.MIXTURE
    q = stats.norm(loc, scale)

    def log_prior(x):
        return np.logaddexp(
            math.log(share) + stats.norm.logpdf(x, 0, he * wide),
            math.log(1 - share) + stats.norm.logpdf(x, 0, he * narrow),
        )

    x = np.linspace(loc - 12 * scale, loc + 12 * scale, 40001)
    exact = np.trapezoid(q.pdf(x) * (q.logpdf(x) - log_prior(x)), x)
    sample = q.rvs(400_000, random_state=0)
    simulated = np.mean(q.logpdf(sample) - log_prior(sample))
    assert simulated == pytest.approx(exact, abs=0.01)
    # 8 kernels of 16,384 entries each.
    assert layer.kl_divergence().numpy() / 64 / 256 == pytest.approx(exact, abs=0.02)


# --- Eq. 7 to 9 ----------------------------------------------------------------------


def test_training_loss_and_kl_to_the_posterior_make_up_the_evidence():
    """Eq. 7: log p(D) = ELBO + KL(q || p(w|D)), for a network with one weight.

    The loss that `Segmenter` reports, times -N M, is the ELBO of Eq. 9.
    """
    rng = np.random.default_rng(2)
    images = rng.normal(size=(5, 2, 3, 1)).astype(np.float32)
    masks = (rng.random(images.shape) < special.expit(images)).astype(np.float32)
    tensor = tf_keras.Input((2, 3, 1))
    layer = layers.Convolution2DFlipout(1, 1, prior=0.5, use_bias=False, seed=5)
    model = models.Segmenter(tensor, layers.PointLogits()(layer(tensor)))
    model.configure({"beta": 1.0, "seed": 0, "num_train_examples": len(images)})
    layer.kernel_loc.assign([[[[0.9]]]])
    layer.kernel_untransformed_scale.assign(inverse_softplus(np.full([1] * 4, 0.8)))
    model.compile(
        tf_keras.optimizers.SGD(0.0),
        loss=losses.CrossEntropy(),
        steps_per_execution=500,
    )
    data = tf.data.Dataset.from_tensors((images, masks)).repeat()
    annealing = callbacks.KLAnnealing(0)  # of none
    history = model.fit(
        data, steps_per_epoch=2000, callbacks=[annealing], verbose=0
    ).history
    elbo = -history["loss"][0] * images.size

    w = np.linspace(-12.0, 12.0, 4801)
    logits = w[:, None] * images.ravel()
    signs = 2 * masks.ravel() - 1
    log_joint = stats.norm.logpdf(w, 0, 0.5) + special.log_expit(signs * logits).sum(1)
    evidence = np.log(np.trapezoid(np.exp(log_joint), w))
    q = stats.norm(0.9, 0.8)
    to_posterior = np.trapezoid(q.pdf(w) * (q.logpdf(w) - log_joint + evidence), w)
    assert to_posterior > 0.2
    # The cross-entropy of 2000 drawn weights has a standard error of about 0.07 nats.
    assert elbo + to_posterior == pytest.approx(evidence, abs=0.25)
    assert history["kl"][0] > 1.5


# --- Eq. 10 and 11 -------------------------------------------------------------------


def logit_network(latents=False):
    """A network of one drawn convolution with a normal distribution per logit."""
    tensor = images = tf_keras.Input((3, 3, 4))
    if latents:
        tensor = bottleneck.AsTensor()(layers.GaussianLatent(0.7, seed=3)(tensor))
    kernel = layers.Convolution2DFlipout(4, 1, initial_stddev_ratio=1.0, seed=4)
    return tf_keras.Model(images, layers.GaussianLogits()(kernel(tensor)))


def components(model, images, num_draws, num_latent_draws=1):
    """Mean and standard deviation of the logits of all draws, (S, L, ...)."""
    found = []
    for draw, inner in itertools.product(range(num_draws), range(num_latent_draws)):
        with noise.use(noise.DrawScope(noise.draw_key(0, draw), inner)):
            logits = model(images)
        found.append((logits.mean().numpy(), logits.stddev().numpy()))
    shape = (num_draws, num_latent_draws, *found[0][0].shape)
    return [np.reshape(part, shape) for part in zip(*found, strict=True)]


def mixture(loc, stddev):
    """Equal shares of all components, which run along the first axis."""
    last = [np.moveaxis(part, 0, -1) for part in (loc, stddev)]
    shares = tfd.Categorical(logits=np.zeros(loc.shape[0], np.float32))
    return tfd.MixtureSameFamily(shares, tfd.Normal(*last))


@pytest.mark.parametrize("latents", [False, True])
def test_the_two_terms_of_equation_11_are_the_variance_of_the_mixture(latents):
    images = np.random.default_rng(3).normal(size=(1, 3, 3, 4)).astype(np.float32)
    model, inner = logit_network(latents), 4 if latents else 1
    found = draws.predict(model, images, 6, num_latent_draws=inner)
    loc, stddev = components(model, images, 6, inner)
    total = found.logit_aleatoric_variance + found.logit_epistemic_variance
    whole = mixture(loc.reshape(-1, 1, 3, 3, 2), stddev.reshape(-1, 1, 3, 3, 2))
    np.testing.assert_allclose(total, whole.variance(), rtol=1e-4)
    sample = whole.sample(100_000, seed=0).numpy()
    np.testing.assert_allclose(total, sample.var(axis=0), rtol=0.06)
    # Each term alone: between the networks, and within one of them.
    between = loc.mean(axis=1).var(axis=0)
    np.testing.assert_allclose(found.logit_epistemic_variance, between, rtol=1e-3)
    assert found.logit_epistemic_variance.mean() > 0.05
    assert found.logit_aleatoric_variance.mean() > 0.05


# --- Eq. 13, reading A ---------------------------------------------------------------


def decoder(z):
    """Mean (..., 2) and standard deviation of two voxels given z: far from linear."""
    loc = np.stack([1.5 * np.tanh(2.0 * z), np.cos(1.5 * z) - 0.5], axis=-1)
    stddev = np.stack([0.5 + 0.3 * np.cos(z), 0.7 + 0.0 * z], axis=-1)
    return loc, stddev


def deaf_decoder(z):
    """Two voxels that are N(0, 1) whatever z is."""
    return np.zeros([*z.shape, 2]), np.ones([*z.shape, 2])


def log_marginal(w, decoder):
    """Return log p(w) and log p(z|w) on the grid, for w (n, 2), by quadrature."""
    loc, stddev = decoder(GRID)
    log_joint = stats.norm.logpdf(w[:, None, :], loc, stddev).sum(-1)
    log_joint += stats.norm.logpdf(GRID)
    log_p = np.log(np.trapezoid(np.exp(log_joint), GRID, axis=1))
    return log_p, log_joint - log_p[:, None]


MAP_LOC, MAP_STDDEV = np.array([0.5, -0.4]), np.array([0.35, 0.5])
ENCODERS = {
    "fair": lambda w: (0.5 * np.tanh(w.sum(-1)), 0.5 + 0.2 * special.expit(w[..., 0])),
    "prior": lambda w: (0.0 * w[..., 0], 1.0 + 0.0 * w[..., 0]),
    "sharp": lambda w: (0.3 * w[..., 0], 0.15 + 0.0 * w[..., 0]),
    "wide": lambda w: (0.2 * w[..., 1], 1.8 + 0.0 * w[..., 0]),
}


def integrated_bound(encoder, decoder=decoder):
    """Return the expected bound, KL(q || p) and the gap, each by quadrature."""
    w = np.stack(np.meshgrid(NODES, NODES, indexing="ij"), -1).reshape(-1, 2)
    w = MAP_LOC + MAP_STDDEV * w
    w_weights = np.outer(WEIGHTS, WEIGHTS).ravel()
    code_loc, code_stddev = encoder(w)

    # One example of the batch for every pair of nodes of w and z.
    count = len(Z_NODES)
    z = (code_loc[:, None] + code_stddev[:, None] * Z_NODES).ravel()
    w_of = np.repeat(w, count, axis=0)
    moments = [
        (np.broadcast_to(MAP_LOC, w_of.shape), np.broadcast_to(MAP_STDDEV, w_of.shape)),
        tuple(np.repeat(part, count)[:, None] for part in (code_loc, code_stddev)),
        decoder(z),
    ]
    tensors = tf.nest.map_structure(lambda x: tf.constant(x, tf.float32), moments)
    values, _ = bottleneck.latent_bound(tf.constant(w_of, tf.float32), *tensors)
    weights = np.outer(w_weights, Z_WEIGHTS).ravel()
    bound = np.sum(weights * values.numpy().astype(np.float64))

    log_p, log_posterior = log_marginal(w, decoder)
    log_q = stats.norm.logpdf(w, MAP_LOC, MAP_STDDEV).sum(-1)
    log_r = stats.norm.logpdf(GRID, code_loc[:, None], code_stddev[:, None])
    gaps = np.trapezoid(np.exp(log_r) * (log_r - log_posterior), GRID, axis=1)
    gaps_of_prior = np.trapezoid(np.exp(log_r) * stats.norm.logpdf(GRID), GRID, axis=1)
    kl, gap, log_prior = (
        np.sum(w_weights * term) for term in (log_q - log_p, gaps, gaps_of_prior)
    )
    return bound, kl, gap, log_prior


@pytest.mark.parametrize("name", ENCODERS)
def test_the_latent_bound_exceeds_kl_by_what_the_encoder_misses(name):
    bound, kl, gap, _ = integrated_bound(ENCODERS[name])
    assert gap > 0.05
    assert bound > kl
    assert bound - kl == pytest.approx(gap, rel=0.01, abs=2e-3)


def test_equation_13_as_printed_bounds_nothing():
    """Without log p(z) the sum falls below KL, by H[r] if the decoder ignores z."""
    bound, kl, _, log_prior = integrated_bound(ENCODERS["wide"], deaf_decoder)
    entropy = stats.norm(0.0, 1.8).entropy()
    assert bound > kl
    assert bound + log_prior == pytest.approx(kl - entropy, abs=1e-3)
    assert entropy > 2.0


def test_the_recorded_bound_is_about_the_latents_that_the_network_draws():
    rng = np.random.default_rng(5)
    shapes = [(2, 4, 4, 4), (2, 6), (2, 4, 4, 4)]
    maps_in, code_in, prior_in = (
        tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes
    )
    start = -2.0
    maps = layers.GaussianLatent(bottleneck.MAP_STDDEV, start)
    code = layers.GaussianLatent(bottleneck.CODE_STDDEV)
    with noise.use(noise.TrainingScope(noise.step_key(0, 0))) as scope:
        q, r = maps(maps_in, training=True), code(code_in, training=True)
        sample = tf.convert_to_tensor(q)
        bottleneck.LatentBound(start)([sample, sample, maps_in, code_in, prior_in])
    loc, raw = np.split(prior_in.numpy(), 2, axis=-1)
    stddev = bottleneck.MIN_PRIOR_STDDEV + np.logaddexp(
        0.0, raw + math.log(math.expm1(bottleneck.PRIOR_STDDEV))
    )
    prior = tfd.Independent(tfd.Normal(loc + start, stddev.astype(np.float32)), 3)
    normal = tfd.MultivariateNormalDiag(tf.zeros([3]))
    code_kl = tfd.kl_divergence(
        tfd.MultivariateNormalDiag(r.mean(), r.stddev()), normal
    )
    expected = code_kl - q.entropy() - prior.log_prob(sample)
    recorded = scope.records["latent_bound"].numpy()
    assert recorded == pytest.approx(np.mean(expected), rel=1e-4)
    np.testing.assert_allclose(scope.early_logits.mean(), q.mean(), rtol=1e-5)
    assert scope.records["code_kl"].numpy() == pytest.approx(np.mean(code_kl), rel=1e-4)


# --- Eq. 13, reading B ---------------------------------------------------------------


@pytest.fixture(scope="module")
def autoencoder():
    """An autoencoder of slices of two numbers with one latent, as arrays."""
    rng = np.random.default_rng(6)
    start = deep_weight.initial_parameters(2, 1, seed=0)
    last = {name: 0.05 * rng.normal(size=start[name].shape) for name in start}
    return {name: (start[name] + last[name]).astype(np.float32) for name in start}


def answer(parameters, part, x):
    """The same network in NumPy, written out anew."""
    for index in range(3):
        x = x @ parameters[f"{part}{index}/kernel"] + parameters[f"{part}{index}/bias"]
        x = np.where(x > 0, x, np.expm1(x)) if index < 2 else x
    loc, raw = np.split(x.astype(np.float64), 2, axis=-1)
    floor = deep_weight.MIN_STDDEV if part == "decoder" else 1e-3
    return loc, floor + np.logaddexp(0.0, raw + math.log(math.expm1(1.0 - floor)))


def integrated_density(parameters, slices):
    """Return log p(v) and KL(r(z|v) || p(z|v)) of slices (n, 2), by quadrature."""
    loc, stddev = answer(parameters, "decoder", GRID[:, None])
    log_joint = stats.norm.logpdf(slices[:, None, :], loc, stddev).sum(-1)
    log_joint += stats.norm.logpdf(GRID)
    log_p = np.log(np.trapezoid(np.exp(log_joint), GRID, axis=1))
    log_r = stats.norm.logpdf(GRID, *answer(parameters, "encoder", slices))
    gap = np.trapezoid(
        np.exp(log_r) * (log_r - log_joint + log_p[:, None]), GRID, axis=1
    )
    return log_p, gap


@pytest.mark.parametrize("values", [(1.5, 1.0), (-2.0, 0.4)])
def test_the_density_of_a_slice_is_bounded_by_what_the_encoder_misses(
    autoencoder, values
):
    slices = np.tile(np.float32(values), (40_000, 1))
    found = deep_weight.negative_log_density(
        autoencoder, tf.constant(slices), noise.draw_key(0, 0)
    ).numpy()
    error = float(found.std()) / math.sqrt(len(found))
    log_p, gap = integrated_density(autoencoder, slices[:1])
    assert gap[0] > 10 * error
    assert found.mean() > -log_p[0]
    assert found.mean() == pytest.approx(-log_p[0] + gap[0], abs=5 * error)


def test_the_bound_of_a_layer_exceeds_kl_by_what_the_encoder_misses(autoencoder):
    """KL(q(w) || p(w)) of 16,384 equal slices, w in units of the layer times 0.3."""
    layer = layers.Convolution2DFlipout(128, (1, 2), use_bias=False, seed=7, name="it")
    layer.build((None, 4, 4, 128))
    loc, stddev, scale = np.array([0.3, -0.3]), np.array([0.1, 0.06]), 0.3
    shape = layer.kernel_loc.shape
    spread = np.broadcast_to(loc[None, :, None, None], shape)
    layer.kernel_loc.assign(spread)
    spread = np.broadcast_to(stddev[None, :, None, None], shape)
    layer.kernel_untransformed_scale.assign(inverse_softplus(spread))
    parameters = {f"1x2/{name}": value for name, value in autoencoder.items()}
    key = noise.step_key(0, 0)
    found = deep_weight.kl_bound(layer, parameters, {"it": scale}, key).numpy()

    w = np.stack(np.meshgrid(NODES, NODES, indexing="ij"), -1).reshape(-1, 2)
    w = loc + stddev * w
    weights = np.outer(WEIGHTS, WEIGHTS).ravel()
    log_p, gap = integrated_density(autoencoder, w / scale)
    log_q = stats.norm.logpdf(w, loc, stddev).sum(-1)
    kl = np.sum(weights * (log_q - (log_p - 2 * math.log(scale))))
    gap = np.sum(weights * gap)
    assert gap > 0.05
    assert found / 128**2 > kl
    # The standard error of so many slices is 0.008 nats.
    assert found / 128**2 == pytest.approx(kl + gap, abs=0.04)


# --- Local reparameterisation --------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "shape"),
    [
        (layers.Convolution2DLocalReparameterization, (2, 3), (1, 5, 5, 2)),
        (layers.DenseLocalReparameterization, (6,), (1, 4)),
    ],
)
def test_local_responses_have_the_moments_of_4000_drawn_kernels(kind, arguments, shape):
    """Every output alone: mean and variance over kernels for one fixed input."""
    rng, count = np.random.default_rng(8), 4000
    layer = kind(*arguments, seed=9)
    inputs = rng.normal(size=shape).astype(np.float32)
    layer.build(shape)
    scale = rng.uniform(0.05, 0.8, layer.kernel_loc.shape)
    layer.kernel_untransformed_scale.assign(inverse_softplus(scale))

    @tf.function
    def over_kernels():
        def respond(draw):
            with noise.use(noise.DrawScope(noise.draw_key(0, draw))):
                return layer(inputs)[0]

        return tf.map_fn(respond, tf.range(count), fn_output_signature=tf.float32)

    drawn = over_kernels().numpy()
    local = layer(np.repeat(inputs, count, axis=0), training=True).numpy()
    error = drawn.std(0) / math.sqrt(count)
    assert np.abs(local.mean(0) - drawn.mean(0)).max() < 5 * math.sqrt(2) * error.max()
    # A variance of 4000 values has a relative error of 0.022, that of a ratio 0.032.
    ratio = local.var(0) / drawn.var(0)
    np.testing.assert_allclose(ratio, 1.0, atol=0.15)
    assert ratio.mean() == pytest.approx(1.0, abs=0.03)
    assert np.ptp(drawn.var(0)) > 0.2 * drawn.var(0).mean()


# --- Eq. 16 and 17 -------------------------------------------------------------------


def test_equation_17_is_one_minus_dice_up_to_the_smoothing():
    rng = np.random.default_rng(10)
    mask, predicted = (rng.random((3, 5, 5, 1)) < 0.4 for _ in range(2))
    hits = np.sum(mask & predicted, axis=(1, 2, 3))
    wrong = np.sum(mask ^ predicted, axis=(1, 2, 3))  # FN + FP
    found = 1 - losses.soft_dice(mask, np.where(predicted, 40.0, -40.0)).numpy()[:, 0]
    np.testing.assert_allclose(found, wrong / (2 * hits + wrong + 1), rtol=1e-5)


# --- Eq. 21 and 22 -------------------------------------------------------------------


def literal_entropy(p):
    """Eq. 21, its inner sum over both classes, for one voxel and draws (S,)."""
    total = 0.0
    for draw in p:
        for share in (draw, 1.0 - draw):
            total -= share * math.log(share)
    return total / len(p)


def test_expected_entropy_is_equation_21_and_over_members_equation_22():
    p = np.random.default_rng(11).uniform(0.01, 0.99, size=(3, 7))  # members, draws
    assert measures.expected_entropy(p[0]) == pytest.approx(literal_entropy(p[0]))
    members = np.mean([literal_entropy(member) for member in p])
    assert measures.expected_entropy(p.ravel()) == pytest.approx(members)


def test_entropies_differ_by_the_mean_divergence_from_the_mean():
    """Predictive - expected entropy = mean KL(p_s || mean p), computed as such."""
    p = np.random.default_rng(12).uniform(0.01, 0.99, size=(9, 5))
    both, mean = np.stack([p, 1 - p]), np.stack([p.mean(0), 1 - p.mean(0)])
    information = special.rel_entr(both, mean[:, None]).sum(0).mean(0)
    np.testing.assert_allclose(measures.mutual_information(p), information, rtol=1e-9)
    total = measures.expected_entropy(p) + information
    np.testing.assert_allclose(measures.predictive_entropy(p), total, rtol=1e-9)


def test_an_ensembles_prediction_is_equations_10_and_22():
    images = np.random.default_rng(13).normal(size=(1, 4, 4, 3)).astype(np.float32)
    members = []
    for seed in (0, 1):
        tf_keras.utils.set_random_seed(seed)
        tensor = tf_keras.Input((4, 4, 3))
        dropped = layers.ChannelDropout(0.5, seed=seed)(tensor)
        member = tf_keras.Model(tensor, tf_keras.layers.Conv2D(1, 1)(dropped))
        members.append(member)
    ensemble = types.SimpleNamespace(members=members, input_shape=(None, 4, 4, 3))
    found = draws.predict(ensemble, images, 5)
    p = np.stack(
        [[draws.probabilities(m, images, d) for d in range(5)] for m in members]
    )
    np.testing.assert_allclose(found.mean_probabilities, p.mean((0, 1)), atol=1e-6)
    entropies = measures.binary_entropy(p).mean(1)  # Eq. 21 of each member
    np.testing.assert_allclose(found.expected_entropy, entropies.mean(0), atol=1e-5)
    assert np.abs(entropies[0] - entropies[1]).max() > 0.01
