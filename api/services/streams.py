"""The open streams of events, shared out by client."""

from collections import Counter
from dataclasses import dataclass

from impasto.core.errors import Busy

MOST = 64
"""Streams open at once in this process: each looks at the store twice a second, in one of a few threads."""


@dataclass(eq=False)
class Stream:
    client: str
    ended: bool = False
    """Whether it has to make room for another. An EventSource comes back by itself."""


class Streams:
    """One client has a quarter of the streams at most. Where all are taken, the first stream of another client ends the
    oldest of the client that has most.

    Used on the event loop alone, and so without a lock.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.most_of_one = max(4, most // 4)
        self._open: list[Stream] = []

    def open(self, client: str) -> Stream:
        """Raises Busy."""
        counts = Counter(stream.client for stream in self._open if not stream.ended)
        if counts[client] >= self.most_of_one:
            message = f"You follow {counts[client]} jobs by events, the most there may be for one client: "
            raise Busy(f"{message}try again in 10 s, or ask for the job.", retry_after=10)
        if counts.total() >= self.most:
            greediest, streams = counts.most_common(1)[0]
            if counts[client] or streams == 1:
                message = f"{self.most} streams of events are open, the most there may be: "
                raise Busy(f"{message}try again in 10 s, or ask for the job.", retry_after=10)
            next(stream for stream in self._open if stream.client == greediest and not stream.ended).ended = True
        stream = Stream(client)
        self._open.append(stream)
        return stream

    def close(self, stream: Stream) -> None:
        self._open.remove(stream)
