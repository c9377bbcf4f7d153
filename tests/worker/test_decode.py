"""The decoder: honest pictures become small plain JPEGs, hostile ones a code, within bounds."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zlib

import pytest
from PIL import Image

from scopegate.leads.photos import MAX_PHOTO_BYTES, MAX_SIDE_PX, PhotoCode, Unseen
from scopegate.worker.decode import CPU_S, MEMORY_BYTES, Unusable, reencode
from tests.growth import TIMES, growth
from tests.worker.pictures import (
    bmp_claiming,
    gif,
    jpeg_claiming,
    picture,
    png,
    png_chunk,
    turned_jpeg,
    webp_claiming,
    zeros,
)


def _read(jpeg: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    return image


def _reread(data: bytes) -> Image.Image:
    (part,), _ = reencode(data)
    image = _read(part.jpeg)
    assert image.size == (part.width_px, part.height_px)
    return image


def _jpeg(data: bytes) -> bytes:
    (part,), _ = reencode(data)
    return part.jpeg


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
        *(("GIF", mode) for mode in ("P", "L")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        *(("HEIF", mode) for mode in ("RGB", "RGBA", "L")),
        *(("AVIF", mode) for mode in ("RGB", "RGBA")),
        *(("TIFF", mode) for mode in ("RGB", "RGBA", "L", "CMYK", "I;16", "I", "F", "1")),
        *(("BMP", mode) for mode in ("RGB", "L", "1")),
    ],
)
def test_every_kind_of_picture_becomes_a_plain_jpeg(kind: str, mode: str) -> None:
    image = _reread(picture(kind, (300, 200), mode))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (300, 200))


@pytest.mark.parametrize("size", [(4032, 3024), (3024, 4032), (1569, 1000)])
def test_large_pictures_are_scaled_down(size: tuple[int, int]) -> None:
    width, height = _reread(picture("JPEG", size)).size
    assert max(width, height) == MAX_SIDE_PX
    assert abs(width / height - size[0] / size[1]) < 0.02 * size[0] / size[1]


def test_small_pictures_are_not_scaled_up() -> None:
    assert _reread(picture("PNG", (3, 2))).size == (3, 2)


def test_a_turned_photo_is_upright_and_its_metadata_gone() -> None:
    source = turned_jpeg()
    assert b"SecretCamera" in source
    jpeg = _jpeg(source)
    assert b"SecretCamera" not in jpeg
    image = _read(jpeg)
    assert image.size == (200, 400)
    assert not image.getexif()


def test_text_chunks_and_what_follows_the_picture_are_gone() -> None:
    noted = png(1, 1, zeros(4), png_chunk(b"tEXt", b"Comment\x00PLANTED")) + b"PLANTED<script>"
    assert b"PLANTED" not in _jpeg(noted)
    assert b"PLANTED" not in _jpeg(picture("JPEG", comment=b"PLANTED") + b"PK\x03\x04PLANTED")


def test_megabytes_beside_the_pixels_cost_no_png() -> None:
    """Lightroom writes XMP of such a size, printers' profiles are as large; both stand packed as well."""
    xmp = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bytes(2 << 20))
    packed = png_chunk(b"zTXt", b"a\0\0" + zeros(100 << 20))
    profile = png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(range(256)) * 6000, 0))
    assert _reread(png(1, 1, zeros(4), xmp, packed, profile)).size == (1, 1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_greys_of_sixteen_bits_are_greys(kind: str) -> None:
    """Pillow alone makes all of them white."""
    deep = Image.linear_gradient("L").convert("I").point(lambda grey: grey * 257 + 0).convert("I;16")
    out = io.BytesIO()
    deep.save(out, kind)
    seen = _reread(out.getvalue()).convert("L")
    for row in (0, 64, 128, 255):
        shade = seen.getpixel((9, row))
        assert isinstance(shade, int | float)
        assert abs(shade - row) < 4


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_a_turned_photo_of_a_phone_is_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert _reread(picture(kind, (400, 200), exif=exif.tobytes())).size == (200, 400)


def test_a_heif_file_may_call_itself_an_image_first() -> None:
    data = picture("HEIF")
    assert data[8:12] == b"heic"
    assert _reread(data.replace(b"ftypheic", b"ftypmif1", 1)).size == (640, 480)


# ── what is not seen ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("share", [0.98, 0.9])
def test_a_photo_cut_in_its_last_tenth_is_used_and_said_to_be_cut(share: float) -> None:
    whole = turned_jpeg((1200, 800))
    (part,), unseen = reencode(whole[: int(len(whole) * share)])
    assert unseen == (Unseen.LOWER_END,)
    assert part.height_px == 1200
    assert 600 < part.width_px < 800
    assert min(_read(part.jpeg).convert("L").crop((0, 1, 1, 1199)).tobytes()) > 20, "nothing that was not there"


def test_a_progressive_photo_that_is_cut_has_less_detail() -> None:
    whole = picture("JPEG", (1200, 800), progressive=True)
    (part,), unseen = reencode(whole[: int(len(whole) * 0.9)])
    assert ((part.width_px, part.height_px), unseen) == ((1200, 800), (Unseen.DETAIL,))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_further_frames_are_said_not_to_be_seen(kind: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "green")]
    out = io.BytesIO()
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    (part,), unseen = reencode(out.getvalue())
    assert unseen == (Unseen.FRAMES,)
    red = _read(part.jpeg).getpixel((32, 32))
    assert isinstance(red, tuple)
    assert red[0] > 200 > 60 > red[2]


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        ((12000, 2000), [(1568, 784)] * 3),
        ((2000, 12000), [(784, 1568)] * 3),
        ((9000, 500), [(1568, 348)] * 4),
        ((4000, 2000), [(1568, 784)]),
        ((1500, 300), [(1500, 300)]),
    ],
)
def test_a_panorama_is_seen_in_parts(size: tuple[int, int], parts: list[tuple[int, int]]) -> None:
    found, _ = reencode(picture("JPEG", size))
    assert [(part.width_px, part.height_px) for part in found] == parts


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
    "words that begin like a bmp": (b"BM" + b" " * 80, PhotoCode.NOT_A_PICTURE),
    "video": (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", PhotoCode.NOT_A_PICTURE),
    "big tiff": (b"II+\x00" + bytes(60), PhotoCode.NOT_A_PICTURE),
    "heif head only": (picture("HEIF")[:200], PhotoCode.DAMAGED),
    "avif cut": (picture("AVIF")[:-200], PhotoCode.DAMAGED),
    "tiff cut": (picture("TIFF")[:-1000], PhotoCode.DAMAGED),
    "bmp cut": (picture("BMP")[:-1000], PhotoCode.DAMAGED),
    "bmp 65535 x 65535": (bmp_claiming(65535, 65535), PhotoCode.BOMB),
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
    "jpeg 15000 x 15000": (jpeg_claiming(15000, 15000), PhotoCode.BOMB),
    "progressive jpeg in its first pass": (picture("JPEG", progressive=True)[:900], PhotoCode.DAMAGED),
    "jpeg 65535 x 65535": (jpeg_claiming(65535, 65535), PhotoCode.BOMB),
    "gif 65535 x 65535": (gif(65535, 65535, 1), PhotoCode.BOMB),
    "webp 16384 x 16384": (webp_claiming(16384, 16384), PhotoCode.BOMB),
    "webp lying": (webp_claiming(5000, 5000), PhotoCode.DAMAGED),
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


def test_the_process_has_given_up_memory_time_and_files() -> None:
    script = (
        "from scopegate.worker.decode import confine; confine(); import resource as r, json;"
        "print(json.dumps([r.getrlimit(n) for n in (r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_FSIZE, r.RLIMIT_CORE)]))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [[MEMORY_BYTES] * 2, [CPU_S] * 2, [0, 0], [0, 0]]
