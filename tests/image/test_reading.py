import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from impasto.errors import FieldError, ImageError, ImageLimitError
from impasto.image import icc, luminance, read_mask, read_picture
from impasto.image.exif import orientation


def _noise(shape, seed=0, kind=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, shape, dtype=kind)


def _bytes(image, file_format, **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def _levels(array):
    return np.rint(array * 255).astype(int)


# --- formats and modes


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "TGA"])
def test_lossless_formats(file_format):
    pixels = _noise((5, 7, 3)) // 128 * 255  # eight colours, so that GIF holds them
    options = {"lossless": True} if file_format == "WEBP" else {}
    picture = read_picture(_bytes(Image.fromarray(pixels), file_format, **options))
    assert picture.pixels.dtype == np.float32 and picture.size == (5, 7)
    assert (_levels(picture.pixels) == pixels).all()
    assert picture.info.format == file_format and picture.info.depth == 8 and picture.info.source == "<bytes>"


def test_jpeg_from_path_and_image(tmp_path):
    path = tmp_path / "ä picture.jpg"
    Image.new("RGB", (9, 4), (200, 100, 50)).save(path, quality=95, dpi=(300, 300))
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        picture = read_picture(source)
        assert picture.size == (4, 9) and picture.info.dpi == (300, 300)
        assert np.abs(_levels(picture.pixels) - [200, 100, 50]).max() <= 3
    assert read_picture(path).info.source == str(path)


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "HSV", "RGBX"])
def test_modes_without_alpha(mode):
    image = Image.fromarray(_noise((6, 5, 3))).convert(mode)
    picture = read_picture(image)
    assert picture.alpha is None
    assert (_levels(picture.pixels) == np.asarray(image.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_modes_with_alpha(mode):
    rgba = Image.fromarray(_noise((6, 5, 4)))
    image = {"PA": lambda: rgba.convert("LA").convert("PA"), "La": lambda: rgba.convert("LA").convert("La")}.get(
        mode, lambda: rgba.convert(mode)
    )()
    wanted = image.convert("RGBA") if mode == "PA" else rgba  # Pillow's conversion to PA loses the opacity
    assert (_levels(read_picture(image).alpha) == np.asarray(wanted)[..., 3]).all()


def test_palette_with_transparency():
    image = Image.new("P", (3, 2))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1, 0, 1, 0, 1])
    picture = read_picture(_bytes(image, "PNG", transparency=1))
    assert (picture.alpha == [[1, 0, 1], [0, 1, 0]]).all()
    assert (picture.pixels[0, 0] == [1, 0, 0]).all()
    assert (read_picture(_bytes(image, "PNG", transparency=b"\xff\x80")).alpha[0, 1] * 255).round() == 128


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (7, 7, 7)), ("1", 0)])
def test_color_key(mode, key):
    image = Image.new(mode, (4, 4), 1 if mode == "1" else "white")
    image.putpixel((2, 1), key)
    alpha = read_picture(_bytes(image, "PNG", transparency=key)).alpha
    assert alpha[1, 2] == 0 and alpha.sum() == 15


def test_cmyk_without_profile():
    picture = read_picture(_bytes(Image.new("CMYK", (3, 3), (0, 255, 255, 0)), "TIFF"))
    assert (_levels(picture.pixels) == [255, 0, 0]).all() and picture.info.mode == "CMYK"


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_grey_16_bit(dtype):
    values = _noise((4, 5), kind=np.uint16)
    picture = read_picture(Image.fromarray(values.astype(dtype)))
    assert picture.info.depth == 16
    assert (np.rint(picture.pixels[..., 1] * 65535) == values).all()


def test_integers_and_floats():
    values = _noise((4, 5), kind=np.uint16).astype(np.int32)
    assert (np.rint(read_picture(Image.fromarray(values)).pixels[..., 0] * 65535) == values).all()
    with pytest.raises(ImageError, match="70000"):
        read_picture(Image.fromarray(values * 0 + 70000))
    assert read_picture(Image.new("F", (2, 2), 0.25)).pixels[0, 0, 0] == 0.25
    with pytest.raises(ImageError, match=r"scale them to \[0, 1\]"):
        read_picture(Image.new("F", (2, 2), 128.0))


