from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scopegate import settings
from scopegate.errors import ConfigError

PLANTED = "hunter2"


def said(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings.load(environ)
    return [str(problem) for problem in caught.value.problems]


def test_nothing_has_to_be_set() -> None:
    found = settings.load({})
    assert found.redis_url is None
    assert found.anthropic_api_key is None
    assert found.state_dir == Path(".scopegate")
    assert found.database == "sqlite+aiosqlite:///.scopegate/scopegate.db"
    assert (found.log_level, found.log_format) == ("info", "auto")


def test_only_the_mapping_given_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    assert settings.load({}).redis_url is None


def test_everything_set() -> None:
    found = settings.load(
        {
            "REDIS_URL": "rediss://:word@redis.internal:6380/2",
            "DATABASE_URL": "sqlite:////var/lib/scopegate.db",
            "ANTHROPIC_API_KEY": "sk-ant-1",
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:9999",
            "SCOPEGATE_STATE_DIR": "/var/lib/scopegate",
            "SCOPEGATE_ADMIN_TOKEN": "0123456789abcdef",
            "SCOPEGATE_WEBHOOK_SECRET": "whsec_c2NvcGVnYXRlLXdlYmhvb2sta2V5",
            "SCOPEGATE_LIMIT_SECRET": "é" * 32,
            "SCOPEGATE_LIMIT_MEMORY": "2GiB",
            "SCOPEGATE_LIMIT_TIMEOUT": "100ms",
            "SCOPEGATE_LOG_LEVEL": "DEBUG",
            "SCOPEGATE_LOG_FORMAT": "json",
            "PATH": "/bin",
        }
    )
    assert found.redis_url == "rediss://:word@redis.internal:6380/2"
    assert found.database == "sqlite+aiosqlite:////var/lib/scopegate.db"
    assert found.anthropic_api_key is not None
    assert found.anthropic_api_key.get_secret_value() == "sk-ant-1"
    assert found.anthropic_base_url == "http://127.0.0.1:9999"
    assert found.state_dir == Path("/var/lib/scopegate")
    assert found.limit_secret is not None
    assert found.limit_secret.get_secret_value() == "é" * 32
    assert found.limit_memory_bytes == 2 << 30
    assert found.limit_timeout_s == 0.1
    assert found.log_level == "debug"


def test_an_empty_variable_is_not_set() -> None:
    found = settings.load(dict.fromkeys(settings.VARIABLES, ""))
    assert found == settings.load({})


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://u:p@h/db", "postgresql+asyncpg://u:p@h/db"),
        ("postgresql://u:p@h:5433/db", "postgresql+asyncpg://u:p@h:5433/db"),
        ("postgresql+asyncpg://h/db?ssl=require", "postgresql+asyncpg://h/db?ssl=require"),
        ("postgres://h/db?a=b&sslmode=require", "postgresql+asyncpg://h/db?a=b&ssl=require"),
        ("sqlite:///state.db", "sqlite+aiosqlite:///state.db"),
        ("sqlite+aiosqlite:////tmp/state.db", "sqlite+aiosqlite:////tmp/state.db"),
    ],
)
def test_database_urls(given: str, used: str) -> None:
    assert settings.load({"DATABASE_URL": given}).database == used


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("REDIS_URL", "http://x:hunter2@redis", "must start with redis://, rediss://, unix:// or redis+sentinel://"),
        ("REDIS_URL", "redis://:hunter2@", "names no host, write it like redis://127.0.0.1:6379/0"),
        ("REDIS_URL", "redis://h:99999/hunter2", "is not a URL"),
        ("REDIS_URL", "redis://h/hunter2", "must end with a database number, like /0"),
        ("REDIS_URL", "unix:hunter2", "names no socket, write it like unix:///run/redis.sock"),
        ("REDIS_URL", "redis://h\nhunter2", "holds a space or a line break"),
        ("DATABASE_URL", "mysql://u:hunter2@h/db", "must start with postgresql:// or sqlite:///"),
        ("DATABASE_URL", "postgres://u:hunter2@h", "names no database, write it like postgresql://user@host/scopegate"),
        (
            "DATABASE_URL",
            "sqlite://",
            "names no file that processes can share, write it like sqlite:///state/scopegate.db",
        ),
        (
            "DATABASE_URL",
            "sqlite:///:memory:",
            "names no file that processes can share, write it like sqlite:///state/scopegate.db",
        ),
        ("ANTHROPIC_API_KEY", "hunter2\n", "holds a space, a line break or a character beyond ASCII"),
        ("ANTHROPIC_BASE_URL", "https://u:hunter2@x", "may hold no user name or password"),
        ("ANTHROPIC_BASE_URL", "hunter2", "is not a URL that starts with http:// or https://"),
        ("SCOPEGATE_ADMIN_TOKEN", "hunter2", "is shorter than 16 characters"),
        ("SCOPEGATE_ADMIN_TOKEN", "hunter2 hunter2 hunter2", "holds a space, a line break or a character beyond ASCII"),
        ("SCOPEGATE_WEBHOOK_SECRET", "hunter2", "is shorter than 16 bytes"),
        ("SCOPEGATE_WEBHOOK_SECRET", "whsec_hunter2!", "starts with whsec_ and is not base64 after it"),
        ("SCOPEGATE_LIMIT_SECRET", "hunter2", "is not 16 to 64 bytes long"),
        ("SCOPEGATE_LIMIT_SECRET", "é" * 33, "is not 16 to 64 bytes long"),
        ("SCOPEGATE_LIMIT_MEMORY", "512KiB", "is not between 1MiB and 2GiB"),
        ("SCOPEGATE_LIMIT_MEMORY", "3GiB", "is not between 1MiB and 2GiB"),
        ("SCOPEGATE_LIMIT_TIMEOUT", "4ms", "is not between 5ms and 1s"),
        ("SCOPEGATE_LIMIT_TIMEOUT", "2s", "is not between 5ms and 1s"),
        ("SCOPEGATE_LOG_LEVEL", "inf", "must be debug, info, warning or error, did you mean info?"),
        ("SCOPEGATE_LOG_FORMAT", "yaml", "must be auto, json or text"),
    ],
)
def test_wrong_values(name: str, value: str, sentence: str) -> None:
    problems = said({name: value})
    assert problems == [f"{name}: {sentence}"]
    assert PLANTED not in "".join(problems)


