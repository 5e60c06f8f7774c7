import json
import stat

import numpy as np
import pytest
import tifffile
from PIL import Image

from impasto.errors import ImageError, OutputError, UsageError
from impasto.image import PictureInfo, read_picture, read_recipe, write_picture
from impasto.image import exif as exif_module
from impasto.image.icc import srgb_profile

RECIPE = json.dumps({"style": "Große Welle, 神奈川 🌊", "seed": 7, "quote": 'a "b" \\n'}, ensure_ascii=False)
CARRIERS = ["a.png", "a.jpg", "a.webp", "a.tif"]
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>Zoë</rdf:RDF></x:xmpmeta>'.encode()


def _noise(shape=(6, 9, 3), seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def _info(**changes):
    tags = Image.Exif()
    tags[0x013B] = "Ada Lovelace"
    tags[0x8298] = "(c) somebody"
    tags.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    tags.get_ifd(0x8769)[0x927C] = b"maker note" * 3
    facts = {
        "format": "JPEG",
        "depth": 8,
        "mode": "RGB",
        "icc": b"any",
        "exif": tags.tobytes()[6:],
        "xmp": XMP,
        "dpi": (300.0, 150.0),
        "source": "x.jpg",
    }
    return PictureInfo(**(facts | changes))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff", "a.bmp", "A.PNG"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 8, 3), (8, 1, 3), (13, 7, 3)])
def test_8_bit_is_exact(tmp_path, name, shape):
    pixels = _noise(shape)
    write_picture(tmp_path / name, pixels)
    assert (read_picture(tmp_path / name).pixels == np.rint(pixels * 255) / np.float32(255)).all()
    with Image.open(tmp_path / name) as image:
        assert (np.asarray(image) == np.rint(pixels * 255)).all()
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.avif"])
def test_lossy_is_close(tmp_path, name):
    pixels = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32)[:, None, None], (64, 64, 3))
    write_picture(tmp_path / name, pixels)
    assert np.abs(read_picture(tmp_path / name).pixels - pixels).mean() < 0.02


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_depth_and_alpha(tmp_path, name, with_alpha, depth):
    pixels, alpha = _noise((150, 7, 3)), _noise((150, 7), 1) if with_alpha else None
    write_picture(tmp_path / name, pixels, alpha=alpha, depth=depth, like=_info(), recipe=RECIPE)
    picture = read_picture(tmp_path / name)
    full = np.float32(2**depth - 1)
    assert picture.info.depth == depth
    assert (picture.pixels == np.rint(pixels * full) / full).all()
    if with_alpha:
        assert (picture.alpha == np.rint(alpha * full) / full).all()
    if name == "a.tif":
        assert tifffile.imread(tmp_path / name).dtype.itemsize * 8 == depth
    assert picture.info.icc == srgb_profile()
    assert picture.info.xmp == XMP
    assert picture.info.dpi == pytest.approx((300, 150), abs=0.1)
    assert read_recipe(tmp_path / name) == RECIPE


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp"])
def test_alpha_goes_on_white(tmp_path, name):
    write_picture(tmp_path / name, np.zeros((8, 8, 3), np.float32), alpha=np.full((8, 8), 0.25, np.float32))
    picture = read_picture(tmp_path / name)
    assert picture.alpha is None and picture.pixels == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("name", CARRIERS)
def test_metadata_and_recipe_round_trip(tmp_path, name):
    path = tmp_path / name
    write_picture(path, _noise((16, 16, 3)), like=_info(), recipe=RECIPE)
    assert read_recipe(path) == RECIPE
    info = read_picture(path).info
    assert info.xmp == XMP and info.icc == srgb_profile()
    with Image.open(path) as image:
        tags = image.getexif()
        assert tags[0x013B] == "Ada Lovelace" and tags[0x8298] == "(c) somebody"
        assert tags.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
        assert tags.get_ifd(0x8769)[0x927C] == b"maker note" * 3
    # A rendition of the rendition carries its own recipe or none, never the old one.
    write_picture(path, _noise((16, 16, 3)), like=info)
    assert read_recipe(path) is None and b"impasto recipe" not in path.read_bytes()
    write_picture(path, _noise((16, 16, 3)), like=info, recipe="{}")
    assert read_recipe(path) == "{}" and path.read_bytes().count(b"impasto recipe") == 1
    assert b"Ada Lovelace" in read_picture(path).info.exif


@pytest.mark.parametrize("name", CARRIERS)
def test_recipe_without_any_source(tmp_path, name):
    write_picture(tmp_path / name, _noise(), recipe=RECIPE)
    assert read_recipe(tmp_path / name) == RECIPE
    info = read_picture(tmp_path / name).info
    assert info.icc is None and info.xmp is None


@pytest.mark.parametrize("name", [*CARRIERS, "a.bmp"])
def test_strip(tmp_path, name):
    write_picture(tmp_path / name, _noise(), like=_info(), recipe=RECIPE, strip=True)
    info = read_picture(tmp_path / name).info
    assert info.icc is None and info.xmp is None and info.exif is None
    assert read_recipe(tmp_path / name) is None
    assert b"Ada" not in (tmp_path / name).read_bytes()


def test_foreign_history_is_kept():
    block = exif_module.rendition_block(None, "old")
    entry = exif_module.history_entry(None, b"scanned 1999\x00")
    assert entry.value == b"scanned 1999\x00"
    assert exif_module.history_entry("new", b"scanned 1999\nimpasto recipe: old\x00").value.startswith(
        b"scanned 1999\nimp"
    )
    assert exif_module.rendition_block(block, None) is None
    assert len(exif_module.rendition_block(block, "new")) == len(block)


