"""The log: a JSON object a line on standard error, with the id of the request that it belongs to.

No picture, file name, key or metadata goes in.
"""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered; in a worker, of the one that submitted the job."""


class JsonLines(logging.Formatter):
    """A record as one line; `extra={"facts": {…}}` adds to it."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": time, "level": record.levelname.lower(), "message": record.getMessage()}
        if request := request_id.get():
            line["request"] = request
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_json(requests: bool = True) -> None:
    """Let all of this process log so: warnings, and what our own code tells of each request and job."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("impasto").setLevel(logging.INFO if requests else logging.WARNING)
