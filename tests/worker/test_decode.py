"""The decoder: honest pictures become small plain JPEGs, hostile ones a code, within bounds."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from PIL import Image

from scopegate.leads.photos import MAX_PHOTO_BYTES, MAX_PIXELS, MAX_SIDE_PX, PhotoCode
from scopegate.worker.decode import CPU_S, MEMORY_BYTES, Unusable, reencode
from tests.growth import TIMES, growth
from tests.worker.pictures import gif, jpeg_claiming, picture, png, png_chunk, turned_jpeg, webp_claiming, zeros


def _read(jpeg: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    return image


def _reread(data: bytes) -> Image.Image:
    jpeg, size = reencode(data)
    image = _read(jpeg)
    assert image.size == size
    return image


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
        *(("GIF", mode) for mode in ("P", "L")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    ],
)
def test_every_kind_of_picture_becomes_a_plain_jpeg(kind: str, mode: str) -> None:
    image = _reread(picture(kind, (300, 200), mode))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (300, 200))


@pytest.mark.parametrize("size", [(4032, 3024), (3024, 4032), (1569, 10), (5000, 1)])
def test_large_pictures_are_scaled_down(size: tuple[int, int]) -> None:
    width, height = _reread(picture("JPEG", size)).size
    assert max(width, height) == MAX_SIDE_PX
    assert abs(width / height - size[0] / size[1]) < 0.02 * size[0] / size[1] or 1 in (width, height)


def test_small_pictures_are_not_scaled_up() -> None:
    assert _reread(picture("PNG", (3, 2))).size == (3, 2)


def test_a_turned_photo_is_upright_and_its_metadata_gone() -> None:
    source = turned_jpeg()
    assert b"SecretCamera" in source
    jpeg, _ = reencode(source)
    assert b"SecretCamera" not in jpeg
    image = _read(jpeg)
    assert image.size == (200, 400)
    assert not image.getexif()


def test_text_chunks_and_what_follows_the_picture_are_gone() -> None:
    noted = png(1, 1, zeros(4), png_chunk(b"tEXt", b"Comment\x00PLANTED")) + b"PLANTED<script>"
    assert b"PLANTED" not in reencode(noted)[0]
    assert b"PLANTED" not in reencode(picture("JPEG", comment=b"PLANTED") + b"PK\x03\x04PLANTED")[0]


def test_transparency_becomes_white() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(out, "PNG")
    assert _reread(out.getvalue()).getpixel((4, 4)) == (255, 255, 255)


def test_only_the_first_frame_of_an_animation_is_read() -> None:
    """The second one could not be read: it ends where it begins."""
    assert _reread(gif(8, 8, 1)[:-1] + b"\x2c").size == (8, 8)
    assert _reread(gif(8, 8, 10_000)).size == (8, 8)


HOSTILE = {
    "empty": (b"", PhotoCode.NOT_A_PICTURE),
    "text": (b"just words", PhotoCode.NOT_A_PICTURE),
    "svg": (
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        PhotoCode.NOT_A_PICTURE,
    ),
    "html": (b"<!doctype html><script>1</script>", PhotoCode.NOT_A_PICTURE),
    "pdf": (b"%PDF-1.7\n", PhotoCode.NOT_A_PICTURE),
    "bmp": (picture("BMP"), PhotoCode.NOT_A_PICTURE),
    "tiff": (picture("TIFF"), PhotoCode.NOT_A_PICTURE),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", PhotoCode.NOT_A_PICTURE),
    "space before": (b" " + picture(), PhotoCode.NOT_A_PICTURE),
    "too many bytes": (picture() + bytes(MAX_PHOTO_BYTES), PhotoCode.TOO_LARGE),
    "jpeg head only": (b"\xff\xd8\xff", PhotoCode.DAMAGED),
    "jpeg cut": (picture()[:2000], PhotoCode.DAMAGED),
    "png cut": (picture("PNG")[:-40], PhotoCode.DAMAGED),
    "webp cut": (picture("WEBP")[:-100], PhotoCode.DAMAGED),
    "gif cut": (picture("GIF", mode="P")[:100], PhotoCode.DAMAGED),
    "png then html": (b"\x89PNG\r\n\x1a\n<html><script>1</script>", PhotoCode.DAMAGED),
    "gif then script": (b"GIF89a/*\x00\x00*/=1;alert(1)", PhotoCode.DAMAGED),
    "jpeg head over a png": (b"\xff\xd8\xff\xe0" + picture("PNG"), PhotoCode.DAMAGED),
    "riff of something else": (b"RIFF\x10\x00\x00\x00WEBPAVI LIST", PhotoCode.DAMAGED),
    "png without pixels": (png(10, 10, b""), PhotoCode.DAMAGED),
    "png of no size": (png(0, 0, zeros(10)), PhotoCode.DAMAGED),
    "png bad checksum": (picture("PNG").replace(b"IHDR\x00", b"IHDR\x01", 1), PhotoCode.DAMAGED),
    "png 50000 x 50000": (png(50_000, 50_000, zeros(1000)), PhotoCode.BOMB),
    "png 2^31 wide": (png(2**31 - 1, 1, zeros(1000)), PhotoCode.BOMB),
    "png just above": (png(51_000_001, 1, zeros(1000)), PhotoCode.BOMB),
    "jpeg 65535 x 65535": (jpeg_claiming(65535, 65535), PhotoCode.BOMB),
    "gif 65535 x 65535": (gif(65535, 65535, 1), PhotoCode.BOMB),
    "webp 16384 x 16384": (webp_claiming(16384, 16384), PhotoCode.BOMB),
    "webp lying": (webp_claiming(5000, 5000), PhotoCode.DAMAGED),
    "text bomb": (png(1, 1, zeros(4), png_chunk(b"zTXt", b"a\x00\x00" + zeros(100 << 20))), PhotoCode.DAMAGED),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_its_code(name: str) -> None:
    data, code = HOSTILE[name]
    with pytest.raises(Unusable) as unusable:
        reencode(data)
    assert unusable.value.args[0] is code


LYING_PNG = png(16, 16, zeros(200 << 20))


def test_more_pixels_than_the_header_says_are_not_unpacked() -> None:
    """Eight times as many of them take as long."""
    assert _reread(LYING_PNG).size == (16, 16)
    assert growth(lambda mib: png(16, 16, zeros(mib << 20)), _reread, 200) < TIMES / 2


def _child(data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-I", "-m", "scopegate.worker.decode"],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
        env={},
    )


def test_the_process_answers_with_a_line_and_a_jpeg() -> None:
    head, _, jpeg = _child(picture("PNG")).stdout.partition(b"\n")
    assert json.loads(head) == {"size": [640, 480]}
    assert _read(jpeg).size == (640, 480)


def test_the_process_answers_with_a_code() -> None:
    assert json.loads(_child(b"words").stdout) == {"error": "not_a_picture"}


def test_the_largest_picture_allowed_fits_into_the_bounds() -> None:
    side = int(MAX_PIXELS**0.5)
    done = _child(png(side, side, zeros(side * (side * 4 + 1)), colour=6))
    head, _, jpeg = done.stdout.partition(b"\n")
    assert json.loads(head) == {"size": [MAX_SIDE_PX, MAX_SIDE_PX]}
    assert _read(jpeg).size == (MAX_SIDE_PX, MAX_SIDE_PX)


def test_the_process_has_given_up_memory_time_and_files() -> None:
    script = (
        "from scopegate.worker.decode import confine; confine(); import resource as r, json;"
        "print(json.dumps([r.getrlimit(n) for n in (r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_FSIZE, r.RLIMIT_CORE)]))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [[MEMORY_BYTES] * 2, [CPU_S] * 2, [0, 0], [0, 0]]
