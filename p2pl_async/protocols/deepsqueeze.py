"""DeepSqueeze: averaging of compressed models with error feedback, on regular graphs.

Source: H. Tang, X. Lian, S. Qiu, L. Yuan, C. Zhang, T. Zhang, J. Liu, "DeepSqueeze: Decentralization
Meets Error-Compensated Compression", arXiv:1907.07346. It is Sparse-Push whose model is x itself,
without a push weight to divide by, so every device must have the same number of in- and out-neighbors.
They must push equally often, too. Elsewhere the mean of all models still changes by gradients only, but devices
don't agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from p2pl_async.messages import Vector
from p2pl_async.protocols.listening import Barrier
from p2pl_async.protocols.pushing import Mass
from p2pl_async.protocols.sparse_push import SparsePush


class DeepSqueeze(SparsePush):
    """Averaging of compressed models with error feedback, on regular graphs (Tang et al. 2019)."""

    kind: Literal["deepsqueeze"] = "deepsqueeze"  # type: ignore[assignment]

    @property
    def warnings(self) -> Sequence[str]:
        """Whether devices may push at unequal speeds."""
        if isinstance(self.mode, Barrier):
            return super().warnings
        return [
            *super().warnings,
            'deepsqueeze has no push weight: devices that push at unequal speeds don\'t agree; use "sparse-push", or '
            'mode = { kind = "barrier", timeout = "10 s" }',
        ]

    def model(self, mass: Mass) -> Vector:
        """Return x, read-only."""
        w: Vector = mass.x.copy()
        w.flags.writeable = False  # so that training from it needs no copy
        return w
