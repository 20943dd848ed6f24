"""Every error that Impasto raises on purpose, in one tree.

Whoever shows an error maps the class, never the text: `api.errors` has the HTTP statuses, the command
line prints the message. A message says what was wrong, the limit that it met and what to do; `extra` carries the
same facts for a program to read.

    ImpastoError
    ├── BadPicture             bytes that are no picture, or a broken one
    ├── UnsupportedFormat      a kind of file that we do not read
    ├── TooLarge               over a limit on bytes or pixels
    ├── BadParameter           a value outside what is allowed
    ├── NotFound               no model, style or file of that name
    ├── Gone                   a job that has expired
    ├── Conflict               a name that is taken, a key used for something else, a file that a job has not yet
    ├── Unauthorized           a key is needed, or was not a good one
    ├── Forbidden              what this caller may not ask for
    ├── Busy                   more work waiting than is taken on
    ├── TooMany                more requests than one client may make
    ├── BadCheckpoint          a file of weights that is not what it says it is
    ├── NoSpace                the disk is full
    └── Unavailable            something that must be fetched, installed or running first
"""

from typing import Any


class ImpastoError(Exception):
    """The root. `code` is a stable name for programs, `extra` the facts of the message as JSON values."""

    code = "error"

    def __init__(self, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.extra = extra


class BadPicture(ImpastoError):
    code = "bad_picture"


class UnsupportedFormat(ImpastoError):
    code = "unsupported_format"


class TooLarge(ImpastoError):
    code = "too_large"


class BadParameter(ImpastoError):
    code = "bad_parameter"


class NotFound(ImpastoError):
    code = "not_found"


class PictureGone(NotFound):
    """A picture that was sent before is not held any more: its sender has it, and sends it again."""

    code = "picture_gone"


class Gone(ImpastoError):
    code = "gone"


class Conflict(ImpastoError):
    code = "conflict"


class Unauthorized(ImpastoError):
    code = "unauthorized"


class Forbidden(ImpastoError):
    code = "forbidden"


class Busy(ImpastoError):
    code = "busy"


class TooMany(ImpastoError):
    code = "too_many_requests"


class BadCheckpoint(ImpastoError):
    code = "bad_checkpoint"


class NoSpace(ImpastoError):
    code = "no_space"


class Unavailable(ImpastoError):
    code = "unavailable"


class Stopping(Unavailable):
    """The service is told to end: what is not done by then is refused."""

    def __init__(self) -> None:
        super().__init__("The service is being stopped: send it again in a moment.", retry_after=10)
