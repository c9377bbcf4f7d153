"""The environment, read once at start: where the engines are, and the secrets.

All that this project reads from environment variables is declared here. Every problem is named at once, none repeats a
value, and a misspelt `SCOPEGATE_` name is one of them. An empty variable counts as not set. Called by `cli`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from scopegate.errors import ConfigError, Problem
from scopegate.policy.addresses import parse_url
from scopegate.policy.faults import closest
from scopegate.policy.quantities import parse_duration_ms, parse_size
from scopegate.policy.spelling import parse_webhook_secret

PREFIX = "SCOPEGATE_"
MIN_ADMIN_TOKEN_CHARS = 16
MIN_LIMIT_SECRET_BYTES, MAX_LIMIT_SECRET_BYTES = 16, 64

_DATABASE_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


def _redis_url(text: str) -> str:
    parts = _split(text)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("must start with redis://, rediss:// or unix://")
    if parts.scheme == "unix":
        if not parts.path.startswith("/"):
            raise ValueError("names no socket, write it like unix:///run/redis.sock")
        return text
    if not parts.hostname:
        raise ValueError("names no host, write it like redis://127.0.0.1:6379/0")
    if not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path, re.ASCII):
        raise ValueError("must end with a database number, like /0")
    return text


def _database_url(text: str) -> str:
    """In SQLAlchemy's async spelling: the driver is named, and libpq's `sslmode` is asyncpg's `ssl`."""
    parts = _split(text)
    driver = _DATABASE_DRIVERS.get(parts.scheme)
    if driver is None:
        raise ValueError("must start with postgresql:// or sqlite:///")
    rest = text.partition("://")[2]
    if driver.startswith("sqlite"):
        if not re.match(r"/[^?#]", rest) or rest.startswith("/:memory:"):
            raise ValueError("names no file that processes can share, write it like sqlite:///state/scopegate.db")
        return f"{driver}://{rest}"
    if not parts.path.strip("/"):
        raise ValueError("names no database, write it like postgresql://user@host/scopegate")
    return re.sub(r"([?&])sslmode=", r"\1ssl=", f"{driver}://{rest}")


def _split(text: str) -> SplitResult:
    if re.search(r"[\x00-\x20\x7f]", text):
        raise ValueError("holds a space or a line break")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    return parts


def _credential(value: SecretStr) -> SecretStr:
    """One that travels in a header field."""
    if not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
        raise ValueError("holds a space, a line break or a character beyond ASCII")
    return value