# --- 16-bit TIFF


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_16_bit(tmp_path, channels, planar, compression):
    values = _noise((6, 9, channels), kind=np.uint16)
    path = tmp_path / "deep.tif"
    stored = values.transpose(2, 0, 1) if planar == "separate" and channels > 1 else values.squeeze()
    options = {"photometric": "rgb", "planarconfig": planar} if channels > 1 else {"photometric": "minisblack"}
    if channels == 4:
        options["extrasamples"] = ["unassalpha"]
    tifffile.imwrite(path, stored, compression=compression, **options)
    picture = read_picture(path)
    assert picture.info.depth == 16 and picture.info.format == "TIFF"
    assert (np.rint(picture.pixels * 65535) == values[..., :3]).all()
    if channels == 4:
        assert (np.rint(picture.alpha * 65535) == values[..., 3]).all()


def test_tiff_white_is_zero_associated_alpha_and_float(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.full((3, 3), 65535, np.uint16), photometric="miniswhite")
    assert (read_picture(path).pixels == 0).all()
    tifffile.imwrite(path, np.full((3, 3, 4), 32768, np.uint16), photometric="rgb", extrasamples=["assocalpha"])
    assert (read_picture(path).pixels == 1).all()
    tifffile.imwrite(path, np.full((3, 3, 3), 0.5, np.float32), photometric="rgb")
    assert (read_picture(path).pixels == 0.5).all()
    tifffile.imwrite(path, np.full((3, 3, 3), 9, np.float32), photometric="rgb")
    with pytest.raises(ImageError, match="scale"):
        read_picture(path)


@pytest.mark.parametrize("turn", range(1, 9))
def test_tiff_orientation(tmp_path, turn):
    values = _noise((3, 5, 3), kind=np.uint16)
    path = tmp_path / "turned.tif"
    tifffile.imwrite(path, values, photometric="rgb", extratags=[(274, 3, 1, turn, True)])
    expected = _turned(values // 256, turn)
    picture = read_picture(path)
    assert (np.floor(picture.pixels * 65535 / 256 + 1e-3) == expected).all()


def test_tiff_pages_give_the_first():
    first, second = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "blue")
    data = _bytes(first, "TIFF", save_all=True, append_images=[second])
    assert (read_picture(data).pixels[0, 0] == [1, 0, 0]).all()


# --- orientation


def _turned(pixels, turn):
    image = Image.fromarray(pixels.astype(np.uint8))
    image.getexif()[0x0112] = turn
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_orientation_with_alpha(file_format, turn):
    rgba = _noise((3, 5, 4)) | 1
    exif = Image.Exif()
    exif[0x0112] = turn
    exif[0x013B] = "Ada"
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    picture = read_picture(_bytes(Image.fromarray(rgba), file_format, exif=exif, **options))
    both = np.dstack([picture.pixels, picture.alpha])
    assert (_levels(both) == _turned(rgba, turn)).all()
    assert b"Ada" in picture.info.exif
    assert orientation(picture.info.exif) in (1, None)


def test_orientation_in_xmp():
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    picture = read_picture(_bytes(Image.new("RGB", (5, 3)), "WEBP", xmp=packet))
    assert picture.size == (5, 3)
    assert b'tiff:Orientation="1"' in picture.info.xmp


@pytest.mark.parametrize("damage", [b"junk", b"II*\x00\xff\xff\xff\xff", b"MM\x00*\x00\x00\x00\x08\x00\x09"])
def test_broken_exif_is_ignored(damage):
    picture = read_picture(_bytes(Image.new("RGB", (5, 3)), "PNG", exif=b"Exif\x00\x00" + damage))
    assert picture.size == (3, 5) and picture.info.exif is None


# --- profiles


def _matrix_profile(gamma=2.2, columns=None):
    """A v2 RGB profile with the primaries' XYZ (Adobe RGB's unless given) and one gamma."""
    columns = columns or [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)]
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\x00" + bytes(79),
        b"cprt": b"text" + bytes(4) + b"x\x00",
    }
    tags[b"wtpt"] = b"XYZ " + bytes(4) + struct.pack(">3i", *[round(v * 65536) for v in (0.9642, 1, 0.82491)])
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True):
        tags[name] = b"XYZ " + bytes(4) + struct.pack(">3i", *[round(v * 65536) for v in column])
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        tags[name] = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    return _profile(tags, b"RGB ")


