"""What the paper prints: its settings, its tables, its claims, numbered as there.

Sources are the tables of :cite:t:`sagar2020` (arXiv 2008.07588). Its text calls
Tables 3 and 4 "Table 2" and "Table 3"; here they have the numbers of their captions.
"""

from __future__ import annotations

#: Table 1, and what section 3.4 adds to it.
TABLE_1 = {
    "batch size": "16",
    "optimiser": "Adam",
    "learning rate": "0.001",
    "learning rate scheduler patience": "10",
    "learning rate scheduler factor": "0.1",
    "latent variable size": "10",
    "most epochs": "500",
    "dropout, training and test": "0.3",
}
#: Section 3.4, beside Table 1.
OTHER_SETTINGS = {
    "learning rate scheduler": "cyclical, and ReduceLROnPlateau",
    "momentum (gradient descent)": "0.9",
    "weight decay (gradient descent)": "0.0005",
    "loss": "0.9 Dice + 0.1 cross-entropy (Eq. 18)",
    "members of an ensemble": "5",
    "augmentation": "rescaling by 1/255, rotation 0 to 360 degrees, shifts, shear, "
    "brightness",
    "image": "240 x 240, of 240 x 240 x 155",
    "patients": "175 (BraTS 2018)",
}

#: Table 2: mean uncertainty by method, on validation and on test.
TABLE_2 = {
    "mc_dropout": {"validation": 0.1607, "test": 0.1217},
    "deep_ensemble": {"validation": 0.1204, "test": 0.1146},
    "ensemble_mc_dropout": {"validation": 0.2235, "test": 0.1213},
}
#: The measure behind each number of Table 2, by the paper's definitions.
TABLE_2_MEASURES = {
    "mc_dropout": "expected_entropy",
    "deep_ensemble": "predictive_entropy",
    "ensemble_mc_dropout": "expected_entropy",
}

#: Table 3: mean Dice in per cent by train size.
TABLE_3 = {5: 53.1, 10: 56.6, 15: 60.8, 20: 64.3}
#: Table 4: IoU in per cent by train size.
TABLE_4 = {5: 48.4, 10: 50.6, 15: 53.1, 20: 55.8}

#: The sentence below Figure 4, whose two halves contradict each other.
CLAIM = (
    "aleatoric uncertainty and epistemic uncertainty are co-related i.e with the "
    "increase in confidence taking into account aleatoric uncertainty while segmenting "
    "brain tumours results in increase of epistemic uncertainty and vice versa"
)


def iou_of_equal_images(dice: float) -> float:
    """Return the IoU that a mean Dice goes with if all images score alike.

    ``D / (2 - D)``. It is convex, so that images of different scores give more.

    Args:
        dice: Dice, 0 to 1.

    Returns:
        IoU, 0 to 1.

    >>> iou_of_equal_images(0.5)
    0.3333333333333333
    """
    return dice / (2.0 - dice)
