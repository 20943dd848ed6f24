"""Zip files that clients send: their pictures, one after the other, whatever their directories say.

The sandbox reads them in a child, which can open no file: all that reading needs is loaded here.
"""

import codecs
import zipfile
from collections.abc import Iterator
from typing import IO

from impasto.core.errors import BadParameter, BadPicture, ImpastoError, TooLarge
from impasto.core.pictures.guard import is_picture

codecs.lookup("cp437")  # the names in old zip files

MOST_ENTRIES = 20_000
"""Entries of a zip file, whose directory is read whole."""
PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Packings that are unpacked no further than is read. Of a kilobyte of bzip2 or LZMA gigabytes come at once."""


def is_zip(file: IO[bytes]) -> bool:
    """Whether a file begins as a zip file does; it is read from its start again afterwards."""
    start = file.read(4)
    file.seek(0)
    return start == b"PK\x03\x04"


def pictures_in(file: IO[bytes], name: str, most: int) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of each picture in a zip file; of one that is too large, `most` bytes and one more.

    Raises TooLarge for more than `MOST_ENTRIES` entries, BadParameter for a rare packing, BadPicture for what is
    broken.
    """
    if _entries(file) > MOST_ENTRIES:
        raise TooLarge(f"{name} has more than {MOST_ENTRIES} entries.", limit=MOST_ENTRIES)
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if not is_picture(info.filename):
                    continue
                if info.compress_type not in PLAIN:
                    raise BadParameter(
                        f"{name}: {info.filename} is packed in a rare way. Make the archive with zip, which stores or "
                        "deflates."
                    )
                with archive.open(info) as member:
                    data = member.read(most + 1)
                yield info.filename, data
    except ImpastoError:
        raise
    except Exception as error:  # zlib and others have errors of their own
        raise BadPicture(f"{name}: the archive cannot be read: {error}.") from error


def _entries(file: IO[bytes]) -> int:
    """Entries of a zip file's directory, or a few more, counted without reading it in."""
    count = 0
    while block := file.read(1 << 20):
        count += block.count(b"PK\x01\x02")
    file.seek(0)
    return count
