"""How each kind of value in `gateway.yaml` enters: text -> its parsed value, with the JSON Schema that says so.

With `document` the only place where pydantic meets the file. Values arrive as `source.plain` gives them; what their
words mean is for `quantities`, `spelling`, `addresses` and `browsers`. Called by `document`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, SecretStr, WithJsonSchema

from scopegate.limits.window import Quota
from scopegate.policy import addresses, browsers, quantities, spelling
from scopegate.policy.policy import Address, Network, Origin
from scopegate.policy.source import resolve
from scopegate.policy.tree import Expanded

T = TypeVar("T")


def _text(parse: Callable[[str], T]) -> PlainValidator:
    """A field whose text `parse` turns into its value. A bare number is text without its unit."""

    def validate(value: object) -> T:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError("must be text")
        return parse(str(value))

    return PlainValidator(validate)


def _schema(example: str, pattern: str | None = None) -> WithJsonSchema:
    schema: dict[str, Any] = {"type": "string", "examples": [example]}
    return WithJsonSchema(schema | ({"pattern": pattern} if pattern else {}))


def _unexpanded(value: object) -> object:
    """Numbers and yes/no may come from the environment, where everything is text."""
    return resolve(value) if isinstance(value, Expanded) else value


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _duration_s(text: str) -> float:
    return quantities.parse_duration_ms(text) / 1000


def _leeway_s(text: str) -> float:
    seconds = _duration_s(text)
    if seconds > 300:
        raise ValueError("is more than 5m")
    return seconds


def _size_up_to(most: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        size = quantities.parse_size(text)
        if size > quantities.parse_size(most):
            raise ValueError(f"is more than {most}")
        return size

    return parse


def _workers(value: object) -> int | None:
    value = _unexpanded(value)
    if value == "auto":
        return None
    if type(value) is not int or not 1 <= value <= 256:
        raise ValueError("is neither `auto` nor a whole number from 1 to 256")
    return value


def _secret(value: object) -> SecretStr:
    if not isinstance(value, Expanded) or not value.whole:
        raise ValueError('must come from the environment alone, write it like "${NAME}"')
    if not value and not value.missing:
        raise ValueError("is empty in the environment")
    return SecretStr(str(value))


def _signing_key(value: object) -> SecretStr:
    key = _secret(value)
    if key.get_secret_value() and len(key.get_secret_value().encode()) < spelling.MIN_SIGNING_KEY_BYTES:
        raise ValueError(f"is shorter than {spelling.MIN_SIGNING_KEY_BYTES} bytes")
    return key


def _webhook_secret(value: object) -> SecretStr:
    secret = _secret(value)
    if secret.get_secret_value():
        spelling.parse_webhook_secret(secret.get_secret_value())
    return secret


Whole: TypeAlias = Annotated[int, BeforeValidator(_unexpanded)]
Count: TypeAlias = Annotated[Whole, Field(ge=1)]
Name: TypeAlias = Annotated[str, _text(spelling.parse_name), _schema("strict", spelling.NAME_PATTERN)]
Duration: TypeAlias = Annotated[float, _text(_duration_s), _schema("10s", quantities.DURATION_PATTERN)]
Size: TypeAlias = Annotated[int, _text(quantities.parse_size), _schema("256KiB", quantities.SIZE_PATTERN)]
HeadSize: TypeAlias = Annotated[int, _text(_size_up_to("1MiB")), _schema("32KiB", quantities.SIZE_PATTERN)]
TargetSize: TypeAlias = Annotated[int, _text(_size_up_to("64KiB")), _schema("8KiB", quantities.SIZE_PATTERN)]
Leeway: TypeAlias = Annotated[float, _text(_leeway_s), _schema("30s", quantities.DURATION_PATTERN)]
Limit: TypeAlias = Annotated[Quota, _text(quantities.parse_quota), _schema("10 per 10s", quantities.QUOTA_PATTERN)]
Limits: TypeAlias = Annotated[list[Limit], BeforeValidator(_as_list, json_schema_input_type=Limit | list[Limit])]
Money: TypeAlias = Annotated[
    tuple[int, str], _text(quantities.parse_money), _schema("20 USD per day", quantities.MONEY_PATTERN)
]
Share: TypeAlias = Annotated[float, _text(quantities.parse_share), _schema("80%", quantities.SHARE_PATTERN)]
Listen: TypeAlias = Annotated[Address, _text(addresses.parse_listen), _schema("0.0.0.0:8080")]
Host: TypeAlias = Annotated[str, _text(addresses.parse_host), _schema("leads.example.com")]
ServerName: TypeAlias = Annotated[str, _text(addresses.parse_server_name), _schema("app.internal")]
Net: TypeAlias = Annotated[Network, _text(addresses.parse_network), _schema("10.0.0.0/8")]
ServerUrl: TypeAlias = Annotated[Origin, _text(addresses.parse_origin), _schema("http://127.0.0.1:3000")]
Url: TypeAlias = Annotated[str, _text(addresses.parse_url), _schema("https://leads.example.com/hook")]
Match: TypeAlias = Annotated[spelling.RequestLine, _text(spelling.parse_match), _schema("POST /api/leads")]
Request: TypeAlias = Annotated[tuple[str, str], _text(spelling.parse_request), _schema("GET /api/leads")]
FieldName: TypeAlias = Annotated[str, _text(spelling.parse_field_name), _schema("Authorization")]
FieldNames: TypeAlias = Annotated[
    list[FieldName], BeforeValidator(_as_list, json_schema_input_type=FieldName | list[FieldName])
]
MediaType: TypeAlias = Annotated[str, _text(spelling.parse_media_type), _schema("application/json")]
Expression: TypeAlias = Annotated[str, _text(spelling.parse_expression), _schema("request.photos[].url")]
PhotoHost: TypeAlias = Annotated[str, _text(addresses.parse_photo_host), _schema("*.s3.amazonaws.com")]
Algorithm: TypeAlias = Annotated[
    str,
    _text(spelling.parse_algorithm),
    WithJsonSchema({"type": "string", "enum": [*spelling.ASYMMETRIC, *spelling.HMAC_KEY_BYTES]}),
]
Secret: TypeAlias = Annotated[SecretStr, PlainValidator(_secret), _schema("${JWT_SECRET}", r"^\$\{\w+\}$")]
WebhookSecret: TypeAlias = Annotated[
    SecretStr, PlainValidator(_webhook_secret), _schema("${SCOPEGATE_WEBHOOK_SECRET}", r"^\$\{\w+\}$")
]
SigningKey: TypeAlias = Annotated[
    SecretStr, PlainValidator(_signing_key), _schema("${IDENTITY_SECRET}", r"^\$\{\w+\}$")
]
Flag: TypeAlias = Annotated[bool, BeforeValidator(_unexpanded)]
MessageSize: TypeAlias = Annotated[int, _text(_size_up_to("16MiB")), _schema("64KiB", quantities.SIZE_PATTERN)]
HstsAge: TypeAlias = Annotated[int, _text(quantities.parse_hsts_age_s), _schema("365d", quantities.AGE_PATTERN)]
ContentPolicy: TypeAlias = Annotated[str, _text(browsers.parse_content_policy), _schema("default-src 'self'")]
WebOrigin: TypeAlias = Annotated[str, _text(browsers.parse_web_origin), _schema("https://partner.example")]
CorsField: TypeAlias = Annotated[str, _text(browsers.parse_cors_field), _schema("content-type")]
Method: TypeAlias = Annotated[str, _text(spelling.parse_method), _schema("GET")]
SideFile: TypeAlias = Annotated[str, _text(spelling.parse_side_file), _schema("schemas/lead.json")]
Workers: TypeAlias = Annotated[
    int | None,
    PlainValidator(_workers),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 256}]}),
]
Path: TypeAlias = Annotated[str, _text(spelling.parse_path), _schema("/api/health")]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class Section(BaseModel):
    """Unknown keys are problems, and text is never taken for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def option(default: object, description: str, **bounds: Any) -> Any:
    """A field that may be left out; its default is spelt as in the file and read by the same rules."""
    return Field(default, validate_default=True, description=description, **bounds)


def section(model: type[Section], description: str) -> Any:
    """A section that may be left out, with the defaults of its fields."""
    return Field(default_factory=model, description=description)
