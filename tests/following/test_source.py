"""A policy read from its file, and from the copy of the last good one."""

from __future__ import annotations

from pathlib import Path

import pytest

from scopegate.errors import ConfigError
from scopegate.following import source
from scopegate.limits.pricing import PriceTable
from scopegate.worker import prices

TEXT = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
routes:
  - name: checked
    match: POST /a
    tier: none
    body: {types: [application/json], json: {schema: schema.json}}
"""


@pytest.fixture
def table() -> PriceTable:
    return prices.load()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    path = tmp_path / "gateway.yaml"
    path.write_text(TEXT)
    return path


def test_a_copy_means_what_the_file_meant(config: Path, tmp_path: Path, table: PriceTable) -> None:
    """Also after the file and what it names were broken: that is what the copy is for."""
    read = source.on_disk(config)
    before = read.examine({}, table, lenient=False)
    assert before.policy is not None, before.problems
    copy = tmp_path / "copy.json"
    read.save(copy)
    assert copy.stat().st_mode & 0o777 == 0o600
    config.write_text("broken")
    (tmp_path / "schema.json").unlink()
    after = source.copied(config, copy).examine({}, table, lenient=False)
    assert after == before
    assert source.on_disk(config).examine({}, table, lenient=False).policy is None


def test_a_copy_is_replaced_whole(config: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    source.on_disk(config).save(copy)
    with copy.open("rb") as old:
        config.write_text(TEXT + "# changed\n")
        source.on_disk(config).save(copy)
        assert source.copied(config, copy).text == config.read_bytes()
        assert b"changed" not in old.read(), "who reads the old one reads it to its end"


@pytest.mark.parametrize("left", [None, "", "{}", '{"text": "!", "beside": 3}'])
def test_without_a_copy_the_file_is_read(config: Path, tmp_path: Path, left: str | None) -> None:
    copy = tmp_path / "copy.json"
    if left is not None:
        copy.write_text(left)
    assert source.copied(config, copy).text == TEXT.encode()
    config.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        source.copied(config, copy)