def test_thumbnail_goes(tmp_path):
    thumb = b"\xff\xd8THUMBNAIL\xff\xd9"
    le = "little"
    ifd0 = (1).to_bytes(2, le) + bytes.fromhex("12010300010000000100 0000") + (26).to_bytes(4, le)
    rows = bytes.fromhex("0102040001000000") + (56).to_bytes(4, le) + bytes.fromhex("0202040001000000")
    ifd1 = (2).to_bytes(2, le) + rows + len(thumb).to_bytes(4, le) + bytes(4)
    block = b"II*\x00" + (8).to_bytes(4, le) + ifd0 + ifd1 + thumb
    write_picture(tmp_path / "a.jpg", _noise(), like=_info(exif=block))
    assert b"THUMBNAIL" not in (tmp_path / "a.jpg").read_bytes()
    write_picture(tmp_path / "a.jpg", _noise(), like=_info(exif=block), recipe=RECIPE)
    assert read_recipe(tmp_path / "a.jpg") == RECIPE


def test_long_metadata_in_jpeg(tmp_path):
    tags = Image.Exif()
    tags[0x013B] = "x" * 70_000
    long = _info(exif=tags.tobytes()[6:], xmp=b"y" * 70_000)
    write_picture(tmp_path / "a.jpg", _noise(), like=long, recipe=RECIPE)
    assert read_recipe(tmp_path / "a.jpg") == RECIPE and read_picture(tmp_path / "a.jpg").info.xmp is None
    with pytest.raises(OutputError, match="too long for JPEG"):
        write_picture(tmp_path / "b.jpg", _noise(), recipe="z" * 70_000)
    for name in ("a.png", "a.webp", "a.tif"):
        write_picture(tmp_path / name, _noise(), like=long, recipe="z" * 70_000)
        assert read_recipe(tmp_path / name) == "z" * 70_000


def test_files_are_the_same_twice(tmp_path):
    for name in CARRIERS:
        write_picture(tmp_path / name, _noise(), like=_info(), recipe=RECIPE)
        first = (tmp_path / name).read_bytes()
        write_picture(tmp_path / name, _noise(), like=_info(), recipe=RECIPE)
        assert (tmp_path / name).read_bytes() == first


def test_no_recipe(tmp_path):
    Image.new("RGB", (3, 3)).save(tmp_path / "a.gif")
    assert read_recipe(tmp_path / "a.gif") is None
    (tmp_path / "b.png").write_bytes(b"nothing much here")
    for name in ("b.png", "c.png"):
        with pytest.raises(ImageError):
            read_recipe(tmp_path / name)


# --- refusals


def test_bad_options(tmp_path):
    pixels = _noise()
    for options in ({"depth": 12}, {"quality": 0}, {"quality": 101}):
        with pytest.raises(UsageError):
            write_picture(tmp_path / "a.png", pixels, **options)
    for name in ("a.jpg", "a.webp", "a.bmp"):
        with pytest.raises(UsageError, match="8 bits"):
            write_picture(tmp_path / name, pixels, depth=16)
    for name in ("a.xyz", "a", "a.pdf", "a.psd"):
        with pytest.raises(OutputError, match=r"\.jpg, \.png"):
            write_picture(tmp_path / name, pixels)
    assert not list(tmp_path.iterdir())


def test_bad_pixels(tmp_path):
    for pixels in (np.full((2, 2, 3), np.nan), np.zeros((2, 2)), np.zeros((0, 2, 3)), np.zeros((2, 2, 3), np.int32)):
        with pytest.raises(ImageError):
            write_picture(tmp_path / "a.png", pixels)
    with pytest.raises(ImageError, match="same size"):
        write_picture(tmp_path / "a.png", _noise((2, 2, 3)), alpha=_noise((3, 2)))
    with pytest.raises(OutputError, match="16383"):
        write_picture(tmp_path / "a.webp", np.zeros((1, 16384, 3), np.float32))


def test_out_of_range_is_clipped(tmp_path):
    write_picture(tmp_path / "a.png", np.array([[[-1, 0.5, 2]]], np.float32))
    assert read_picture(tmp_path / "a.png").pixels.tolist() == [[[0, pytest.approx(128 / 255), 1]]]


def test_bad_places(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    for name, message in [("folder.png", "is a folder"), ("no/a.png", "create it first"), ("file/a.png", "no folder")]:
        with pytest.raises(OutputError, match=message) as caught:
            write_picture(tmp_path / name, _noise())
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("name", CARRIERS)
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name, error):
    path = tmp_path / name
    path.write_bytes(b"old")

    def fail(*_args, **_options):
        raise error

    for target in ("encode_tiff", "_save_with_pillow"):
        monkeypatch.setattr(f"impasto.image.writing.{target}", fail)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        write_picture(path, _noise())
    if isinstance(error, OSError):
        assert "No space left" in str(caught.value)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_permissions_and_links(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    write_picture(tmp_path / "link.png", _noise())
    assert (tmp_path / "link.png").is_symlink()
    assert stat.S_IMODE((tmp_path / "real.png").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_eight_bit_pixels_are_written_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_picture(tmp_path / "a.png", pixels)
    picture = read_picture(tmp_path / "a.png")
    assert picture.stored.dtype == np.uint8
    assert np.array_equal(picture.stored, pixels)
    write_picture(tmp_path / "b.png", pixels, depth=16)
    assert np.array_equal(np.rint(read_picture(tmp_path / "b.png").pixels * 255), pixels)
