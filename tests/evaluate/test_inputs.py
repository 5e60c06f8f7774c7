"""Folders, fair pairs, sizes."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.errors import UnknownNameError, UsageError
from impasto.evaluate.inputs import Source, as_content, find_pictures, fitted, paired, reduced
from impasto.evaluate.measures import DEFAULT_METRICS, METRICS, PLAIN_METRICS, check_metrics


def sources(letter, count):
    return [Source(f"{letter}{index}", None) for index in range(count)]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5))
def test_every_pair_comes_once_and_each_picture_equally_often(contents, styles, seed):
    pairs = paired(sources("c", contents), sources("s", styles), None, seed)
    assert len(pairs) == len(set(pairs)) == contents * styles
    for count in range(1, len(pairs) + 1):
        for side in (0, 1):
            uses = Counter(pair[side] for pair in pairs[:count])
            assert max(uses.values()) - min([*uses.values()] + [0] * (len(uses) < (contents, styles)[side])) <= 1
    assert pairs == paired(sources("c", contents), sources("s", styles), None, seed)
    assert paired(sources("c", contents), sources("s", styles), 3, seed) == pairs[:3]


def test_the_seed_chooses_other_pairs():
    chosen = [tuple(paired(sources("c", 6), sources("s", 6), 4, seed)) for seed in range(5)]
    assert len(set(chosen)) == 5


def test_pictures_are_found_by_name(contents, tmp_path):
    (contents / "notes.txt").write_text("no picture")
    (contents / ".hidden.png").write_bytes(b"")
    assert [source.name for source in find_pictures(contents)] == ["cat", "cup"]
    (contents / "cup.jpg").write_bytes(b"another of that name")
    with pytest.raises(UsageError, match="same name"):
        find_pictures(contents)
    with pytest.raises(UsageError, match="not a folder"):
        find_pictures(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no picture found"):
        find_pictures(tmp_path / "empty")


@pytest.mark.parametrize(
    ("size", "expected"), [((60, 90), (43, 64)), ((90, 60), (64, 43)), ((30, 20), (30, 20)), ((1, 500), (1, 64))]
)
def test_pictures_are_reduced_and_never_enlarged(size, expected):
    assert reduced(np.ones((*size, 3), np.float32), 64).shape == (*expected, 3)


@pytest.mark.parametrize("size", [(50, 50), (20, 90), (90, 20), (61, 43)])
def test_the_style_control_fills_the_size_without_distortion(size):
    rings = np.hypot(*np.mgrid[-40:40, -30:30])[..., None].repeat(3, 2).astype(np.float32) / 50
    found = fitted(rings, size)
    assert found.shape == (*size, 3)
    height, width = size
    up, right = found[height // 2 - 8, width // 2, 0], found[height // 2, width // 2 + 8, 0]
    assert up == pytest.approx(right, abs=0.05)  # circles stay circles


def test_results_are_brought_to_the_size_of_their_content():
    content = np.zeros((43, 64, 3), np.float32)
    for size in ((430, 640), (42, 64), (44, 64), (43, 64)):
        assert as_content(np.ones((*size, 3), np.float32), content).shape == content.shape
    with pytest.raises(UsageError, match="not the same shape"):
        as_content(np.ones((64, 64, 3), np.float32), content)


def test_metrics_are_checked_and_ordered():
    assert check_metrics(["gram", "ssim", "gram"]) == ("ssim", "gram")
    assert set(check_metrics(["artfrechet"])) == {"perceptual", "frechet", "artfrechet"}
    assert set(DEFAULT_METRICS) <= set(METRICS) and "ssim" in PLAIN_METRICS
    with pytest.raises(UnknownNameError, match="did you mean moments"):
        check_metrics(["moment"])
    with pytest.raises(UsageError, match="at least one"):
        check_metrics([])
