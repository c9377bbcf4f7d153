"""What processes write for others to read; that dead ones are swept is tested with `following/standing`."""

from __future__ import annotations

from pathlib import Path

from scopegate.process.board import Note, living


def test_the_last_text_is_read_while_its_writer_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "said"
    assert list(living(folder)) == []
    with Note(folder) as note:
        assert list(living(folder)) == []
        assert note.write("one")
        assert note.write("two")
        assert list(living(folder)) == [b"two"]
    assert list(folder.iterdir()) == []


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    with Note(tmp_path) as note:
        (next(tmp_path.glob("*.lock"))).with_suffix(".fresh").mkdir()
        assert not note.write("one")
