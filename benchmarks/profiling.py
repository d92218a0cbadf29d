"""Which kinds of operation a graph spends its time in."""

from __future__ import annotations

import collections
import pathlib
import re
import tempfile
from collections.abc import Callable

import tensorflow as tf

# TensorFlow's own description of a trace; it has no public name.
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import measuring

_EVENT = re.compile(r"[^:]+:_?(?:Mkl(?:Native)?)?(?P<kind>[A-Za-z]\w*)")


def by_operation(run: Callable[[], object]) -> dict[str, float]:
    """Return the seconds of one run by kind of operation, summed over the threads.

    Args:
        run: Runs traced functions; it has run before.
    """
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            run()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    spent = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                found = _EVENT.fullmatch(name)
                if found and line.name.startswith("tf_Compute"):
                    spent[found["kind"]] += event.duration_ps / 1e12
    return dict(spent)


def rows(title: str, run: Callable[[], object], rounds: int, most: int = 8) -> list:
    """Return rows of the kinds of operation that take longest, and of all the others.

    Args:
        title: What is run, for the rows' names.
        run: See `by_operation`.
        rounds: Number of traced runs.
        most: Number of kinds with a row of their own.
    """
    traces = [by_operation(run) for _ in range(rounds)]
    total = collections.Counter()
    for trace in traces:
        total.update(trace)
    kinds = [kind for kind, _ in total.most_common(most)]
    found = {kind: [trace.get(kind, 0.0) for trace in traces] for kind in kinds}
    found["all other operations"] = [
        sum(seconds for kind, seconds in trace.items() if kind not in kinds)
        for trace in traces
    ]
    whole = sum(total.values())
    return [
        measuring.Row(
            f"{title}: {kind}",
            values,
            note=f"{sum(values) / whole:.0%} of the operations' time",
        )
        for kind, values in found.items()
    ]
