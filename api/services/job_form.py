"""A form becomes a job: everything that could fail it later, and can be known now, is checked here."""

from typing import Any, TypeVar, get_args, get_origin

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile

from impasto.api.services.job_inputs import JobInputs
from impasto.core.datasets import find_dataset
from impasto.core.errors import BadParameter, Conflict
from impasto.core.jobs.cost import EPOCH, Bounds, Size, check_painting, check_training
from impasto.core.jobs.record import KINDS, Job, Kind
from impasto.core.jobs.webhooks import check_url
from impasto.core.losses.named_styles import find_gram_file
from impasto.core.names import check_name
from impasto.core.nets.checkpoints import Zoo
from impasto.core.nets.weights import check_recipe, loss_network_sha256
from impasto.core.params import STYLE_SIZE, GatysParams, Recipe, TrainJobParams, TrainParams
from impasto.core.recipes import recipe
from impasto.core.settings import Settings

FILES: dict[Kind, set[str]] = {"gatys": {"image", "style_image"}, "train": {"style_image", "content_images"}}
"""Fields that are files, by kind."""
MOST_ITEMS = 64  # of a parameter that is a list
MOST_STYLES = 8  # pictures that one style is blended from

Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")


class JobForm:
    """The form that a job was submitted with. `kind` is the job's.

    Raises BadParameter where `kind` is missing or unknown.
    """

    def __init__(self, form: FormData, settings: Settings, zoo: Zoo) -> None:
        self.settings, self.zoo = settings, zoo
        self.bounds = Bounds(settings.max_job_memory, settings.max_job_seconds)
        self.fields: dict[str, list[str]] = {}
        self.files: dict[str, list[UploadFile]] = {}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                self.files.setdefault(name, []).append(value)
            elif value != "":  # a field of a web form that was left empty
                self.fields.setdefault(name, []).append(value)
        self.kind = self._one_of("kind", KINDS, None)

    def job(self, inputs: JobInputs, idempotency_key: str | None, known: bool = False) -> Job:
        """Store the inputs and return the record.

        `known` says that a job with this idempotency key is there already, which then has the training's name.
        Raises BadParameter; what decoding raises; NotFound; TooLarge for a job that costs too much; NoSpace; Conflict
        where a training's name is taken.
        """
        kind = self.kind
        for name in self.files.keys() - FILES[kind]:
            raise BadParameter(f"A {kind} job takes no file {name!r}. It takes {' and '.join(sorted(FILES[kind]))}.")
        webhook = self._webhook()
        params = self._gatys() if kind == "gatys" else self._train()
        publishes = None
        if isinstance(params, TrainJobParams):
            publishes = f"{params.arch}/{params.dataset}/{params.style}"
            if not known and tuple(publishes.split("/")) in self.zoo.entries():
                raise Conflict(f"There is a model {publishes} already. Choose another name, or delete that one.")
            self._store_training(inputs, params)
        else:
            self._store_painting(inputs, params)
        return Job(
            id=inputs.id,
            kind=kind,
            params=params.model_dump(mode="json"),
            inputs=inputs.keys,
            size=inputs.size,
            sizes={"inputs": inputs.bytes},
            publishes=publishes,
            webhook=webhook,
            idempotency_key=idempotency_key,
            fingerprint=inputs.fingerprint(params.model_dump_json(), str(webhook)),
        )

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
            raise BadParameter("Send one photograph as the file `image`: curl -F kind=gatys -F image=@photo.jpg …")
        return params

    def _train(self) -> TrainJobParams:
        kind: Recipe = self._one_of("recipe", get_args(Recipe), "ours")
        name, named = self._one("name"), self._one("style")
        if not name:
            raise BadParameter("name: none was sent. Name the new style, such as name=sunset.")
        check_name(name, "style")
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
            raise BadParameter(f"{pictures} style pictures were sent. At most {most} are allowed.")

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
            if (items := sum(value.count(",") + 1 for value in sent)) > MOST_ITEMS:  # before a million are checked
                raise BadParameter(f"{name} has {items:,} values. At most {MOST_ITEMS} are allowed.")
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

    def _store_painting(self, inputs: JobInputs, params: GatysParams) -> None:
        (upload,) = self.files["image"]
        photograph = inputs.decode(upload, "image")
        styles: list[Size] = []
        inputs.store_photograph(photograph, params)
        for upload in self.files.get("style_image", []):
            picture = inputs.decode(upload, "style_image")
            begins_as = params.init == "style" and not styles  # the painting begins as all of this picture
            styles.append((picture.height, picture.width))
            inputs.store_style(picture, None if begins_as else params.style_side)
        check_painting(params, (photograph.height, photograph.width), styles, self.bounds)

    def _store_training(self, inputs: JobInputs, params: TrainJobParams) -> None:
        sent = self.files.get("content_images", [])
        photographs = self.settings.max_photographs if sent else EPOCH
        if params.named_style:
            check_training(params, None, photographs, self.bounds)
        for upload in self.files.get("style_image", []):
            picture = inputs.decode(upload, "style_image")
            check_training(params, (picture.height, picture.width), photographs, self.bounds)
            inputs.store_style(picture, params.style_size)
        if sent:
            inputs.store_photographs(sent, 2 * params.size)


def _validated(model: type[Model], values: dict[str, Any]) -> Model:
    try:
        return model(**values)
    except ValidationError as error:
        raise _located(error) from error


def _located(error: ValidationError) -> RequestValidationError:
    """pydantic's error as if FastAPI had validated the form."""
    return RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()])
