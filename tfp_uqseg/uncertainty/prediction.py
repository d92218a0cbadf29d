"""What network draws say, as NumPy maps; the end of one run and the start of another.

Everything is a running mean over the draws, so that the maps of 20 draws are all that
40 need to go on from.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfp_uqseg.uncertainty import measures

#: Running means of a draw's probabilities and, with variances, what follows.
_ENTROPIES = ("mean_probabilities", "expected_entropy")
_VARIANCES = ("epistemic_variance",)
_LOGITS = ("mean_logits", "logit_epistemic_variance", "logit_aleatoric_variance")


@dataclasses.dataclass(frozen=True, repr=False)
class Prediction:
    """What the draws say, per voxel and region. Maps are float32 (N, ..., K).

    Attributes:
        mean_probabilities: Mean over draws of p_s.
        predictive_entropy: H[mean_s p_s], nats.
        expected_entropy: mean_s H[p_s], nats: aleatoric.
        mutual_information: Their difference, nats: epistemic.
        aleatoric_variance: mean_s p_s (1 - p_s), probability^2; None where no variances
            were asked for, as are the next four.
        epistemic_variance: var_s p_s, probability^2.
        logit_aleatoric_variance: Eq. 11, first term, logit^2; None without a Gaussian
            head.
        logit_epistemic_variance: Eq. 11, second term, logit^2; None likewise.
        voxel_counts: int64 (num_draws, K), voxels with p_s > 0.5 over all images, in
            the region or in one that it contains.
        num_draws: Number of network draws, those of all members of an ensemble.
        num_latent_draws: Number of inner draws of each.
        seed: Seed of the draws.
        mean_logits: Mean over draws of mu_s, logit; None likewise.
        draw_masks: Where p_s > 0.5, in the region or one that it contains, bool
            (draws, N, ..., K); None unless they were asked for. One draw where draws
            do not differ.
    """

    mean_probabilities: np.ndarray
    predictive_entropy: np.ndarray
    expected_entropy: np.ndarray
    mutual_information: np.ndarray
    aleatoric_variance: np.ndarray | None
    epistemic_variance: np.ndarray | None
    logit_aleatoric_variance: np.ndarray | None
    logit_epistemic_variance: np.ndarray | None
    voxel_counts: np.ndarray
    num_draws: int
    num_latent_draws: int
    seed: int
    mean_logits: np.ndarray | None = None
    draw_masks: np.ndarray | None = None

    def __repr__(self):
        return (
            f"Prediction(shape={self.mean_probabilities.shape}, "
            f"num_draws={self.num_draws}, num_latent_draws={self.num_latent_draws}, "
            f"seed={self.seed})"
        )

    def running_means(self) -> list[np.ndarray]:
        """Return the running means that a further draw changes, in `of_means`'s order.

        Two of them without variances, three with them, six with a Gaussian head too.
        """
        names = [*_ENTROPIES, *_VARIANCES, *_LOGITS]
        means = [getattr(self, name) for name in names]
        return [array for array in means if array is not None]


def of_means(
    means: list[np.ndarray],
    voxel_counts: np.ndarray,
    *,
    num_draws: int,
    num_latent_draws: int,
    seed: int,
    draw_masks: np.ndarray | None = None,
    alone: bool = False,
) -> Prediction:
    """Return the maps that follow from running means.

    Args:
        means: Float32 (N, ..., K) each: of p_s and H[p_s]; then, with variances, the
            variance of p_s; then, with a Gaussian head, mean and variance of mu_s and
            the mean of sigma_s^2.
        voxel_counts: (num_draws, K).
        num_draws: See `Prediction`.
        num_latent_draws: See `Prediction`.
        seed: See `Prediction`.
        draw_masks: See `Prediction`.
        alone: Whether there was one draw, which does not disagree with itself: then
            rounding alone would make mutual information.
    """
    mean = np.clip(means[0], 0.0, 1.0)
    total = measures.binary_entropy(mean)
    found = dict.fromkeys([*_VARIANCES, *_LOGITS, "aleatoric_variance"])
    found.update(zip([*_VARIANCES, *_LOGITS], means[2:], strict=False))
    if found["epistemic_variance"] is not None:
        # mean p - mean p^2: the total variance less the part between draws.
        rest = mean * (1.0 - mean) - found["epistemic_variance"]
        found["aleatoric_variance"] = np.maximum(rest, 0.0)
    return Prediction(
        mean_probabilities=mean,
        predictive_entropy=total,
        expected_entropy=means[1],
        mutual_information=np.maximum(total - means[1], 0.0) * np.float32(not alone),
        voxel_counts=voxel_counts,
        num_draws=num_draws,
        num_latent_draws=num_latent_draws,
        seed=seed,
        draw_masks=draw_masks,
        **found,
    )