def _grey_profile(gamma):
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\x00" + bytes(79),
        b"cprt": b"text" + bytes(4) + b"x\x00",
    }
    tags[b"wtpt"] = b"XYZ " + bytes(4) + struct.pack(">3i", *[round(v * 65536) for v in (0.9642, 1, 0.82491)])
    tags[b"kTRC"] = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    return _profile(tags, b"GRAY")


def _profile(tags, space):
    table, body, place = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, place + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", place + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\x00") + struct.pack(">I", len(tags)) + table + body


def test_srgb_profile_changes_nothing_and_is_the_same_every_time():
    pixels = _noise((16, 16, 3))
    picture = read_picture(_bytes(Image.fromarray(pixels), "PNG", icc_profile=icc.srgb_profile()))
    assert (_levels(picture.pixels) == pixels).all()
    assert picture.info.icc == icc.srgb_profile()
    first = icc.srgb_profile()
    icc.srgb_profile.cache_clear()
    assert icc.srgb_profile() == first


def test_wide_profile_8_and_16_bit_agree(tmp_path):
    profile = _matrix_profile()
    pixels = _noise((16, 16, 3)) // 2 + 60  # inside sRGB for the most part
    shallow = read_picture(_bytes(Image.fromarray(pixels), "PNG", icc_profile=profile))
    assert np.abs(_levels(shallow.pixels) - pixels).max() > 5  # it does convert
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, pixels.astype(np.uint16) * 257, photometric="rgb", iccprofile=profile)
    deep = read_picture(path)
    assert deep.info.depth == 16 and deep.info.icc == profile
    assert np.abs(deep.pixels - shallow.pixels).max() < 2.5 / 255


