"""Everything that can be set from outside, read once, frozen and passed in."""

import re
from pathlib import Path

from pydantic import AliasChoices, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from impasto.core.names import Device
from impasto.core.paint_params import MAX_PAINTED
from impasto.core.pictures.guard import DEFAULT_LIMITS, Limits

ROOT = Path(__file__).resolve().parents[1]
"""The folder of `models/`: the repository, to which the symlink impasto/core leads; of a wheel, the package."""

_LISTS = {
    "hosts": (r"\*|(\*\.)?[\w.-]+|[0-9a-fA-F:]+", "paint.example.org or *.example.org, without a port"),
    "origins": (r"https?://[^/\s]+", "https://example.org"),
    "forwarded": (r"\*|[0-9a-fA-F.:]+(/\d+)?", "10.0.0.5 or 10.0.0.0/8"),
}
"""The form of each entry in these settings, and an example."""


class Settings(BaseSettings):
    """`Settings()` reads IMPASTO_<NAME> from the environment; core never does so by itself."""

    model_config = SettingsConfigDict(
        env_prefix="IMPASTO_", extra="ignore", frozen=True, validate_by_name=True, validate_by_alias=True
    )

    host: str = Field("127.0.0.1", description="address that the service listens on")
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("IMPASTO_PORT", "PORT"),
        description="port that the service listens on; PORT is read, too, as hosting platforms set it",
    )

    keys: str = Field("", description="file of the API's keys, from impasto keys; with it, work needs a key")
    hosts: str = Field(
        "",
        description="names to answer by, with commas; empty is every name, or on 127.0.0.1 those of this machine alone",
    )
    origins: str = Field(
        "", description="other sites whose pages may use the service, with commas: https://example.org"
    )
    forwarded: str = Field("", description="proxies whose X-Forwarded-For is believed, with commas: 10.0.0.5")
    docs: bool = Field(True, description="have /docs and /openapi.json")
    log: bool = Field(True, description="log a line for each request and job; warnings are logged anyway")

    rate: int = Field(3000, ge=0, description="requests a minute of one client, or key; 0 is no limit")
    connections: int = Field(512, ge=1, description="connections at once, a quarter of them from one client")
    max_held: int = Field(
        1_000_000_000,
        gt=0,
        description="bytes of bodies under way, and as many of answers not yet read; one client may have a quarter",
    )
    patience: float = Field(
        10,
        gt=0,
        description="seconds for a request's header, and that its body may pause; an answer may three times that",
    )
    grace: int = Field(30, ge=1, description="seconds for requests under way when the service is told to stop")

    models: Path = Field(ROOT / "models", description="the models that came with Impasto")
    styles: Path = Field(Path("data/styles"), description="the models trained here")
    datasets: Path = Field(Path("data/datasets"), description="prepared datasets: folders of photographs, or archives")
    cache: Path = Field(
        Path("~/.cache/impasto"),
        description="compiled models, unpacked datasets, the admin's token; can be deleted: the next start makes them",
    )
    vgg16: str = Field(
        "bundled", description="the loss network: bundled, imagenet, or the path of a .safetensors or .pth"
    )

    device: Device = Field("auto", description="where networks run; auto is a GPU if there is one")
    threads: int = Field(0, ge=0, description="threads of one painting on the CPU; 0 is all cores")
    loaded: int = Field(4, ge=1, description="models kept in memory")

    max_bytes: int = Field(DEFAULT_LIMITS.max_bytes, gt=0, description="largest request body, bytes")
    max_pixels: int = Field(DEFAULT_LIMITS.max_pixels, gt=0, description="largest picture, pixels")
    max_side: int = Field(DEFAULT_LIMITS.max_side, gt=0, description="longest side of a picture, pixels")
    sandbox: bool = Field(True, description="decode what clients send in confined child processes; on Linux")
    memory: int = Field(
        0, ge=0, description="bytes that pictures under way may take together; 0 is 70% of the container's or machine's"
    )
    max_seconds: float = Field(120, gt=0, description="seconds that one painting at once may be expected to take")
    max_painted: int = Field(
        MAX_PAINTED, gt=0, description="pixels that a network is shown; each takes 320 bytes by AONet, 560 by VGG16"
    )
    slots: int = Field(3, ge=1, description="pictures worked on at once, of one client all but one of them")
    queue: int = Field(16, ge=0, description="pictures that may wait for a slot")

    jobs: bool = Field(
        True, description="take on jobs; without them nothing is kept, and only /stylize and /compare paint"
    )
    store: str = Field("data/jobs.sqlite", description="the records of jobs: a file of SQLite, or redis://…")
    storage: str = Field("data/jobs", description="what jobs were sent and made: a folder, or s3://bucket/prefix")
    broker: str = Field("", description="redis://… hands jobs to Celery workers; without it they run beside the API")
    work: Path = Field(Path("data/work"), description="where jobs under way have their files")
    save_every: float = Field(20, gt=0, description="seconds between two checkpoints of a job that optimises pixels")
    max_upload: int = Field(256_000_000, gt=0, description="largest body of POST /jobs, bytes")
    max_photographs: int = Field(2000, gt=0, description="photographs that a training may be sent")
    max_job_memory: int = Field(
        0, ge=0, description="bytes that one job may be expected to need; 0 is 70% of the container's or machine's"
    )
    max_job_seconds: float = Field(
        259_200, gt=0, description="seconds that one job may be expected to take on one core of a CPU"
    )
    max_stored: int = Field(
        0, ge=0, description="bytes that the jobs of one client may have in the storage; 0 is a tenth of its disk"
    )
    queued_gatys: int = Field(
        100, ge=0, description="paintings in pixels that may wait for a worker, half of them from one client"
    )
    queued_train: int = Field(
        20, ge=0, description="trainings that may wait for a worker, half of them from one client"
    )
    min_free: float = Field(5, ge=0, lt=100, description="per cent of a disk that jobs leave free")
    keep_results: float = Field(168, gt=0, description="hours that results and records are kept after a job's end")
    webhook_secret: str = Field(
        "", description="signs the calls of webhooks: whsec_ and base64, or text; without it no webhook is accepted"
    )
    webhook_private: bool = Field(False, description="let webhooks call private addresses and ports below 1024, too")

    @field_validator("store", "storage", "broker")
    @classmethod
    def _known_scheme(cls, value: str, info: ValidationInfo) -> str:
        schemes = ["s3"] if info.field_name == "storage" else ["redis", "rediss", "unix"]
        scheme, separator, _ = value.partition("://")
        if separator and scheme not in schemes:
            raise ValueError(f"{scheme}:// is not known here. Use {' or '.join(f'{known}://' for known in schemes)}")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _decodable(cls, value: str) -> str:
        """Refuse a secret that begins like one in base64 and cannot be decoded."""
        text = value.removeprefix("whsec_").rstrip("=")
        if value.startswith("whsec_") and (not re.fullmatch(r"[A-Za-z0-9+/]+", text) or len(text) % 4 == 1):
            raise ValueError("whsec_ must be followed by base64, such as `openssl rand -base64 32` makes")
        return value

    @field_validator("hosts", "origins", "forwarded")
    @classmethod
    def _well_formed(cls, value: str, info: ValidationInfo) -> str:
        """Refuse an entry that could never match anything."""
        form, example = _LISTS[str(info.field_name)]
        for part in filter(None, (part.strip() for part in value.split(","))):
            if not re.fullmatch(form, part):
                raise ValueError(f"{part!r} is not valid. Write {example}")
        return value

    def listed(self, name: str) -> list[str]:
        """A setting that has commas in it, as a list."""
        return [part.strip() for part in str(getattr(self, name)).split(",") if part.strip()]

    @property
    def limits(self) -> Limits:
        return Limits(max_bytes=self.max_bytes, max_pixels=self.max_pixels, max_side=self.max_side)

    @property
    def connections_of_one(self) -> int:
        """Connections, and requests under way, of one client; a browser opens six or more."""
        return max(8, self.connections // 4)

    @property
    def cache_folder(self) -> Path:
        return self.cache.expanduser()
