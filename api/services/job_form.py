"""A form becomes a job: everything that could fail it later, and can be known now, is checked here.

Pictures are decoded, and stored as we write them: none of the bytes that were sent are.
"""

import time
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path, PurePath
from tempfile import NamedTemporaryFile
from typing import IO, Any, Literal, TypeVar, get_origin

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile

from impasto.api.services.archive import is_zip, pictures_in
from impasto.core.datasets import find_dataset
from impasto.core.errors import BadParameter, BadPicture, Conflict, ImpastoError, TooLarge
from impasto.core.files import file_sha256
from impasto.core.jobs.record import KINDS, Job, Kind
from impasto.core.jobs.storage import Storage
from impasto.core.jobs.webhooks import check_url
from impasto.core.losses.named_styles import find_gram_file
from impasto.core.names import MIN_SIDE, is_name
from impasto.core.nets.checkpoints import Zoo
from impasto.core.nets.weights import check_recipe, loss_network_sha256
from impasto.core.params import STYLE_SIZE, GatysParams, TrainJobParams, TrainParams
from impasto.core.pictures.codec import Picture, encode, resize
from impasto.core.recipes import recipe
from impasto.core.settings import Settings

FILES: dict[Kind, set[str]] = {"gatys": {"image", "style_image"}, "train": {"style_image", "content_images"}}
"""Fields that are files, by kind."""
RECIPES: tuple[Literal["ours", "report"], ...] = ("ours", "report")
LONGEST = 20  # times the shorter side: a strip would be enlarged to billions of pixels
MOST_STYLES = 8  # pictures that one style is blended from
LONGEST_DECODING = 300.0  # seconds, of all photographs of a training together

Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