def test_deep_srgb_profile_changes_nothing(tmp_path):
    values = _noise((8, 8, 3), kind=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", iccprofile=icc.srgb_profile())
    assert (np.rint(read_picture(tmp_path / "a.tif").pixels * 65535) == values).all()


@pytest.mark.parametrize("alpha", [False, True])
def test_grey_profile(alpha):
    image = Image.new("LA", (3, 3), (128, 99)) if alpha else Image.new("L", (3, 3), 128)
    picture = read_picture(_bytes(image, "PNG", icc_profile=_grey_profile(1.0)))
    assert np.abs(_levels(picture.pixels) - 188).max() <= 1  # linear 0.5 is sRGB 0.735
    deep = read_picture(
        _bytes(Image.fromarray(np.full((3, 3), 32896, np.uint16)), "PNG", icc_profile=_grey_profile(1.0))
    )
    assert np.abs(deep.pixels * 255 - 188).max() < 1


def test_lab_with_and_without_profile():
    srgb = Image.new("RGB", (4, 4), (200, 80, 40))
    lab = ImageCms.profileToProfile(
        srgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for options in ({}, {"icc_profile": profile}):
        picture = read_picture(_bytes(lab, "TIFF", **options))
        assert np.abs(_levels(picture.pixels) - [200, 80, 40]).max() <= 3


@pytest.mark.parametrize("profile", [b"not a profile", _grey_profile(1.0), _matrix_profile()[:200]])
def test_broken_or_foreign_profile_is_ignored(profile, tmp_path):
    pixels = _noise((4, 4, 3))
    assert (_levels(read_picture(_bytes(Image.fromarray(pixels), "PNG", icc_profile=profile)).pixels) == pixels).all()
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(np.uint16) * 257, photometric="rgb", iccprofile=profile)
    assert (_levels(read_picture(tmp_path / "a.tif").pixels) == pixels).all()


@pytest.mark.parametrize("kind", range(5))
def test_parametric_curves(kind):
    gamma, a, b, c, d = 2.0, 1.0, 0.0, 1.0, 0.0
    values = [gamma, a, b, c, d, 0.0, 0.0][: (1, 3, 4, 5, 7)[kind]]
    if kind == 2:
        values[3] = 0.0
    tag = (
        b"para"
        + bytes(4)
        + struct.pack(">HH", kind, 0)
        + struct.pack(f">{len(values)}i", *[int(v * 65536) for v in values])
    )
    x = np.linspace(0, 1, 11, dtype=np.float32)
    assert icc._curve(tag)(x) == pytest.approx(x**2, abs=1e-6)


# --- refusals


def test_limits_do_not_touch_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = _bytes(Image.new("RGB", (30, 20)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(data).size == (20, 30)  # Pillow's limit is not ours
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(ImageLimitError, match=r"600.*limit of 599"):
        read_picture(data, limit_pixels=599)
    with pytest.raises(ImageLimitError):
        read_picture(np.zeros((30, 20)), limit_pixels=599)


def test_bomb_is_refused_by_its_header():
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 16, 6, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    with pytest.raises(ImageLimitError, match="10,000,000,000"):
        read_picture(data)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_animated(file_format, tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "green", "blue")]
    path = tmp_path / "film"
    frames[0].save(path, file_format, save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(ImageError, match=r"film' is animated \(3 frames\); save the frame"):
        read_picture(path)
    with Image.open(path) as image:
        image.seek(2)
        assert _levels(read_picture(image).pixels)[0, 0, 2] > 240


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated(file_format, part, tmp_path):
    data = _bytes(Image.fromarray(_noise((40, 40, 3))), file_format)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ImageError, match="cut'") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_missing_folder_empty_and_foreign_files(tmp_path):
    with pytest.raises(ImageError, match="there is no file"):
        read_picture(tmp_path / "no.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_picture(tmp_path)
    for name, content, message in [
        ("empty.png", b"", "is empty"),
        ("text.png", b"hello, world " * 9, "not a picture"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "export it as PNG"),
        ("phone.heic", b"\x00\x00\x00\x18ftypheic" + bytes(50), "HEIC"),
        ("page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "export it"),
        ("noise.tif", b"II*\x00" + bytes(60), "tif'"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=message):
            read_picture(tmp_path / name)
    with pytest.raises(ImageError, match="null"):
        read_picture("a\0b")
    with pytest.raises(ImageError, match="int"):
        read_picture(5)


# --- arrays


@pytest.mark.parametrize("shape", [(1, 1), (1, 7, 1), (7, 1, 3), (3, 2, 4), (5, 6)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64, np.float16, bool])
def test_arrays(shape, kind):
    values = np.random.default_rng(0).random(shape)
    scale = {np.uint8: 255, np.uint16: 65535}.get(kind, 1)
    array = (values > 0.5) if kind is bool else (values * scale).astype(kind)
    picture = read_picture(array)
    assert picture.pixels.shape == (*shape[:2], 3) and picture.pixels.dtype == np.float32
    assert (picture.alpha is not None) == (shape[2:] == (4,))
    assert picture.pixels[..., 0].ravel() == pytest.approx(
        array.reshape(*shape[:2], -1)[..., 0].ravel() / scale, abs=1e-6
    )
    assert not np.shares_memory(picture.stored, array)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3),
        np.zeros((2, 2, 2)),
        np.zeros((3, 9, 9)),
        np.zeros((0, 5, 3)),
        np.zeros((2, 2), np.int64),
        np.zeros((2, 2), complex),
        np.full((2, 2), np.nan),
        np.full((2, 2), np.inf),
        np.full((2, 2), 1.01),
        np.full((2, 2), -0.01),
    ],
)
def test_arrays_refused(array):
    with pytest.raises(ImageError):
        read_picture(array)


def test_floats_just_outside_are_clipped():
    assert read_picture(np.array([[-5e-4, 1.0005]])).pixels[..., 0].tolist() == [[0, 1]]


# --- masks


def test_mask_from_luma_and_from_alpha():
    rgb = _noise((4, 5, 3))
    assert read_mask(rgb, (4, 5)) == pytest.approx(luminance(rgb / np.float32(255)), abs=1e-6)
    alpha = _noise((4, 5))
    for color in (0, 255):
        drawn = np.dstack([np.full((4, 5, 3), color, np.uint8), alpha])
        assert read_mask(drawn, None) == pytest.approx(alpha / 255)
    opaque = np.dstack([rgb, np.full((4, 5), 255, np.uint8)])
    assert read_mask(opaque, None) == pytest.approx(read_mask(rgb, None))
    white = np.full((4, 5, 4), 255, np.uint8)
    assert (read_mask(white, None) == 1).all()


def test_mask_is_resized_or_refused():
    mask = np.zeros((10, 20), np.uint8)
    mask[:, 10:] = 255
    resized = read_mask(mask, (50, 100))
    assert resized.shape == (50, 100) and resized[:, :40].max() == 0 and resized[:, 60:].min() == 1
    assert read_mask(np.full((100, 201), 255, np.uint8), (50, 100)).min() == 1
    with pytest.raises(FieldError, match=r"10 x 20 .*30 x 30"):
        read_mask(mask, (30, 30))
