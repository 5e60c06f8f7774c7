import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from impasto.errors import ImageError
from impasto.image import read_picture
from impasto.image.png16 import decode_png16, encode_png16

COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def _paeth(a, b, c):
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def _filtered(samples, types):
    """The specification's filters, byte by byte."""
    height, width, channels = samples.shape
    step = 2 * channels
    lines = samples.astype(">u2").tobytes()
    stride = width * step
    out = bytearray()
    for y in range(height):
        out.append(types[y])
        for i in range(stride):
            x = lines[y * stride + i]
            a = lines[y * stride + i - step] if i >= step else 0
            b = lines[(y - 1) * stride + i] if y else 0
            c = lines[(y - 1) * stride + i - step] if y and i >= step else 0
            out.append((x - (0, a, b, (a + b) // 2, _paeth(a, b, c))[types[y]]) % 256)
    return bytes(out)


def _chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(samples, types, extra=b"", interlace=0):
    height, width, channels = samples.shape
    head = struct.pack(">IIBBBBB", width, height, 16, COLOR_TYPES[channels], 0, 0, interlace)
    packed = zlib.compress(_filtered(samples, types))
    half = len(packed) // 2  # two IDAT chunks
    body = _chunk(b"IDAT", packed[:half]) + _chunk(b"IDAT", packed[half:])
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + extra + body + _chunk(b"IEND", b"")


def _samples(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 65536, shape, dtype=np.uint16)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 5), (4, 13)])
def test_random_filters(shape, channels):
    samples = _samples((*shape, channels), seed=channels)
    types = np.random.default_rng(channels).integers(0, 5, shape[0])
    assert (decode_png16(io.BytesIO(_png(samples, types))) == samples).all()


@pytest.mark.parametrize("kind", range(5))
def test_each_filter_alone(kind):
    samples = _samples((6, 8, 3), seed=kind)
    assert (decode_png16(io.BytesIO(_png(samples, [kind] * 6))) == samples).all()


def test_mixed_rows_between_simple_ones():
    samples = _samples((9, 6, 4), seed=3)
    assert (decode_png16(io.BytesIO(_png(samples, [0, 2, 1, 4, 2, 3, 1, 2, 2]))) == samples).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_encode_is_undone(channels):
    samples = _samples((130, 7, channels))  # more than one band of rows
    stream = io.BytesIO()
    encode_png16(stream, samples)
    stream.seek(0)
    assert (decode_png16(stream) == samples).all()
    with Image.open(stream) as image:
        image.load()  # Pillow takes it too, at its own depth
        assert image.size == (7, 130)


def test_picture_keeps_16_bits_and_alpha():
    samples = _samples((5, 6, 4), seed=9)
    picture = read_picture(_png(samples, [4] * 5))
    assert picture.info.depth == 16
    assert (np.rint(picture.pixels * 65535) == samples[..., :3]).all()
    assert (np.rint(picture.alpha * 65535) == samples[..., 3]).all()


def test_color_key_becomes_alpha():
    samples = _samples((3, 4, 3))
    key = _chunk(b"tRNS", samples[1, 2].astype(">u2").tobytes())
    alpha = read_picture(_png(samples, [1] * 3, key)).alpha
    assert alpha[1, 2] == 0 and alpha.sum() == 11


def test_interlaced_is_left_to_pillow():
    assert decode_png16(io.BytesIO(_png(_samples((1, 1, 3)), [0], interlace=1))) is None
    assert read_picture(_png(_samples((1, 1, 3)), [0], interlace=1)).info.depth == 8


@pytest.mark.parametrize("cut", [40, 60, 90])
def test_truncated(cut):
    with pytest.raises(ImageError, match="<bytes>"):
        read_picture(_png(_samples((9, 9, 3)), [4] * 9)[:cut])


def test_wrong_checksum_or_filter():
    good = bytearray(_png(_samples((4, 4, 3)), [0] * 4))
    good[60] ^= 255
    assert decode_png16(io.BytesIO(bytes(good))) is None
    samples = _samples((2, 2, 3))
    lines = bytearray(_filtered(samples, [0, 0]))
    lines[0] = 9
    head = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(bytes(lines)))
    assert decode_png16(io.BytesIO(data + _chunk(b"IEND", b""))) is None
