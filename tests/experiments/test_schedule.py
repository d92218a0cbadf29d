"""Learning rate, annealing and the clock follow the progress of a run."""

from __future__ import annotations

import math

import pytest
import tf_keras

from tfp_uqseg import callbacks
from tfp_uqseg.experiments import schedule
from tfp_uqseg.experiments.config import TrainConfig


class Watch:
    """A clock that tests move."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def watch():
    return Watch()


def test_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    def rate(progress):
        return schedule.learning_rate(progress, peak=2.0, warm_up=0.1)

    assert rate(0.0) == pytest.approx(0.02)
    assert rate(0.05) == pytest.approx(2.0 * 0.505)
    assert rate(0.1) == pytest.approx(2.0)
    assert rate(0.55) == pytest.approx(2.0 * 0.505)
    assert rate(1.0) == pytest.approx(0.02)


def test_learning_rate_without_warm_up_starts_at_its_peak():
    assert schedule.learning_rate(0.0, peak=1.0, warm_up=0.0) == 1.0


@pytest.mark.parametrize(
    ("progress", "fraction", "expected"),
    [(0.0, 0.5, 0.0), (0.25, 0.5, 0.5), (0.5, 0.5, 1.0), (1.0, 0.5, 1.0), (0, 0, 1.0)],
)
def test_annealing_rises_linearly_to_one(progress, fraction, expected):
    assert schedule.annealing(progress, fraction=fraction) == expected


def test_progress_is_the_larger_of_time_and_epochs(watch):
    clock = schedule.Clock(10, max_minutes=2, now=watch)
    clock.start()
    watch.seconds += 30
    assert clock.progress(1) == pytest.approx(0.25)
    assert clock.progress(5) == pytest.approx(0.5)
    assert clock.progress(20) == 1.0


def test_time_before_the_start_does_not_count(watch):
    clock = schedule.Clock(10, max_minutes=1, now=watch)
    watch.seconds += 1000
    assert clock.elapsed == 0.0
    clock.start()
    watch.seconds += 30
    clock.start()
    assert clock.elapsed == 30.0


def test_time_of_earlier_parts_counts(watch):
    clock = schedule.Clock(10, max_minutes=1, elapsed=45, now=watch)
    clock.start()
    assert clock.progress(0) == pytest.approx(0.75)
    watch.seconds += 15
    assert clock.out_of_time


def test_the_reserve_ends_a_run_early(watch):
    clock = schedule.Clock(10, max_minutes=1, reserve=20, now=watch)
    clock.start()
    watch.seconds += 39
    assert not clock.out_of_time
    watch.seconds += 1
    assert clock.out_of_time
    assert clock.progress(0) == 1.0


def test_without_a_limit_time_never_ends(watch):
    clock = schedule.Clock(10, now=watch)
    clock.start()
    watch.seconds += 1e9
    assert not clock.out_of_time
    assert clock.progress(5) == 0.5


def test_minutes_left_leave_out_what_happens_once(watch):
    clock = schedule.Clock(10, now=watch)
    clock.start()
    watch.seconds += 600  # tracing
    assert math.isnan(clock.minutes_left(0.1))
    watch.seconds += 54
    assert clock.minutes_left(1) == pytest.approx(9.0)


def test_minutes_left_are_no_more_than_the_limit_leaves(watch):
    clock = schedule.Clock(10, max_minutes=5, reserve=30, now=watch)
    clock.start()
    watch.seconds += 60
    assert clock.minutes_left(0.5) == pytest.approx(3.5)
    watch.seconds += 60
    assert clock.minutes_left(1) == pytest.approx(2.5)
    watch.seconds += 600
    assert clock.minutes_left(2) == 0.0


class Model:
    """As much of a model as the schedule touches."""

    def __init__(self):
        self.optimizer = tf_keras.optimizers.Adam(1.0)
        self.annealing = tf_keras.backend.variable(1.0)
        self.stop_training = False


@pytest.fixture
def callback(watch):
    clock = schedule.Clock(4, max_minutes=1, now=watch)
    settings = TrainConfig(learning_rate=1.0, warm_up=0.0, kl_annealing=0.5)
    callback = schedule.ProgressSchedule(clock, settings, steps_per_epoch=10)
    callback.set_model(Model())
    callback.on_train_begin()
    return callback


def test_rates_are_set_at_every_step(callback):
    callback.on_epoch_begin(1)
    callback.on_train_batch_begin(0)
    assert float(callback.model.annealing) == pytest.approx(0.5)
    callback.on_train_batch_begin(4)
    assert float(callback.model.annealing) == pytest.approx(0.7)
    expected = schedule.learning_rate(0.35, peak=1.0, warm_up=0.0)
    rate = float(callback.model.optimizer.learning_rate)
    assert rate == pytest.approx(expected)


def test_other_schedules_leave_the_rate_to_their_callbacks(watch):
    settings = TrainConfig(schedule="plateau", kl_annealing=0.5)
    callback = schedule.ProgressSchedule(
        schedule.Clock(4, now=watch), settings, steps_per_epoch=10
    )
    callback.set_model(Model())
    callback.on_epoch_begin(1)
    callback.on_train_batch_begin(0)
    assert float(callback.model.optimizer.learning_rate) == 1.0
    assert float(callback.model.annealing) == pytest.approx(0.5)
    logs = {"learning_rate": 0.7}
    callback.on_epoch_end(1, logs)
    assert logs["learning_rate"] == 0.7


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("cosine", []),
        ("cyclical", [callbacks.CyclicalLearningRate]),
        ("plateau", [callbacks.ReduceLROnPlateau]),
        (
            "cyclical-plateau",
            [callbacks.CyclicalLearningRate, callbacks.ReduceLROnPlateau],
        ),
    ],
)
def test_a_schedule_is_made_of_callbacks(name, kinds):
    settings = TrainConfig(schedule=name, learning_rate=0.4, cycle_epochs=3)
    found = schedule.rate_callbacks(settings, steps_per_epoch=10)
    assert [type(callback) for callback in found] == kinds
    if "cyclical" in name:
        assert (found[0].base_rate, found[0].max_rate) == (0.1, 0.4)
        assert found[0].step_size == 15
    if "plateau" in name:
        assert (found[-1].patience, found[-1].factor) == (10, 0.1)
        assert found[-1].monitor == "val_data_loss"


def test_early_stopping_is_a_callback_too():
    settings = TrainConfig(early_stopping=7)
    (found,) = schedule.rate_callbacks(settings, steps_per_epoch=10)
    assert isinstance(found, callbacks.EarlyStopping)
    assert (found.patience, found.monitor) == (7, "val_data_loss")


def test_training_stops_within_an_epoch_when_time_is_up(callback, watch):
    callback.on_epoch_begin(0)
    watch.seconds += 59
    callback.on_train_batch_end(0)
    assert not callback.model.stop_training
    watch.seconds += 1
    callback.on_train_batch_end(1)
    assert callback.model.stop_training


def test_the_time_of_a_validation_is_reserved(callback, watch):
    callback.on_test_begin()
    watch.seconds += 10
    callback.on_test_end()
    assert callback.clock.reserve == pytest.approx(11.0)


def test_an_epoch_logs_where_the_run_stands(callback, watch):
    callback.on_epoch_begin(1)
    callback.on_train_batch_begin(9)
    callback.on_train_batch_end(9)
    watch.seconds += 30
    logs = {}
    callback.on_epoch_end(1, logs)
    assert logs["progress"] == pytest.approx(0.5)
    assert logs["minutes"] == pytest.approx(0.5)
    assert set(logs) == {"progress", "minutes", "learning_rate", "kl_annealing"}


def test_slices_without_tumour_are_phased_in():
    values = [
        schedule.empty_share(progress, most=0.4) for progress in (0, 0.15, 0.3, 1)
    ]
    assert values == pytest.approx([0.0, 0.2, 0.4, 0.4])
    assert schedule.empty_share(0.0, most=0.4, fraction=0) == 0.4