def test_every_problem_at_once() -> None:
    problems = said(
        {
            "SCOPEGATE_WEBHOOK_SECRT": PLANTED,
            "scopegate_log_level": PLANTED,
            "SCOPEGATE_LOG_LEVEL\n": PLANTED,
            "REDIS_URL": PLANTED,
            "SCOPEGATE_ADMIN_TOKEN": PLANTED,
        }
    )
    assert problems == [
        "REDIS_URL: must start with redis://, rediss://, unix:// or redis+sentinel://",
        "SCOPEGATE_ADMIN_TOKEN: is shorter than 16 characters",
        "'SCOPEGATE_LOG_LEVEL\\n': no such setting, did you mean SCOPEGATE_LOG_LEVEL?",
        "SCOPEGATE_WEBHOOK_SECRT: no such setting, did you mean SCOPEGATE_WEBHOOK_SECRET?",
        "scopegate_log_level: no such setting, did you mean SCOPEGATE_LOG_LEVEL?",
    ]


def test_an_unknown_name_alone_is_enough() -> None:
    assert said({"SCOPEGATE_STATEDIR": "x"}) == [
        "SCOPEGATE_STATEDIR: no such setting, did you mean SCOPEGATE_STATE_DIR?"
    ]


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize(
    ("value", "used"),
    [("http://p:3128", "http://p:3128"), ("https://u:w@p", "https://u:w@p"), ("p:3128", "http://p:3128")],
)
def test_a_proxy_in_either_spelling(name: str, value: str, used: str) -> None:
    assert settings.load({name: value, "NO_PROXY": "fd00::/8"}).https_proxy == used


