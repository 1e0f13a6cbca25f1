"""A job of a study: `p2pl run`, ended with the process that started it, however that ends.

python -m p2pl_async.cli.job PARENT ARGUMENTS...
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Have the system end this process when the process `parent` ends, even by `kill -9`; on Linux only.

    Elsewhere the job goes on, and what it writes is thrown away.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(1)


if __name__ == "__main__":
    end_with(int(sys.argv.pop(1)))
    from p2pl_async.cli.main import main

    main()
