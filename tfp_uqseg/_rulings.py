"""The rulings every overlap score, loss and metric shares, in one place.

BraTS rules that a region absent from both maps is a perfect answer, and a region
present in one of them alone is a complete miss; its Hausdorff distance is then the
diagonal of a 240 x 240 x 155 mm field of view.
"""

from __future__ import annotations

DICE_BOTH_EMPTY = 1.0
DICE_ONE_EMPTY = 0.0
HD95_BOTH_EMPTY_MM = 0.0
HD95_ONE_EMPTY_MM = 373.13

#: Added to numerator and denominator of the soft Dice, so that an image without
#: tumour still has a gradient and a perfect answer on it scores one.
SOFT_DICE_SMOOTHING = 1.0

#: A voxel belongs to a region when its mean probability exceeds this.
PROBABILITY_THRESHOLD = 0.5
