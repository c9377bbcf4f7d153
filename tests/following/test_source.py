"""A policy read from its file, and from the copy of the last good one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scopegate.errors import ConfigError, Problem
from scopegate.following import source
from scopegate.policy.sections.ai import Prices
from scopegate.worker import prices
from tests.policies import EXAMPLE, examine, load

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
def table() -> Prices:
    return prices.load


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    path = tmp_path / "gateway.yaml"
    path.write_text(TEXT)
    return path


def test_a_copy_means_what_the_file_meant(config: Path, tmp_path: Path, table: Prices) -> None:
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


def problems(config: Path) -> list[str]:
    return [problem.what for problem in examine(config, {}).problems]


def test_examine_needs_no_secret_and_load_does() -> None:
    review = examine(EXAMPLE, {})
    assert review.policy is not None
    assert [warning.path for warning in review.warnings] == [
        "auth.contractor.sign_with",
        "offloads.lead-photos.deliver.secret",
    ]
    with pytest.raises(ConfigError, match="the environment has no SCOPEGATE_WEBHOOK_SECRET"):
        load(EXAMPLE, {})


def test_no_file(tmp_path: Path) -> None:
    big = tmp_path / "big.yaml"
    big.write_bytes(b"# " + b"x" * 2_000_000)
    for path, sentence in (
        (tmp_path / "none.yaml", "no such file"),
        (big / "below", "no such file"),
        (tmp_path, "this is a directory, not a policy file"),
        (big, "the file is larger than 1024 KiB"),
        (tmp_path / ("x" * 300), "the file cannot be read: File name too long"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        assert caught.value.problems[0].where.startswith(str(path))
        assert caught.value.problems[0].what == sentence


def test_a_file_that_may_not_be_read() -> None:
    """As an unprivileged user, in a process of its own: root may read everything."""
    script = """
import os, sys, tempfile
from pathlib import Path
from scopegate.errors import ConfigError, Problem
from scopegate.following.source import on_disk
with tempfile.NamedTemporaryFile() as file:
    os.chmod(file.name, 0)
    if os.getuid() == 0:
        os.seteuid(65534)
    try:
        on_disk(Path(file.name))
    except ConfigError as error:
        print(error.problems[0].what)
    os.seteuid(os.getuid())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "the file may not be read by this user\n"


def test_paths_are_relative_to_the_policy_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = (str(config.parent / "schema.json"),)
    assert load(config, {}).files == absolute
    monkeypatch.chdir(config.parent.parent)
    assert load(Path(config.parent.name) / config.name, {}).files == absolute


def test_a_review_names_also_the_files_that_are_not_there(config: Path) -> None:
    """Whoever watches them sees the missing one appear."""
    (config.parent / "schema.json").unlink()
    review = examine(config, {})
    assert review.policy is None
    assert review.files == (str(config.parent / "schema.json"),)
    assert problems(config) == ["'schema.json': no such file"]


def test_a_pipe_or_a_folder_is_not_waited_for(config: Path) -> None:
    schema = config.parent / "schema.json"
    schema.unlink()
    os.mkfifo(schema)
    assert problems(config) == ["'schema.json': this is not a file"]
    schema.unlink()
    schema.mkdir()
    assert problems(config) == ["'schema.json': this is not a file"]


def test_a_name_that_no_file_can_have(config: Path) -> None:
    config.write_text(TEXT.replace("schema.json", "x" * 300))
    assert problems(config)[0].endswith("': the file cannot be read: File name too long")


def test_a_look_tells_what_is_wrong_with_promises_and_what_the_role_lacks(config: Path, table: Prices) -> None:
    config.write_text(TEXT + "promises: [{request: POST /a, tier: strict}]\n")
    need = Problem("SOME_NAME", "", "not set")
    review, read = source.look(config, None, {}, table, lambda _policy: [need])
    assert review.policy is None
    assert read is not None
    assert need in review.problems
    assert len(review.problems) == 2
    assert [Path(file).name for file in review.files] == ["gateway.yaml", "schema.json"]


def test_a_look_at_no_file_has_no_source(tmp_path: Path, table: Prices) -> None:
    review, read = source.look(tmp_path / "gone.yaml", None, {}, table, lambda _policy: [])
    assert read is None
    assert [problem.what for problem in review.problems] == ["no such file"]


def test_the_text_in_force_is_that_of_its_digest(config: Path, tmp_path: Path, table: Prices) -> None:
    """Of the copy while the file is being changed; else the file as it is, with what it would be."""
    read = source.on_disk(config)
    policy = read.examine({}, table, lenient=False).policy
    assert policy is not None
    copy = tmp_path / "copy.json"
    read.save(copy)
    config.write_text(TEXT + "# changed\n")
    for place, text in ((copy, TEXT), (None, TEXT + "# changed\n")):
        found = source.in_force(config, place, policy.digest, {})
        assert found is not None
        assert found[0].text.decode() == text
        assert (found[1] == policy.digest) is (place is copy)
    config.write_text("broken: [")
    found = source.in_force(config, None, policy.digest, {})
    assert found is not None
    assert found[1] == ""
    config.unlink()
    assert source.in_force(config, None, policy.digest, {}) is None
