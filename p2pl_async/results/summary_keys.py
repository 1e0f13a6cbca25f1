"""Every number of `summary.json`: its unit and meaning; studies compute with them."""

from __future__ import annotations

SUMMARY_KEYS: dict[str, tuple[str, str]] = {
    "seed": ("", "the seed of the run"),
    "virtual_seconds": ("s", "virtual time when the run ended"),
    "wall_seconds": ("s", "real time that it took"),
    "wall.setup": ("s", "real time of loading torch and data"),
    "wall.training": ("s", "real time of training"),
    "wall.evaluation": ("s", "real time of evaluations"),
    "wall.other": ("s", "real time of the emulation itself"),
    "accuracy": (
        "",
        "accuracy of the devices' models on all test data; min, mean, max over devices; of a run not complete, as "
        "last measured",
    ),
    "accuracy_trained": ("", "the same after training and before mixing; min, mean, max"),
    "lower_is_better": ("", "1 if a lower score of the models is better, else 0"),
    "scores.*": ("", "for each score of the models on all test data: min, mean, max over devices"),
    "not_finite.device": ("", "the first device whose model gave a loss that isn't finite"),
    "not_finite.virtual_seconds": ("s", "when that was seen"),
    "target.accuracy": ("", "the accuracy that ends the run"),
    "target.value": ("", "the score that ends the run, whichever it is"),
    "target.reached": ("", "1 if it was reached, else 0"),
    "target.virtual_seconds": ("s", "when it was reached"),
    "target.bytes_on_air": ("B", "bytes on air until then"),
    "target.seconds_on_air": ("s", "air time until then"),
    "target.energy_j": ("J", "energy until then"),
    "rounds": ("", "rounds that devices finished; min, mean, max over devices"),
    "messages.sent": ("", "messages, counted once for each link"),
    "messages.delivered": ("", "messages that arrived whole"),
    "messages.partial": ("", "messages of which a part arrived"),
    "messages.corrupted": ("", "messages that arrived with wrong bits"),
    "messages.in_flight": ("", "messages under way when the run ended"),
    "messages.lost.*": ("", "messages lost, for each cause: lost.loss, lost.collision, ..."),
    "messages.duplicates": ("", "messages that arrived once more"),
    "messages.malformed": ("", "messages that could not be read"),
    "messages.unread": ("", "messages that arrived at a full inbox, where `devices.inbox` bounds it"),
    "messages.packets": ("", "packets sent, retries included"),
    "messages.packets_lost": ("", "packets lost"),
    "messages.payload_bytes": ("B", "bytes of the messages, as encoded"),
    "messages.by_kind.*": ("", "for each kind of message: messages, and payload_bytes (B)"),
    "messages.bytes_on_air": ("B", "bytes on air, headers and retries included"),
    "messages.seconds_on_air": ("s", "length of all transmissions together"),
    "messages.acknowledged": ("", "messages whose acknowledgment came back"),
    "refused.unreadable": ("", "messages refused because they could not be read"),
    "refused.too_large": ("", "because an entry of their model was beyond `[protocol] largest`"),
    "refused.unusable": ("", "because of a shape, a number that isn't finite, or a count that no honest device has"),
    "influence.device": ("", "the device whose messages moved others most"),
    "influence.distance": (
        "",
        "mean distance of its models from those of receivers that mix them; where messages are parts of models, how "
        "far one moved its receiver; RMS over entries",
    ),
    "influence.median": ("", "the same of the median device"),
    "influence.most_sample": (
        "",
        "most that a device's sample counts in what devices that average models minimize: 1 on average",
    ),
    "influence.most_sample_of": ("", "the device whose samples count most"),
    "influence.least_sample": ("", "least that a sample counts"),
    "influence.from_data": ("", "distance of that from each sample counting alike: 0, up to 1"),
    "staleness.seconds_mean": ("s", "mean age of mixed messages"),
    "staleness.seconds_max": ("s", "age of the oldest of them"),
    "staleness.rounds_mean": ("", "mean number of rounds that mixed messages were behind"),
    "staleness.rounds_max": ("", "most rounds that one was behind"),
    "sync.completed_s": ("s", "when all devices had agreed on initial parameters"),
    "sync.devices": ("", "devices that have agreed"),
    "sync.agreed": ("", "1 if all agree, else 0"),
    "sync.joined": ("", "devices that took over the model of a neighbor that already trained"),
    "sync.left_out": ("", "silent neighbors that devices did not wait for"),
    "sync.messages": ("", "messages of the synchronization"),
    "sync.payload_bytes": ("B", "their bytes"),
    "compression.payload_ratio": ("", "how many times fewer bytes than whole float32 models, as papers count"),
    "compression.codec_ratio": ("", "the same, as encoded"),
    "compression.on_air_ratio": ("", "the same, as sent on air"),
    "energy.joules": ("J", "energy of all devices"),
    "energy.by_state.*": ("J", "the same for each state: tx, rx, idle, sleep, training"),
    "energy.per_device": ("J", "energy of a device; min, mean, max"),
    "energy.batteries_empty": ("", "devices whose battery is empty"),
    "consensus_distance": ("", "root mean square distance of the final models from their mean"),
    "training.jobs": ("", "trainings computed"),
    "training.batches": ("", "groups in which they were computed together"),
    "training.mean_batch": ("", "mean size of such a group"),
    "training.samples": ("", "training samples seen, with repetitions"),
    "baselines.*": ("", "for each baseline: accuracy, virtual_seconds, rounds and messages, as above"),
}
"""Path -> unit and meaning. A path that ends in `*` has names below it that differ from run to run."""

SUMMARY_TEXTS: dict[str, str] = {
    "status": "running, complete, interrupted or failed",
    "error": "why it is not complete",
    "scenario": "name of the scenario",
    "protocol": "label of the protocol",
    "versions.*": "versions of Python and of the packages that ran it",
    "trace_digest": "SHA-256 of everything that happened in the network",
    "params_digest": "SHA-256 of the final models",
    "stopped_by": "the condition that ended it",
    "metric": "the first of `evaluate.metrics`: targets and plots take it",
    "target.metric": "the score that ends the run",
    "target.of": "every_device or mean",
    "warnings": "what `p2pl check` warns of",
    "baselines.*.status": "as of the run",
}
"""Path -> meaning, of what is not a number."""

RANGES = frozenset({"accuracy", "accuracy_trained", "rounds", "energy.per_device"})
"""Those that have min, mean and max below them."""


def is_summary_key(path: str) -> bool:
    """Tell whether `path`, such as "accuracy.min", can be a number of a summary."""
    parent, _, last = path.rpartition(".")
    if parent in RANGES:
        return last in ("min", "mean", "max")
    below = any(key.endswith("*") and path.startswith(key[:-1]) and path != key for key in SUMMARY_KEYS)
    return below or (path in SUMMARY_KEYS and path not in RANGES)


def leaves_of(summary: object, path: str = "") -> dict[str, float]:
    """Return every number in a summary by its path; true is 1, false 0."""
    if isinstance(summary, dict):
        found: dict[str, float] = {}
        for key, value in summary.items():
            found.update(leaves_of(value, f"{path}.{key}" if path else str(key)))
        return found
    return {path: float(summary)} if isinstance(summary, int | float) else {}
