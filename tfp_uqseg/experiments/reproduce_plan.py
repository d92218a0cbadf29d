"""What a reproduction of the paper trains: a budget, and the list of its networks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable

from tfp_uqseg import _checks

#: The method that Tables 3 and 4 are about.
PAPER_METHOD = "latent"
#: The deterministic network, asked about flipped and turned images.
TEST_TIME = "test_time_augmentation"
#: All that are compared on one split, in the order of the tables.
METHODS = (
    "deterministic",
    TEST_TIME,
    "mc_dropout",
    "deep_ensemble",
    "ensemble_mc_dropout",
    "reparameterization",
    "local_reparameterization",
    "flipout",
    "deep_weight",
    "latent",
)
#: Those of one network, which have no epistemic uncertainty.
WITHOUT_DRAWS = ("deterministic", TEST_TIME)
ENSEMBLES = ("deep_ensemble", "ensemble_mc_dropout")
#: The first has results for every train size.
BACKBONES = ("unet", "vnet", "fcn")
#: Networks on other patients, whose kernels the deep weight prior is fitted to.
SOURCE = "source"
#: A step of these costs a multiple of the others: two convolutions, or two kernels.
_COSTLY = (
    "flipout",
    "deep_weight",
    "reparameterization",
    "local_reparameterization",
    "latent",
)
_COST = 2.5


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a reproduction may cost, every number of it.

    Attributes:
        name: Of the scale.
        size: Height and width of the slices, voxels. Larger slices are averaged down
            by a whole factor.
        slices: Most axial slices of a patient, evenly spaced among those with brain;
            None for all.
        num_validation: Patients whose uncertainty Table 2 averages, beside the test.
        num_test: Patients whom every score is about.
        num_sources: Patients of the networks that the deep weight prior learns from;
            they are in no other set.
        most_shifted: Most patients of the shifted test set; None for all.
        train_sizes: Patients of Tables 3 and 4, ascending.
        seeds: Seeds of Tables 3 and 4; the first is that of the other tables.
        other_sizes: Train sizes of the backbones beside the first.
        prior_sizes: Train sizes of the comparison of priors.
        prior_seeds: Seeds of the comparison of priors.
        source_networks: Networks whose kernels the deep weight prior is fitted to.
        steps: Optimisation steps of every network (of each member of an ensemble);
            None where `epochs` decide.
        epochs: Parts of the steps between which rates are set, or, without `steps`, the
            most passes over the slices.
        batch_size: Slices per step.
        base_filters: Filters of the first convolution.
        learning_rate: Largest rate.
        schedule: ``"cosine"``, or the paper's ``"plateau"`` with a cycle.
        augmentation: Name of the augmentation of `data.pipeline.slices`.
        patience: Epochs without progress before the rate falls.
        factor: By which it falls.
        latent_size: Length of the latent code.
        dropout: Rate of the methods with dropout.
        members: Networks of an ensemble.
        num_draws: Network draws of a prediction, for each member of an ensemble.
        intensity: ``"zscore"`` or the paper's ``"rescale"``.
        crop: Whether to cut studies to the brain before the slices are made.
        step_seconds: Of one step of a deterministic network on two slow cores, for the
            estimate; None for no estimate.
        unit_seconds: Of building, tracing, predicting and scoring one network.
    """

    name: str
    size: int
    slices: int | None
    num_validation: int
    num_test: int
    num_sources: int
    most_shifted: int | None
    train_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    other_sizes: tuple[int, ...]
    prior_sizes: tuple[int, ...]
    prior_seeds: tuple[int, ...]
    source_networks: int
    steps: int | None
    epochs: int
    batch_size: int
    base_filters: int
    learning_rate: float
    schedule: str
    num_draws: int
    intensity: str
    crop: bool
    augmentation: str = "flips"
    patience: int = 10
    factor: float = 0.1
    latent_size: int = 10
    dropout: float = 0.3
    members: int = 5
    step_seconds: float | None = None
    unit_seconds: float = 0.0

    @property
    def train_size(self) -> int:
        """The largest, at which methods are compared."""
        return self.train_sizes[-1]

    @property
    def num_patients(self) -> int:
        """Patients that training, validation, test and sources need."""
        held_out = self.num_validation + self.num_test + self.num_sources
        return self.train_size + held_out


