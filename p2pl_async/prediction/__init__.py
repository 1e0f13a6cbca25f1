"""Predict a scenario's run without running it, and compare with the run.

    linearizing  what of a scenario the theory needs: kernel, targets, mixing matrix; or why it can't be had
    predicting   trajectories of outputs, errors, consensus distance; limit; modes
    measuring    the same from an emulated run, and how long a round takes
    comparing    other topologies, and which link counts most

The linearized model is exact for affine models (softmax layer with squared loss) and the better the wider a network.
"""

from p2pl_async.prediction.comparing import Report, compare
from p2pl_async.prediction.measuring import Measurement, Repetitions, measure, repeat
from p2pl_async.prediction.predicting import Prediction, predict

__all__ = ["Measurement", "Prediction", "Repetitions", "Report", "compare", "measure", "predict", "repeat"]
