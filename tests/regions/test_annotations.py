"""Polygons, Labelme and COCO files."""

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from impasto.errors import FieldError, UnknownNameError
from impasto.regions.annotations import coco_mask, decode_rle, labelme_masks, unpack_counts
from impasto.regions.polygons import circle_points, polygon_mask, rectangle_points

SIZE = (40, 60)


# -- polygons ----------------------------------------------------------------------------------------------------------


def shoelace(points):
    x, y = np.asarray(points, float).T
    return 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


corner = st.tuples(st.floats(0, 60), st.floats(0, 40))


@given(corner, corner, corner)
def test_a_triangle_covers_its_area(first, second, third):
    points = [first, second, third]
    assert polygon_mask(points, SIZE).sum() == pytest.approx(shoelace(points), abs=2.5)


def test_a_rectangle_is_exact():
    mask = polygon_mask(rectangle_points(10, 5, 20.5, 8.25), SIZE)
    expected = np.zeros(SIZE, np.float32)
    expected[5:8, 10:20], expected[5:8, 20], expected[8, 10:20], expected[8, 20] = 1, 0.5, 0.25, 0.125
    np.testing.assert_allclose(mask, expected, atol=1e-6)


def test_what_lies_outside_is_cut_off():
    np.testing.assert_allclose(polygon_mask(rectangle_points(-100, -7, 300, 90), SIZE), 1, atol=1e-6)
    assert polygon_mask(rectangle_points(-10, 0, -5, 40), SIZE).max() == 0
    assert polygon_mask(rectangle_points(0, 50, 60, 70), SIZE).max() == 0


def test_the_even_odd_rule_leaves_a_hole_where_a_line_crosses_itself():
    star = [(30 + 18 * np.sin(4 * np.pi * k / 5), 20 - 18 * np.cos(4 * np.pi * k / 5)) for k in range(5)]
    mask = polygon_mask(star, SIZE)
    assert mask[20, 30] == 0 and mask[6, 30] > 0.9


def test_a_circle_is_round():
    mask = polygon_mask(circle_points(30, 20, 12), SIZE)
    assert mask.sum() == pytest.approx(np.pi * 144, rel=0.002)
    np.testing.assert_allclose(mask, mask[::-1], atol=0.02)


# -- run lengths -------------------------------------------------------------------------------------------------------


