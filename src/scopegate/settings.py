"""The environment, read once at start: where the engines are, and the secrets.

All that this project reads from environment variables is declared here. Every problem is named at once, none repeats a
value, and a misspelt `SCOPEGATE_` name is one of them. An empty variable counts as not set. Secrets and URLs may come
from a file instead: `NAME_FILE` says where it is. Called by `cli`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from scopegate.errors import ConfigError, Problem
from scopegate.policy import sentinels
from scopegate.policy.addresses import parse_url
from scopegate.policy.faults import closest
from scopegate.policy.quantities import parse_duration_ms, parse_size
from scopegate.policy.spelling import parse_webhook_secret

PREFIX = "SCOPEGATE_"
MIN_ADMIN_TOKEN_CHARS = 16
MIN_LIMIT_SECRET_BYTES, MAX_LIMIT_SECRET_BYTES = 16, 64
MAX_FILE_BYTES = 64 << 10
"""Of a secret or URL that comes from a file."""

_DATABASE_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


def _redis_url(text: str) -> str:
    if text.startswith(sentinels.SCHEME):
        sentinels.parse(text)
        return text
    parts = _split(text)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("must start with redis://, rediss://, unix:// or redis+sentinel://")
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


def _proxy(text: str) -> str:
    parts = _split(text if "://" in text else f"http://{text}")
    if parts.scheme not in {"http", "https"}:
        raise ValueError("must be a proxy that speaks HTTP, written like http://proxy.internal:3128")
    if not parts.hostname:
        raise ValueError("names no host, write it like http://proxy.internal:3128")
    return parts.geturl()


def _authorities(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=path)
    except OSError:  # also of OpenSSL, for a file without a certificate
        raise ValueError("is no readable file of certificates in PEM") from None
    return path


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
        "REDIS_URL",
        "Redis or Valkey: redis://, rediss://, unix://, redis+sentinel://. Unset: limits in memory.",
        shown=False,
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
    https_proxy: Annotated[str, AfterValidator(_proxy)] | None = _variable(
        "HTTPS_PROXY", "The proxy through which model calls leave; in small letters too.", shown=False
    )
    no_proxy: str | None = _variable("NO_PROXY", "What HTTPS_PROXY is not for: names, addresses, networks, or *.")
    ssl_cert_file: Annotated[Path, AfterValidator(_authorities)] | None = _variable(
        "SSL_CERT_FILE", "The authorities that model calls trust, in PEM. Unset: those that the SDK brings."
    )
    state_dir: Path = _variable("SCOPEGATE_STATE_DIR", "Where embedded engines keep their files.", Path(".scopegate"))
    admin_token: Annotated[SecretStr, AfterValidator(_credential), AfterValidator(_admin_token)] | None = _variable(
        "SCOPEGATE_ADMIN_TOKEN", "Opens the admin port's JSON, at least 16 characters. Unset: loopback only."
    )
    read_token: Annotated[SecretStr, AfterValidator(_credential), AfterValidator(_admin_token)] | None = _variable(
        "SCOPEGATE_READ_TOKEN", "With it the app reads results at the admin port, and nothing else: 16 characters."
    )
    viewer_token: Annotated[SecretStr, AfterValidator(_credential), AfterValidator(_admin_token)] | None = _variable(
        "SCOPEGATE_VIEWER_TOKEN", "Looks at the console and the JSON beside it, and changes nothing: 16 characters."
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


FROM_FILES = (
    *("REDIS_URL", "DATABASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    *("SCOPEGATE_ADMIN_TOKEN", "SCOPEGATE_READ_TOKEN", "SCOPEGATE_VIEWER_TOKEN"),
    *("SCOPEGATE_WEBHOOK_SECRET", "SCOPEGATE_LIMIT_SECRET"),
)
"""What may come from a file, as Docker and Kubernetes mount secrets: NAME_FILE instead of NAME."""


def load(environ: Mapping[str, str]) -> Settings:
    """Read the environment, and the files it names. ConfigError with every problem at once: declared variables in
    their order, then files, then the `SCOPEGATE_` names nobody knows."""
    given: dict[str, Any] = {name: value for name in VARIABLES if (value := _value(environ, name))}
    filed, unreadable = _from_files(environ)
    rest = [*unreadable, *_unknown_names(environ)]
    try:
        settings = Settings(**(given | filed))
    except ValidationError as error:
        raise ConfigError([*_problems(error, environ), *rest]) from None
    if rest:
        raise ConfigError(rest)
    return settings


def _value(environ: Mapping[str, str], name: str) -> str | None:
    """Proxies are named in small letters as often as not; the capitals win, as with Go's programs."""
    return environ.get(name) or (environ.get(name.lower()) if name.endswith("_PROXY") else None)


def _from_files(environ: Mapping[str, str]) -> tuple[dict[str, str], list[Problem]]:
    """What the files say, without the line break that editors leave at the end, and what is wrong with the others."""
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for name in FROM_FILES:
        if not (path := environ.get(f"{name}_FILE")):
            continue
        if environ.get(name):
            problems.append(Problem(f"{name}_FILE", "", f"set beside {name}: only one of them can be meant"))
            continue
        try:
            found[name] = _content(Path(path))
        except ValueError as error:
            problems.append(Problem(f"{name}_FILE", "", str(error)))
    return found, problems


def _content(path: Path) -> str:
    """Raises ValueError, which does not repeat what is in the file."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("names a file that is no UTF-8") from None
    if not text:
        raise ValueError("names an empty file")
    if len(data) > MAX_FILE_BYTES:
        raise ValueError("names a file of more than 64 KiB")
    return text


def _unknown_names(environ: Mapping[str, str]) -> list[Problem]:
    known = {*VARIABLES, *(f"{name}_FILE" for name in FROM_FILES)}
    strange = sorted(name for name in environ if name.upper().startswith(PREFIX) and name not in known)
    return [Problem(_shown(name), "", "no such setting", closest(name, sorted(known))) for name in strange]


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