def _admin_token(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < MIN_ADMIN_TOKEN_CHARS:
        raise ValueError(f"is shorter than {MIN_ADMIN_TOKEN_CHARS} characters")
    return value


def _webhook_secret(value: SecretStr) -> SecretStr:
    parse_webhook_secret(value.get_secret_value())
    return value


def _limit_secret(value: SecretStr) -> SecretStr:
    if not MIN_LIMIT_SECRET_BYTES <= len(value.get_secret_value().encode()) <= MAX_LIMIT_SECRET_BYTES:
        raise ValueError(f"is not {MIN_LIMIT_SECRET_BYTES} to {MAX_LIMIT_SECRET_BYTES} bytes long")
    return value


def _limit_memory(value: object) -> object:
    if not isinstance(value, str):
        return value
    size = parse_size(value)
    if not 1 << 20 <= size <= 2 << 30:
        raise ValueError("is not between 1MiB and 2GiB")
    return size


def _limit_timeout(value: object) -> object:
    if not isinstance(value, str):
        return value
    duration_ms = parse_duration_ms(value)
    if not 5 <= duration_ms <= 1000:
        raise ValueError("is not between 5ms and 1s")
    return duration_ms / 1000


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _variable(name: str, description: str, default: object = None, *, shown: bool = True) -> Any:
    return Field(default, validation_alias=name, description=description, repr=shown)


class Settings(BaseSettings):
    """Made by `load` alone. URLs may hold passwords, so none of them shows in `repr`."""

    model_config = SettingsConfigDict(case_sensitive=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    redis_url: Annotated[str, AfterValidator(_redis_url)] | None = _variable(
        "REDIS_URL", "Redis or Valkey: redis://, rediss:// or unix://. Unset: limits in memory.", shown=False
    )
    database_url: Annotated[str, AfterValidator(_database_url)] | None = _variable(
        "DATABASE_URL", "postgresql:// or sqlite:///. Unset: a SQLite file in the state directory.", shown=False
    )
    anthropic_api_key: Annotated[SecretStr, AfterValidator(_credential)] | None = _variable(
        "ANTHROPIC_API_KEY", "The key every model call is made with. Needed by the worker where leads are offloaded."
    )
    anthropic_base_url: Annotated[str, AfterValidator(parse_url)] | None = _variable(
        "ANTHROPIC_BASE_URL", "Another place that speaks the Messages API.", shown=False
    )
    state_dir: Path = _variable("SCOPEGATE_STATE_DIR", "Where embedded engines keep their files.", Path(".scopegate"))
    admin_token: Annotated[SecretStr, AfterValidator(_credential), AfterValidator(_admin_token)] | None = _variable(
        "SCOPEGATE_ADMIN_TOKEN", "Opens the admin port's JSON, at least 16 characters. Unset: loopback only."
    )
    webhook_secret: Annotated[SecretStr, AfterValidator(_webhook_secret)] | None = _variable(
        "SCOPEGATE_WEBHOOK_SECRET", "Signs results: whsec_ and base64, or text of at least 16 bytes."
    )
    limit_secret: Annotated[SecretStr, AfterValidator(_limit_secret)] | None = _variable(
        "SCOPEGATE_LIMIT_SECRET", "Hashes whom limits count before Redis sees it: the same for all gateways, 16 bytes."
    )
    limit_memory_bytes: Annotated[int, BeforeValidator(_limit_memory)] = _variable(
        "SCOPEGATE_LIMIT_MEMORY", "What a gateway's limits may take in memory, 1MiB to 2GiB.", 64 << 20
    )
    limit_timeout_s: Annotated[float, BeforeValidator(_limit_timeout)] = _variable(
        "SCOPEGATE_LIMIT_TIMEOUT", "How long Redis may take to count a request before it is away, 5ms to 1s.", 0.04
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = _variable(
        "SCOPEGATE_LOG_LEVEL", "debug, info, warning or error.", "info"
    )
    log_format: Annotated[Literal["auto", "json", "text"], BeforeValidator(_lower)] = _variable(
        "SCOPEGATE_LOG_FORMAT", "json, text, or auto: text on a terminal.", "auto"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` was given: the process' own environment is not looked at."""
        return (init_settings,)

    @property
    def database(self) -> str:
        """The database in use, as an SQLAlchemy URL. May hold a password."""
        return self.database_url or f"sqlite+aiosqlite:///{self.state_dir / 'scopegate.db'}"


VARIABLES: Mapping[str, FieldInfo] = {str(field.validation_alias): field for field in Settings.model_fields.values()}
"""Every variable that is read, with its description and default."""


def load(environ: Mapping[str, str]) -> Settings:
    """Read the environment. ConfigError with every problem at once: declared variables in their order, then the
    `SCOPEGATE_` names nobody knows."""
    unknown = _unknown_names(environ)
    given: dict[str, Any] = {name: environ[name] for name in VARIABLES if environ.get(name)}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise ConfigError([*_problems(error, environ), *unknown]) from None
    if unknown:
        raise ConfigError(unknown)
    return settings


def _unknown_names(environ: Mapping[str, str]) -> list[Problem]:
    strange = sorted(name for name in environ if name.upper().startswith(PREFIX) and name not in VARIABLES)
    return [Problem(_shown(name), "", "no such setting", closest(name, VARIABLES)) for name in strange]


def _shown(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_]{1,80}", name, re.ASCII) else repr(name[:80])


def _problems(error: ValidationError, environ: Mapping[str, str]) -> list[Problem]:
    return [_problem(str(one["loc"][0]), one["type"], one.get("ctx", {}), environ) for one in error.errors()]


def _problem(name: str, kind: str, context: Mapping[str, Any], environ: Mapping[str, str]) -> Problem:
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context["expected"]))
        return Problem(name, "", f"must be {', '.join(choices[:-1])} or {choices[-1]}", closest(environ[name], choices))
    if kind == "value_error":
        return Problem(name, "", str(context["error"]))
    return Problem(name, "", "cannot be read")