class JobForm:
    """What was sent for a job. It goes to the storage, and from there again if the job is refused.

    `kind` is the job's. Raises BadParameter where that is missing or unknown.
    """

    def __init__(
        self, form: FormData, settings: Settings, storage: Storage, zoo: Zoo, decode: Callable[[bytes], Picture]
    ) -> None:
        self.settings, self.storage, self.zoo, self.decode = settings, storage, zoo, decode
        self.fields: dict[str, list[str]] = {}
        self.files: dict[str, list[UploadFile]] = {}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                self.files.setdefault(name, []).append(value)
            elif value != "":  # a field of a web form that was left empty
                self.fields.setdefault(name, []).append(value)
        self.kind = self._one_of("kind", KINDS, None)
        self._fingerprint = sha256()

    def job(self, idempotency_key: str | None, known: bool = False) -> Job:
        """Return the record, its inputs stored.

        Raises BadParameter, what decoding raises, NotFound, and Conflict where a training's name is taken: not for a
        key that is `known`, whose job is there.
        """
        kind = self.kind
        for name in self.files.keys() - FILES[kind]:
            raise BadParameter(f"{name} is no file of a {kind} job: it takes {' and '.join(sorted(FILES[kind]))}.")
        webhook = self._webhook()
        params = self._gatys() if kind == "gatys" else self._train()
        publishes = None
        if isinstance(params, TrainJobParams):
            publishes = f"{params.arch}/{params.dataset}/{params.style}"
            if not known and tuple(publishes.split("/")) in self.zoo.entries():
                raise Conflict(f"There is a model {publishes} already. Choose another name, or delete that one.")
        self._fingerprint.update(params.model_dump_json().encode() + str(webhook).encode())
        job = Job(
            kind=kind,
            params=params.model_dump(mode="json"),
            publishes=publishes,
            webhook=webhook,
            idempotency_key=idempotency_key,
        )
        try:
            inputs = self._store_inputs(job.id, params)
        except BaseException:
            self.discard(job.id)
            raise
        return job.model_copy(update={"inputs": inputs, "fingerprint": self._fingerprint.hexdigest()})

    def discard(self, id: str) -> None:
        """Take back what was stored for a job that is not to be."""
        self.storage.erase(f"jobs/{id}")

    def _gatys(self) -> GatysParams:
        params = _validated(GatysParams, self._parameters(GatysParams))
        styles = len(self.files.get("style_image", []))
        self._check_style(params.style, styles, MOST_STYLES)
        if params.style_blend and len(params.style_blend) != styles:
            raise BadParameter(f"style_blend has {len(params.style_blend)} weights for {styles} style pictures.")
        check_recipe(params.recipe, self.settings.vgg16)
        if params.style:
            self._check_kept(params.style, STYLE_SIZE, params)
        if len(self.files.get("image", [])) != 1:
            raise BadParameter("image: send one photograph as a file: curl -F kind=gatys -F image=@photo.jpg …")
        return params

    def _train(self) -> TrainJobParams:
        kind = self._one_of("recipe", RECIPES, "ours")
        name, named = self._one("name"), self._one("style")
        if not name or not is_name(name):
            raise BadParameter(f"name: the new style needs one, of a-z, 0-9, _ and -, 64 at most; not {name!r}.")
        given = self._parameters(TrainJobParams)
        arch = given.pop("arch", "aonet")
        dataset = given.pop("dataset", None)
        if not self.files.get("content_images"):
            if dataset is None:
                raise BadParameter("Send photographs to train on (content_images), or name a prepared dataset.")
            find_dataset(self.settings.datasets, dataset)
        try:
            params = recipe(arch, dataset or "custom", name, kind, **given)
        except ValidationError as error:
            raise _located(error) from error
        self.zoo.warm_start(params)
        self._check_style(named, len(self.files.get("style_image", [])), 1)
        check_recipe(params.recipe, self.settings.vgg16)
        if named:
            self._check_kept(named, params.style_size, params)
        return _validated(TrainJobParams, {**params.model_dump(), "named_style": named})

    def _check_style(self, name: str | None, pictures: int, most: int) -> None:
        if (name is None) == (pictures == 0):
            both = "not both" if name else "neither was sent"
            raise BadParameter(f"Name a style (style=wave) or send a picture of one (style_image): {both}.")
        if pictures > most:
            raise BadParameter(f"{pictures} style pictures were sent; {most} is the most.")

    def _check_kept(self, style: str, size: int, params: GatysParams | TrainParams) -> None:
        loss_network = loss_network_sha256(self.settings.vgg16)
        find_gram_file(self.settings.models / "styles", style, size, params.scales, params.style_layers, loss_network)

    def _webhook(self) -> str | None:
        url = self._one("webhook")
        if url is None:
            return None
        if not self.settings.webhook_secret:
            raise BadParameter(
                "webhook: this service has no IMPASTO_WEBHOOK_SECRET to sign calls with, and makes none."
            )
        check_url(url, self.settings.webhook_private)
        return url

    def _parameters(self, model: type[BaseModel]) -> dict[str, Any]:
        """The form's other fields, as `model` takes them: a list is repeated, or has commas."""
        taken = {"kind", "webhook"} | ({"name", "style", "recipe"} if model is TrainJobParams else set())
        values: dict[str, Any] = {}
        for name, sent in self.fields.items():
            if name in taken:
                continue
            field = model.model_fields.get(name)
            many = field is not None and get_origin(field.annotation) is tuple
            values[name] = [part for value in sent for part in value.split(",")] if many else self._one(name)
        return values

    def _one(self, name: str) -> str | None:
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise BadParameter(f"{name} was sent {len(values)} times.")
        return values[0] if values else None

    def _one_of(self, name: str, known: tuple[T, ...], default: T | None) -> T:
        value = self._one(name)
        if value is None and default is not None:
            return default
        found = [one for one in known if one == value]
        if not found:
            given = "is missing" if value is None else f"is {value[:80]!r}"
            raise BadParameter(f"{name} {given}: it must be {' or '.join(map(str, known))}.")
        return found[0]

    def _store_inputs(self, id: str, params: GatysParams | TrainJobParams) -> dict[str, list[str]]:
        inputs: dict[str, list[str]] = {}
        for name in ("image", "style_image"):
            for number, file in enumerate(self.files.get(name, [])):
                picture = self._decode(file.filename or name, self._read(file))
                key = f"jobs/{id}/inputs/{name}-{number}.png"
                self._put(key, encode(picture, "png"))
                inputs.setdefault(name, []).append(key)
        if isinstance(params, TrainJobParams) and self.files.get("content_images"):
            key = f"jobs/{id}/inputs/content_images.zip"
            with NamedTemporaryFile(suffix=".zip") as archive:
                self._write_photographs(archive, 2 * params.size)
                self._put(key, Path(archive.name))
            inputs["content_images"] = [key]
        return inputs

    def _put(self, key: str, data: bytes | Path) -> None:
        found = file_sha256(data) if isinstance(data, Path) else sha256(data).hexdigest()
        self._fingerprint.update(found.encode())
        self.storage.put(key, data)

    def _read(self, upload: UploadFile) -> bytes:
        """A picture, and of one that is too large enough to be refused for it."""
        return upload.file.read(self.settings.max_bytes + 1)

    def _decode(self, name: str, data: bytes) -> Picture:
        try:
            picture = self.decode(data)
            if max(picture.height, picture.width) > LONGEST * min(picture.height, picture.width):
                raise BadPicture(
                    f"{picture.width} x {picture.height} pixels are too long and narrow: {LONGEST} to 1 is the most."
                )
            return picture
        except ImpastoError as error:
            error.message = f"{PurePath(name).name[:80]}: {error.message}"
            raise

    def _write_photographs(self, file: IO[bytes], short: int) -> None:
        """All photographs that were sent, as one archive of JPEGs with their short side at `short` px at most."""
        count, most = 0, 4 * self.settings.max_upload
        until = time.monotonic() + LONGEST_DECODING
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in self._sent_photographs():
                if count == self.settings.max_photographs:
                    raise TooLarge(f"More than {count} photographs were sent.", limit=count)
                if time.monotonic() > until:
                    raise TooLarge(
                        f"After {LONGEST_DECODING:g} s {count} photographs were decoded, and not all. Send fewer, or "
                        f"scaled to {short} px: a training makes them no larger.",
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

    def _sent_photographs(self) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of each picture, those in zip files too."""
        for upload in self.files["content_images"]:
            name = upload.filename or "content_images"
            if is_zip(upload.file):
                yield from pictures_in(upload.file, name, self.settings.max_bytes)
            else:
                yield name, self._read(upload)


def _validated(model: type[Model], values: dict[str, Any]) -> Model:
    try:
        return model(**values)
    except ValidationError as error:
        raise _located(error) from error


def _located(error: ValidationError) -> RequestValidationError:
    """pydantic's error as if FastAPI had validated the form."""
    return RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()])
