"""Locks of result folders: a running run holds one on its folder, and it goes with the process, whatever ends that."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks there: every folder seems free, and a killed run seems to go on
    fcntl = None  # type: ignore[assignment]


class FolderLock:
    """A lock on a folder, held until `release` or the end of the process."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def __del__(self) -> None:
        self.release()

    def take(self, folder: Path) -> bool:
        """Take the lock; return False if another run has it."""
        if fcntl is None or self._descriptor is not None:
            return True
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:  # a file system without locks
            pass
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock on a file, which is made; wait while another process, or another thread, holds it."""
    with path.open("w") as file:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(folder: Path) -> bool:
    """Tell whether a run that goes on holds the folder."""
    if fcntl is None:
        return True
    lock = FolderLock()
    try:
        return not lock.take(folder)
    except OSError:
        return False
    finally:
        lock.release()
