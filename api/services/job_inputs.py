"""The pictures of a job: decoded, no larger than the job will use them, and stored as we write them.

None of the bytes that were sent are stored.
"""

import time
import zipfile
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path, PurePath
from tempfile import NamedTemporaryFile
from typing import IO

from starlette.datastructures import UploadFile

from impasto.api.services.studio import Studio
from impasto.core.errors import BadParameter, BadPicture, ImpastoError, NoSpace, TooLarge
from impasto.core.files import file_sha256
from impasto.core.gatys.size import optimised
from impasto.core.jobs.record import new_id
from impasto.core.jobs.storage import Storage
from impasto.core.names import MIN_SIDE
from impasto.core.params import GatysParams
from impasto.core.pictures.archive import is_zip
from impasto.core.pictures.codec import Picture, encode, resize, resize_short
from impasto.core.settings import Settings

LONGEST = 20  # times the shorter side: a strip would be enlarged to billions of pixels
LONGEST_DECODING = 300.0  # seconds, of all photographs of a training together


class JobInputs:
    """The inputs of a new job on their way into the storage, which has `room` bytes left for them.

    `keys` are their storage keys by field; `bytes`, their length in all; `size`, height and width of the photograph if
    what is stored of it is smaller. Every method that stores raises NoSpace for more than there is room for.
    """

    def __init__(self, settings: Settings, storage: Storage, studio: Studio, client: str, room: int) -> None:
        self.id = new_id()
        self.settings, self.storage, self.room = settings, storage, room
        self.keys: dict[str, list[str]] = {}
        self.bytes = 0
        self.size: tuple[int, int] | None = None
        self._studio, self._client, self._hash = studio, client, sha256()

    def decode(self, upload: UploadFile, name: str) -> Picture:
        """Return a picture that was sent. Raises what decoding raises, with the name of the file."""
        # Of one that is too large enough is read to be refused for it.
        return self._decode(upload.filename or name, upload.file.read(self.settings.max_bytes + 1))

    def store_photograph(self, picture: Picture, params: GatysParams) -> None:
        """Store what Algorithm 1 sees of a photograph; all of one whose alpha or colours the painting gets."""
        if picture.alpha is None and not params.preserve_color:
            self.size = picture.height, picture.width
            picture = Picture(resize(picture.rgb, *optimised(*self.size, params)))
        self._store_picture("image", picture)

    def store_style(self, picture: Picture, side: int | None) -> None:
        """Store a style's picture, its shorter side at `side` px if it is longer; None stores all of it."""
        rgb = picture.rgb if side is None or side >= min(picture.rgb.shape[:2]) else resize_short(picture.rgb, side)
        self._store_picture("style_image", Picture(rgb))

    def store_photographs(self, uploads: Iterable[UploadFile], short: int) -> None:
        """Store the photographs of a training as one archive of JPEGs, their shorter sides at most `short` px.

        Raises TooLarge for too many, or too large ones; BadParameter where there is none.
        """
        with NamedTemporaryFile(suffix=".zip") as archive:
            self._write_photographs(archive, uploads, short)
            path = Path(archive.name)
            self._store("content_images", "content_images.zip", path, path.stat().st_size, file_sha256(path))

    def check_room(self, room: int, more: int = 0) -> None:
        """Raise NoSpace where what is stored, and so many bytes more, take more than `room` bytes."""
        needed, room = self.bytes + more, max(0, room)
        if needed > room:
            raise NoSpace(
                f"The job's pictures take {needed:,} bytes or more, and your jobs may store {room:,} more. "
                "Delete jobs that are done, or send smaller pictures.",
                limit=room,
                actual=needed,
            )

    def fingerprint(self, *parameters: str) -> str:
        """Return the hash of all that was stored and of these parameters."""
        whole = self._hash.copy()
        whole.update(" ".join((*parameters, str(self.size))).encode())
        return whole.hexdigest()

    def discard(self) -> None:
        """Erase what was stored, for a job that is refused."""
        self.storage.erase(f"jobs/{self.id}")

    def _store_picture(self, field: str, picture: Picture) -> None:
        png = encode(picture, "png")
        number = len(self.keys.get(field, []))
        self._store(field, f"{field}-{number}.png", png, len(png), sha256(png).hexdigest())

    def _store(self, field: str, name: str, data: bytes | Path, size: int, digest: str) -> None:
        self.check_room(self.room, size)
        key = f"jobs/{self.id}/inputs/{name}"
        self.storage.put(key, data)
        self.bytes += size
        self.keys.setdefault(field, []).append(key)
        self._hash.update(digest.encode())

    def _decode(self, name: str, data: bytes) -> Picture:
        try:
            picture = self._studio.decode(data, self._client)
            if max(picture.height, picture.width) > LONGEST * min(picture.height, picture.width):
                size = f"{picture.width} x {picture.height} pixels"
                raise BadPicture(f"{size} are too long and narrow: at most {LONGEST} to 1 is allowed.")
            return picture
        except ImpastoError as error:
            error.message = f"{PurePath(name).name[:80]}: {error.message}"
            raise

    def _write_photographs(self, file: IO[bytes], uploads: Iterable[UploadFile], short: int) -> None:
        count, most = 0, 4 * self.settings.max_upload
        until = time.monotonic() + LONGEST_DECODING
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in self._photographs(uploads):
                if count == self.settings.max_photographs:
                    raise TooLarge(f"More than {count} photographs were sent.", limit=count)
                if time.monotonic() > until:
                    raise TooLarge(
                        f"After {LONGEST_DECODING:g} s {count} photographs were decoded, and not all. Send fewer, or "
                        f"scale them to {short} px: a training makes them no larger.",
                        limit=LONGEST_DECODING,
                    )
                picture = self._decode(name, data)
                scale = min(1.0, short / min(picture.height, picture.width))
                size = max(MIN_SIDE, round(picture.height * scale)), max(MIN_SIDE, round(picture.width * scale))
                jpeg = encode(Picture(resize(picture.rgb, *size)), "jpeg")
                archive.writestr(zipfile.ZipInfo(f"{count:06d}.jpg"), jpeg)
                if file.tell() > most:
                    raise TooLarge(f"The photographs take more than {most:,} bytes. Send fewer.", limit=most)
                count += 1
        if not count:
            raise BadParameter("content_images: there is no picture in what was sent.")
        file.flush()

    def _photographs(self, uploads: Iterable[UploadFile]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, bytes) of each picture, those in zip files too; of one over the limit, one byte more."""
        for upload in uploads:
            name = upload.filename or "content_images"
            if is_zip(upload.file):
                yield from self._studio.sandbox.unpack(upload.file, name)
            else:
                yield name, upload.file.read(self.settings.max_bytes + 1)