def pack(counts):
    """COCO's packing, written from its description, to check the unpacking against."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            group, value = value & 0x1F, value >> 5
            done = (value == 0 and not group & 0x10) or (value == -1 and group & 0x10)
            text += chr((group if done else group | 0x20) + 48)
            if done:
                break
    return text


def runs_of(mask):
    flat = np.concatenate([[False], mask.T.ravel()])
    places = np.concatenate([[0], np.flatnonzero(np.diff(flat)), [mask.size]])
    return np.diff(places).tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 50), st.floats(0.01, 0.99))
def test_run_lengths_packed_and_plain_give_the_mask_back(seed, height, width, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    counts = runs_of(mask)
    assert unpack_counts(pack(counts)) == counts
    for encoded in (counts, pack(counts), pack(counts).encode()):
        np.testing.assert_array_equal(decode_rle({"size": [height, width], "counts": encoded}), mask)


def test_a_string_worked_out_by_hand():
    # 6 zeros, 1 one, 40 zeros, 4 ones, ...: 6, 1, then 40 (8 + 32 -> 'X1'), then 4 - 1 = 3, then 39 - 40 = -1 ('O').
    assert unpack_counts("61X13O") == [6, 1, 40, 4, 39]


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        ({"size": [4, 4], "counts": [3, 4]}, "do not make a mask of 4 x 4"),
        ({"size": [4, 4], "counts": [20, -4]}, "do not make a mask"),
        ({"size": [4, 4], "counts": "0\x7f"}, "no part of packed run lengths"),
        ({"size": [4, 4], "counts": "X"}, "end in the middle"),
        ({"counts": [16]}, "hold no mask"),
        ({"size": [4], "counts": [16]}, "hold no mask"),
    ],
)
def test_damaged_run_lengths(encoded, words):
    with pytest.raises(FieldError, match=words):
        decode_rle(encoded)


# -- Labelme -----------------------------------------------------------------------------------------------------------


def labelme(tmp_path, *shapes, height=40, width=60):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"shapes": list(shapes), "imageHeight": height, "imageWidth": width}))
    return path


def shape(label, kind, *points, **more):
    return {"label": label, "shape_type": kind, "points": points, **more}


def test_labelme_shapes(tmp_path):
    stream = io.BytesIO()
    bitmap = np.zeros((5, 7), bool)
    bitmap[1:4, 2:5] = True
    Image.fromarray(bitmap).save(stream, "PNG")
    encoded = base64.b64encode(stream.getvalue()).decode()
    path = labelme(
        tmp_path,
        shape("sky", "polygon", [0, 0], [60, 0], [60, 10], [0, 10]),
        shape("sky", "rectangle", [50, 30], [55, 35]),
        shape("sun", "circle", [30, 20], [34, 23]),
        shape("tree", "mask", [10, 20], [16, 24], mask=encoded),
    )
    masks = labelme_masks(path, SIZE)
    assert list(masks) == ["sky", "sun", "tree"]
    assert masks["sky"][:10].min() == 1 and masks["sky"][10:30].max() == 0 and masks["sky"][30:35, 50:55].min() == 1
    assert masks["sun"].sum() == pytest.approx(25 * np.pi, rel=0.01)
    expected = np.zeros(SIZE)
    expected[21:24, 12:15] = 1
    np.testing.assert_array_equal(masks["tree"], expected)
    doubled = labelme_masks(path, (80, 120))
    assert doubled["sky"][:20].min() == 1 and doubled["sky"][20:60].max() == 0
    assert doubled["sun"].sum() == pytest.approx(100 * np.pi, rel=0.01)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([], "holds no shape"),
        ([shape("sea", "polygon", [0, 0], [9, 0])], r"shape 1 \('sea'\) of .* has 2 corners"),
        ([shape("sea", "polygon", [0, 0], [9, 0], [5, 0])], r"\('sea'\) of .* has no area"),
        ([shape("sea", "polygon", [70, 0], [90, 0], [80, 9])], r"\('sea'\) of .* lies outside"),
        ([shape("sea", "polygon", [-7, -9], [-9, -1], [-1, -4])], r"\('sea'\) of .* lies outside"),
        ([shape("sea", "line", [0, 0], [9, 9])], r"\('sea'\) of .* is a line, which has no area"),
        ([shape("sea", "circle", [5, 5], [5, 5])], r"\('sea'\) of .* has no area"),
        ([shape("sea", "circle", [5, 5])], r"\('sea'\) of .* cannot be understood"),
        ([shape("sea", "mask", [0, 0], [3, 3], mask="!")], r"\('sea'\) of .* holds no readable mask"),
        ([{"label": "sea"}], r"\('sea'\) of .* cannot be understood"),
        (["sea"], "cannot be understood"),
        ([shape("sea", "polygon", [0, 0], ["x", 0], [5, 5])], r"\('sea'\) of .* cannot be understood"),
        ([shape("sea", "polygon", [0, 0], [float("nan"), 0], [5, 5])], "no numbers"),
    ],
)
def test_labelme_shapes_that_are_no_region(tmp_path, shapes, words):
    with pytest.raises(FieldError, match=words):
        labelme_masks(labelme(tmp_path, *shapes), SIZE)


def test_files_that_are_not_labelme(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[]")
    (tmp_path / "c.json").write_text("{}")
    for name, words in (("a", "no Labelme file"), ("b", "holds a list"), ("c", "no list of 'shapes'"), ("d", "read")):
        with pytest.raises(FieldError, match=words):
            labelme_masks(tmp_path / f"{name}.json", SIZE)
    path = labelme(tmp_path, shape("sea", "rectangle", [0, 0], [9, 9]), height=60, width=60)
    with pytest.raises(FieldError, match="the shapes differ"):
        labelme_masks(path, SIZE)


# -- COCO --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def coco(tmp_path):
    left = np.zeros(SIZE, bool)
    left[:, :20] = True
    document = {
        "images": [
            {"id": 1, "file_name": "train/photo.jpg", "height": 40, "width": 60},
            {"id": 2, "file_name": "other.jpg", "height": 80, "width": 80},
        ],
        "categories": [{"id": 7, "name": "boat"}, {"id": 8, "name": "tree"}],
        "annotations": [
            {"id": 100, "image_id": 1, "category_id": 7, "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]},
            {"id": 101, "image_id": 1, "category_id": 7, "segmentation": [[30, 0, 40, 0, 40, 5, 30, 5]]},
            {
                "id": 102,
                "image_id": 1,
                "category_id": 8,
                "iscrowd": 1,
                "segmentation": {"size": [40, 60], "counts": runs_of(left)},
            },
            {"id": 103, "image_id": 2, "category_id": 7, "segmentation": [[0, 0, 9, 0, 9, 9]]},
            {"id": 104, "image_id": 1, "category_id": 8, "segmentation": []},
            {"id": 105, "image_id": 1, "category_id": 8, "segmentation": [[70, 0, 90, 0, 90, 5]]},
        ],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(document))
    return path


def test_coco_by_id_and_by_category(coco):
    one = coco_mask(coco, "100", SIZE, "photo.jpg")
    assert one.sum() == pytest.approx(100) and one[:10, :10].min() == 1
    assert coco_mask(coco, "boat", SIZE, "photo.jpg").sum() == pytest.approx(150)
    crowd = coco_mask(coco, "102", SIZE, "photo.jpg")
    assert crowd[:, :20].min() == 1 and crowd[:, 20:].max() == 0
    assert coco_mask(coco, "101", (80, 120), "whatever.png").sum() == pytest.approx(200)


@pytest.mark.parametrize(
    ("key", "picture", "error", "words"),
    [
        ("boot", "photo.jpg", UnknownNameError, "did you mean boat"),
        ("boat", "third.jpg", FieldError, "describes 2 pictures, none called 'third.jpg'"),
        ("103", "photo.jpg", FieldError, "annotation 103 .* the shapes differ"),
        ("104", "photo.jpg", FieldError, "annotation 104 .* has no segmentation"),
        ("105", "photo.jpg", FieldError, "annotation 105 .* lies outside"),
    ],
)
def test_coco_that_is_no_region(coco, key, picture, error, words):
    with pytest.raises(error, match=words):
        coco_mask(coco, key, SIZE, picture)


def test_files_that_are_not_coco(tmp_path):
    (tmp_path / "a.json").write_text('{"annotations": 3}')
    (tmp_path / "b.json").write_text('{"annotations": [3]}')
    for name, words in (("a", "no list of 'annotations'"), ("b", "cannot be understood")):
        with pytest.raises(FieldError, match=words):
            coco_mask(tmp_path / f"{name}.json", "1", SIZE, "photo.jpg")
