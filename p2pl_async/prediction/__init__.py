"""Predict a scenario's run without running it, and compare with the run.

    linearized   what of a scenario the theory needs: kernel, targets, mixing matrix; or why it can't be had
    predict      trajectories of outputs, errors, consensus distance; limit; modes
    measure      the same from an emulated run, and how long a round takes
    compare      other topologies, and which link counts most

The linearized model is exact for affine models (softmax layer with squared loss) and the better the wider a network.
"""

from p2pl_async.prediction.compare import Report, compare
from p2pl_async.prediction.measure import Measurement, Repetitions, measure, repeat
from p2pl_async.prediction.predict import Prediction, predict

__all__ = ["Measurement", "Prediction", "Repetitions", "Report", "compare", "measure", "predict", "repeat"]
