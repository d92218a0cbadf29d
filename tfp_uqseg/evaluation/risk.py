"""Risk against coverage: whether the cases left to a person are the right ones.

The least confident cases are referred first; the risk of a case is what its answer
lacks, 1 - Dice. Cases of equal uncertainty count as their mean, which is what any
random order among them would give on average.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfp_uqseg import _checks
from tfp_uqseg.evaluation import retention


class Risk(NamedTuple):
    """Areas under curves of risk over the share of cases that is kept.

    Attributes:
      aurc: Mean risk of the cases kept, averaged over how many are kept.
      e_aurc: `aurc` less that of the best order, at least 0.
      augrc: Area under the risk of the kept cases as a share of all cases
        :cite:p:`traub2024`: the chance that a case is kept and wrong.
    """

    aurc: float
    e_aurc: float
    augrc: float


def risk(uncertainty, scores) -> Risk:
    """Areas under the risk-coverage curves of cases.

    Args:
      uncertainty: One finite number per case, shape (cases,); the largest is referred
        first.
      scores: Score of each case, 0 (wrong) to 1 (right), such as Dice; same shape.

    Returns:
      `Risk`.

    Raises:
      ValueError: If there is no case, shapes differ, or a value is not finite.

    >>> found = risk([0.1, 0.9], [1.0, 0.5])
    >>> found.aurc, found.e_aurc, found.augrc
    (0.125, 0.0, 0.0625)
    """
    curve = retention.curve(uncertainty, scores)
    kept = 1.0 - curve.score
    # Both curves are averaged over the same counts: the excess is never below zero.
    excess = max(float((kept - (1.0 - curve.best)).mean()), 0.0)
    joint = np.concatenate([[0.0], kept * curve.fraction])
    area = float((0.5 * (joint[1:] + joint[:-1])).mean())
    return Risk(float(kept.mean()), excess, area)


def referral_gain(uncertainty, scores, share: float = 0.2) -> float:
    """How much the mean score rises when the least sure cases are referred.

    Args:
      uncertainty: One finite number per case, shape (cases,).
      scores: Score of each case, same shape.
      share: Of the cases that is referred, at least one case and not all of them.

    Returns:
      Mean score of the cases kept less that of all; below zero where the wrong cases
      are referred.

    Raises:
      ValueError: See `risk`; or `share` leaves no case.

    >>> referral_gain([0.1, 0.2, 0.3, 0.4, 0.9], [0.8, 0.8, 0.8, 0.8, 0.3])
    0.1
    """
    share = _checks.probability("share", share)
    curve = retention.curve(uncertainty, scores)
    count = curve.score.size
    referred = max(1, round(share * count))
    if referred >= count:
        raise ValueError(
            f"`share` must leave a case; {share} of {count} cases refers all of them."
        )
    return float(curve.score[count - referred - 1] - curve.score[-1])