def test_capitals_win_and_a_proxy_that_speaks_no_http_is_refused() -> None:
    assert settings.load({"https_proxy": "http://small", "HTTPS_PROXY": "http://large"}).https_proxy == "http://large"
    assert said({"HTTPS_PROXY": f"socks5://:{PLANTED}@h", "ALL_PROXY": "socks5://h"}) == [
        "HTTPS_PROXY: must be a proxy that speaks HTTP, written like http://proxy.internal:3128"
    ]
    assert said({"https_proxy": "http://"}) == ["HTTPS_PROXY: names no host, write it like http://proxy.internal:3128"]


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_authorities_have_to_be_there(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "ca.pem").write_text(text)
    problem = "SSL_CERT_FILE: is no readable file of certificates in PEM"
    assert said({"SSL_CERT_FILE": str(tmp_path / "ca.pem")}) == [problem]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_secrets_and_urls_come_from_files(ending: str, tmp_path: Path) -> None:
    values = {
        "REDIS_URL": "redis://h",
        "DATABASE_URL": "postgres://h/db",
        "ANTHROPIC_API_KEY": "sk-ant-1",
        "ANTHROPIC_BASE_URL": "https://claude.example",
        "SCOPEGATE_ADMIN_TOKEN": "0123456789abcdef",
        "SCOPEGATE_WEBHOOK_SECRET": "a secret of some words",
        "SCOPEGATE_LIMIT_SECRET": "é" * 16,
        "SCOPEGATE_READ_TOKEN": "r" * 16,
        "SCOPEGATE_VIEWER_TOKEN": "v" * 16,
    }
    assert set(values) == set(settings.FROM_FILES)
    for name, value in values.items():
        (tmp_path / name).write_bytes(f"{value}{ending}".encode())
    assert settings.load({f"{name}_FILE": str(tmp_path / name) for name in values}) == settings.load(values)


def test_files_that_say_nothing_are_named_and_nothing_of_them_is(tmp_path: Path) -> None:
    for name, data in {
        "empty": b"\n",
        "latin": b"\xff" + PLANTED.encode(),
        "long": b"x" * 65537,
        "bad": b"x y",
    }.items():
        (tmp_path / name).write_bytes(data)
    place = {name: str(tmp_path / name) for name in ("absent", "empty", "latin", "long", "bad")}
    assert said(
        {
            "REDIS_URL_FILE": place["absent"],
            "DATABASE_URL_FILE": place["empty"],
            "ANTHROPIC_API_KEY_FILE": place["latin"],
            "ANTHROPIC_BASE_URL_FILE": place["long"],
            "SCOPEGATE_ADMIN_TOKEN_FILE": place["bad"],
            "SCOPEGATE_ADMIN_TOKEN": "0123456789abcdef",
            "SCOPEGATE_WEBHOOK_SECRET_FILE": str(tmp_path),
            "SCOPEGATE_LIMIT_SECRET_FILE": place["bad"],
            "SCOPEGATE_LOG_LEVEL_FILE": place["bad"],
        }
    ) == [
        "SCOPEGATE_LIMIT_SECRET: is not 16 to 64 bytes long",
        "REDIS_URL_FILE: cannot be read: No such file or directory",
        "DATABASE_URL_FILE: names an empty file",
        "ANTHROPIC_API_KEY_FILE: names a file that is no UTF-8",
        "ANTHROPIC_BASE_URL_FILE: names a file of more than 64 KiB",
        "SCOPEGATE_ADMIN_TOKEN_FILE: set beside SCOPEGATE_ADMIN_TOKEN: only one of them can be meant",
        "SCOPEGATE_WEBHOOK_SECRET_FILE: cannot be read: Is a directory",
        "SCOPEGATE_LOG_LEVEL_FILE: no such setting, did you mean SCOPEGATE_LOG_LEVEL?",
    ]


def test_secrets_show_in_no_repr() -> None:
    found = settings.load(
        {
            "REDIS_URL": f"redis://:{PLANTED}@h",
            "DATABASE_URL": f"postgres://u:{PLANTED}@h/db",
            "ANTHROPIC_API_KEY": PLANTED,
            "SCOPEGATE_ADMIN_TOKEN": PLANTED * 3,
            "SCOPEGATE_WEBHOOK_SECRET": PLANTED * 3,
            "SCOPEGATE_LIMIT_SECRET": PLANTED * 3,
            "HTTPS_PROXY": f"http://:{PLANTED}@h",
        }
    )
    assert PLANTED not in repr(found)
    assert PLANTED not in str(found)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.load({}).log_level = "debug"


def test_every_variable_is_described() -> None:
    assert len(settings.VARIABLES) == 17
    assert all(field.description for field in settings.VARIABLES.values())


def test_reading_settings_imports_no_engine() -> None:
    script = "import sys, scopegate.settings; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert {"anthropic", "httpx", "redis", "arq", "sqlalchemy", "starlette"} & set(done.stdout.split()) == set()
