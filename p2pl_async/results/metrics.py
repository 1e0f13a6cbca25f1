"""Metrics: everything that a run measures over virtual time, as its table `metrics` names it.

A new metric is an entry here, a `record` where it is measured, and a test. One with a `Cost` gets a
plot and counts in `summary.json` what reaching the target took, without another line. A protocol
of your own records under any name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost that a metric of the whole run measures: accuracy is plotted against it.

    Attributes:
        plot: name of that plot's files.
        label: the cost, in that plot.
    """

    plot: str
    label: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        unit: of its values; "" for a pure number.
        description: its meaning, in one line.
        cost: of the devices, if it measures one.
    """

    unit: str
    description: str
    cost: Cost | None = None


METRICS = {
    # Of the whole run (device -1), at each evaluation
    "messages_sent": Metric("", "messages sent so far, counted once for each link"),
    "messages_delivered": Metric("", "messages that have arrived whole"),
    "messages_lost": Metric("", "messages lost, whatever the cause"),
    "messages_partial": Metric("", "messages of which a part has arrived"),
    "lost_*": Metric("", "messages lost, for each cause: lost_loss, lost_collision, ..."),
    "bytes_on_air": Metric("B", "bytes on air, headers and retries included", Cost("accuracy_bytes", "bytes on air")),
    "seconds_on_air": Metric("s", "length of all transmissions together", Cost("accuracy_air", "time on air")),
    "energy_j": Metric("J", "energy that all devices have drawn", Cost("accuracy_energy", "energy")),
    "consensus_distance": Metric("", "root mean square distance of the models from their mean"),
    # Of each device, at each evaluation
    "accuracy": Metric("", "accuracy of the device's model on part of the test data"),
    "balanced_accuracy": Metric("", "mean over classes of the accuracy on each, on that data"),
    "f1": Metric("", "mean over classes of the harmonic mean of precision and recall, on that data"),
    "rmse": Metric("", "root mean square error of the device's model on that data"),
    "loss": Metric("", "mean loss of the device's model on that data"),
    "own_*": Metric("", "the same on test data distributed as the device's own: own_accuracy, ..."),
    "*_trained": Metric("", "the first of evaluate.metrics after training and before mixing: accuracy_trained, ..."),
    # Of each device, as it goes
    "round": Metric("", "rounds finished, after each"),
    "crash": Metric("", "rounds finished, at each crash"),
    "up": Metric("", "restarts so far, each time that the device comes up: late, or after a crash"),
    "training_s": Metric("s", "length of each training, at its end"),
    "neighbors_mixed": Metric("", "messages averaged in one mixing step"),
    "staleness_s": Metric("s", "mean age of the messages of one mixing step"),
    "staleness_rounds": Metric("", "mean number of rounds that those messages are behind"),
    "lead": Metric("", "rounds that the device is ahead of the slowest neighbor it has heard"),
    "too_large": Metric("", "1 for each refused model with an entry beyond `[protocol] largest`"),
    "deaf": Metric("", "1 for each model left out of a mix since its sender says that it hears nobody"),
    "refused": Metric("", "1 for each message with parameters of another shape, or not finite"),
    "push_weight": Metric("", "push-sum weight of the device"),
    "deaf_s": Metric("s", "time without any link to the device, as random outages have it, at the end of each"),
    "weight_lost": Metric("", "push-sum weight that the device took along, at each crash"),
    "links_undone": Metric("", "links to a neighbor that fell silent, whose running sums were undone, both ways"),
    "weight_taken_back": Metric("", "push-sum weight taken back from a neighbor that fell silent"),
    "weight_renewed": Metric("", "push-sum weight with which a device began again, as no neighbor pushed any to it"),
    "sync_s": Metric("s", "instant at which the device has agreed on initial parameters"),
    "sync_norm": Metric("", "norm of the initial parameters agreed on; equal on all devices if they agree"),
    "sync_joined": Metric("", "1 if the device took over the model of a neighbor that already trained, else 0"),
    "sync_left_out": Metric("", "silent neighbors that the device did not wait for, when it began to train"),
    "maxnorm_late": Metric("", "1 for each larger initial model heard after the synchronization"),
    "bytes_dense": Metric("B", "size of the models sent, had they been whole float32 models"),
    "bytes_paper": Metric("B", "size of the models sent, as papers count: 4 bytes for a value or an index"),
    "bytes_encoded": Metric("B", "size of the models sent, as encoded"),
}

_SHARES = ("accuracy", "balanced_accuracy", "f1")


def is_share(metric: str) -> bool:
    """Tell whether a score is a share of 1, which people read in percent."""
    return metric.removeprefix("own_").removesuffix("_trained") in _SHARES


def words(metric: str) -> str:
    """Return a metric's name for people: "balanced accuracy"."""
    return metric.replace("_", " ")


COSTS = {name: metric.cost for name, metric in METRICS.items() if metric.cost is not None}
