"""Every error that Impasto raises on purpose, in one tree.

Whoever shows an error maps the class, never the text: `api.errors` has the HTTP statuses, the command line prints the
message. A message says what was wrong, the value, the limit and what to do; `extra` has the same facts for programs.

    ImpastoError
    ├── BadPicture             bytes that are not a picture, or a broken one
    ├── UnsupportedFormat      a kind of file that is not read here
    ├── TooLarge               over a limit on bytes, pixels, memory or time
    ├── BadParameter           a value outside what is allowed
    ├── NotFound               no model, style or file of that name
    ├── Gone                   a job that has expired
    ├── Conflict               a name that is taken, a key used for something else, a file that a job has not yet
    ├── Unauthorized           a key that is missing or unknown
    ├── Forbidden              a request that this caller may not make
    ├── Busy                   too much work is waiting already
    ├── TooMany                more requests than one client may make
    ├── BadCheckpoint          a file of weights that is not what it says it is
    ├── NoSpace                the disk is full, or one client's share of it
    └── Unavailable            something that has to be fetched, installed or running first
"""

from typing import Any


class ImpastoError(Exception):
    """The root. `code` is a stable name for programs, `extra` the facts of the message as JSON values.

    Clients are shown the message alone. `private` is for the log, which writes `str(error)`: hosts, buckets, paths.
    """

    code = "error"

    def __init__(self, message: str, *, private: object = "", **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.private = private
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.message} {self.private}".rstrip()


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
    """A picture that was sent before is no longer held: its sender sends it again."""

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
    """The service is being stopped. It refuses requests that it has not answered."""

    def __init__(self) -> None:
        super().__init__("The service is being stopped: send the request again in a moment.", retry_after=10)