SMALL = Budget(
    name="small",
    size=64,
    slices=16,
    num_validation=5,
    num_test=8,
    num_sources=8,
    most_shifted=None,
    train_sizes=(5, 10, 15, 20),
    seeds=(0, 1),
    other_sizes=(20,),
    prior_sizes=(5, 10),
    prior_seeds=(0, 1, 2),
    source_networks=3,
    steps=150,
    epochs=15,
    batch_size=8,
    base_filters=8,
    learning_rate=3e-3,
    schedule="cosine",
    num_draws=10,
    intensity="zscore",
    crop=True,
    step_seconds=0.15,
    unit_seconds=30.0,
)
PAPER = Budget(
    name="paper",
    size=240,
    slices=None,
    num_validation=20,
    num_test=40,
    num_sources=20,
    most_shifted=None,
    train_sizes=(5, 10, 15, 20),
    seeds=(0, 1, 2),
    other_sizes=(5, 10, 15, 20),
    prior_sizes=(5, 10),
    prior_seeds=(0, 1, 2),
    source_networks=5,
    steps=None,
    epochs=500,
    batch_size=16,
    base_filters=32,
    learning_rate=1e-3,
    schedule="plateau",
    num_draws=20,
    intensity="rescale",
    crop=False,
    augmentation="paper",
)
#: By the name on the command line.
BUDGETS = {"small": SMALL, "paper": PAPER}


@dataclasses.dataclass(frozen=True)
class Unit:
    """One network to train, to predict with and to score: one record.

    Attributes:
        method: Among `METHODS`, or `SOURCE`.
        backbone: Among `BACKBONES`.
        train_size: Patients to train on.
        seed: Of their order, the weights, the stream and the draws.
    """

    method: str
    backbone: str
    train_size: int
    seed: int

    @property
    def key(self) -> str:
        """Name of its record.

        >>> Unit("latent", "unet", 5, 0).key
        'latent-unet-n05-s0'
        """
        return f"{self.method}-{self.backbone}-n{self.train_size:02d}-s{self.seed}"


def units(
    budget: Budget,
    *,
    methods: Iterable[str] = METHODS,
    backbones: Iterable[str] = BACKBONES,
) -> list[Unit]:
    """Return the networks of all tables, each once, sources before what needs them.

    Args:
        budget: Sizes and seeds.
        methods: Those that can be built.
        backbones: Those that can be built.

    Returns:
        The units, in the order of work.
    """
    backbone, *others = BACKBONES
    size, seed = budget.train_size, budget.seeds[0]
    found = [
        Unit(SOURCE, backbone, budget.num_sources, number)
        for number in range(budget.source_networks)
        if "deep_weight" in methods
    ]
    # Large sizes and all methods first: a run that is stopped has most of its tables.
    found += [Unit(method, backbone, size, seed) for method in METHODS]
    for number in budget.seeds:
        found += [
            Unit(PAPER_METHOD, backbone, n, number)
            for n in reversed(budget.train_sizes)
        ]
        for other in others:
            found += [Unit(PAPER_METHOD, other, n, number) for n in budget.other_sizes]
    found += [
        Unit(method, backbone, n, number)
        for n in budget.prior_sizes
        for number in budget.prior_seeds
        for method in ("flipout", "deep_weight")
    ]
    known = {SOURCE, *methods}
    if "deterministic" in known:
        known.add(TEST_TIME)
    return [
        unit
        for unit in dict.fromkeys(found)
        if unit.method in known and unit.backbone in backbones
    ]


def compares_methods(unit: Unit, budget: Budget) -> bool:
    """Whether the unit is of the split on which methods are compared.

    Only these predict validation and shifted patients too.
    """
    place = (unit.backbone, unit.train_size, unit.seed)
    here = (BACKBONES[0], budget.train_size, budget.seeds[0])
    return unit.method != SOURCE and place == here


def networks(unit: Unit, budget: Budget) -> int:
    """Return the networks that a unit trains."""
    return budget.members if unit.method in ENSEMBLES else 1


def count_steps(found: Iterable[Unit], budget: Budget) -> int:
    """Return the optimisation steps of these units; 0 where epochs decide."""
    return sum(networks(unit, budget) for unit in found) * (budget.steps or 0)


def estimate_minutes(found: Iterable[Unit], budget: Budget) -> float | None:
    """Return about how long these units take on two slow cores; None if unknown."""
    if budget.step_seconds is None or budget.steps is None:
        return None
    seconds = 0.0
    for unit in found:
        each = budget.step_seconds * (_COST if unit.method in _COSTLY else 1)
        each = networks(unit, budget) * (each * budget.steps + budget.unit_seconds)
        seconds += each
    return seconds / 60.0


def fingerprint(budget: Budget, data: object) -> str:
    """Return 12 digits that change with the budget or the data.

    Args:
        budget: Every number of it counts, but for the estimates.
        data: Plain values that tell the data and the split.
    """
    values = dataclasses.asdict(budget)
    for name in ("step_seconds", "unit_seconds"):
        del values[name]
    text = json.dumps([values, data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def get_budget(scale: str) -> Budget:
    """Return the budget of a scale.

    Raises:
        ValueError: If there is no such scale.
    """
    _checks.one_of("scale", scale, BUDGETS)
    return BUDGETS[scale]
