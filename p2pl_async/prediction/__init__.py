"""Predict a scenario's run without running it, and compare with the run.

    linearizing  a scenario's kernel, targets and mixing matrix; or the reasons why there is no prediction
    predicting   trajectories of outputs, errors, consensus distance; limit; modes
    measuring    the same from an emulated run, and the duration of a round
    comparing    other topologies, and the links that count most

The linearized model is exact for affine models (softmax layer with squared loss) and the better the wider a network.
"""

from p2pl_async.prediction.comparing import Report, compare
from p2pl_async.prediction.measuring import Measurement, Repetitions, measure, repeat
from p2pl_async.prediction.predicting import Prediction, predict

__all__ = ["Measurement", "Prediction", "Repetitions", "Report", "compare", "measure", "predict", "repeat"]
