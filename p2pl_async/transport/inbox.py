"""Messages that a device has received and not read yet, by type."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from outcome import Value
from trio.lowlevel import Abort, Task, checkpoint_if_cancelled, current_task, reschedule, wait_task_rescheduled

from p2pl_async.messages import Message


class Inbox:
    """Messages in order of arrival; a task can wait for the next one, of any type or of a given one.

    The clock puts messages in while no task runs. A message goes straight to a task that waits
    for its type.

    Args:
        limit: messages that are kept until they are read; one that arrives at a full inbox is dropped. None: all.
        on_answer: called before a message is answered as it arrives.
    """

    def __init__(self, limit: int | None = None, on_answer: Callable[[], object] = lambda: None) -> None:
        self._limit = limit
        self._on_answer = on_answer
        self._open = True
        self._queues: dict[type[Message], deque[tuple[int, Message]]] = {}
        self._arrived = 0
        self._waiting: list[tuple[type[Message], Task]] = []
        self.answers: list[tuple[type[Message], Callable[[Any], object]]] = []  # who takes which messages at once

    def put(self, message: Message) -> bool:
        """Add a message that arrives, or give it to a task that waits for its type; return False if it is full."""
        for kind, call in self.answers:
            if isinstance(message, kind):
                self._on_answer()
                call(message)
                return True
        for entry in self._waiting:
            if isinstance(message, entry[0]):
                self._waiting.remove(entry)
                reschedule(entry[1], Value(message))
                return True
        if not self._open:
            return True
        if self._limit is not None and len(self) >= self._limit:
            return False
        self._arrived += 1
        read_as = type(message)
        queue = self._queues.get(read_as)
        if queue is None:
            queue = self._queues[read_as] = deque()
        queue.append((self._arrived, message))
        return True

    def take_nowait(self, wanted: type[Message] = Message) -> Message | None:
        """Return the oldest message of a type (of any type by default), or None."""
        if not self._queues:
            return None
        queue = self._queues.get(wanted)
        if queue is None:  # a base class, or nothing of this type so far
            queues = [queue for kind, queue in self._queues.items() if queue and issubclass(kind, wanted)]
            queue = min(queues, key=lambda queue: queue[0][0], default=None)
        return queue.popleft()[1] if queue else None

    async def take(self, wanted: type[Message] = Message) -> Message:
        """Return the oldest message of a type, waiting for one if need be."""
        message = self.take_nowait(wanted)
        if message is not None:
            await checkpoint_if_cancelled()
            return message
        entry = (wanted, current_task())
        self._waiting.append(entry)

        def abort(_: object) -> Abort:
            self._waiting.remove(entry)
            return Abort.SUCCEEDED

        received: Message = await wait_task_rescheduled(abort)
        return received

    def answer(self, kind: type[Message], call: Callable[[Any], object]) -> None:
        """Hand messages of a type to `call` as they arrive, until `clear`."""
        self.answers.append((kind, call))

    def clear(self) -> None:
        """Forget the messages not read yet, and who answers."""
        self._queues.clear()
        self.answers.clear()

    def close(self) -> None:
        """Forget the messages not read yet, and keep none that arrive later: nothing will read them."""
        self._queues.clear()
        self._open = False

    @property
    def wanted(self) -> list[type[Message]]:
        """The types of message that tasks are waiting for."""
        return [wanted for wanted, _ in self._waiting]

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))
