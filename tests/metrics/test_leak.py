"""The content leak on made-up cases: it rises when a piece of the style is pasted in, and only then."""

import numpy as np
import pytest

from impasto.errors import UsageError
from impasto.image.color import resize
from impasto.metrics.features import look
from impasto.metrics.leak import SCALES, content_leak, leak_layer, leak_target

SIZE = (160, 176)


@pytest.fixture(scope="module")
def scene(natural):
    """A cup as the content, a woman before a shuttle as the style."""
    return natural("coffee.png", SIZE), natural("astronaut.png", (168, 168))


@pytest.fixture(scope="module")
def leak(lens):
    """The report of a result, a content and a style picture."""
    layer = leak_layer(lens)

    def measure(result, content, style, scales=SCALES):
        sizes = [(round(style.shape[0] * scale), round(style.shape[1] * scale)) for scale in scales]
        maps = [look(lens, np.clip(resize(style, size), 0, 1), [layer])[layer] for size in sizes]
        seen = [look(lens, np.asarray(picture, np.float32), [layer])[layer] for picture in (result, content)]
        return content_leak(*seen, leak_target(maps))

    return measure


def blocks(style, size, side, seed=0):
    """A picture laid from small squares of the style at random places: its texture and nothing else."""
    generator, found = np.random.default_rng(seed), np.zeros((*size, 3), np.float32)
    for top in range(0, size[0], side):
        for left in range(0, size[1], side):
            y, x = (int(generator.integers(0, length - side)) for length in style.shape[:2])
            part = found[top : top + side, left : left + side]
            part[:] = style[y : y + part.shape[0], x : x + part.shape[1]]
    return found


def textured(content, style, share=0.5):
    """The content with the style's small texture over it."""
    return (1 - share) * content + share * blocks(style, content.shape[:2], 16)


def pasted(result, style, side, at=(32, 40), taken=(10, 60)):
    """The result with a square of the style, the woman's face by default, at another place."""
    painted = result.copy()
    painted[at[0] : at[0] + side, at[1] : at[1] + side] = style[taken[0] : taken[0] + side, taken[1] : taken[1] + side]
    return painted


def test_the_content_itself_leaks_nothing(leak, scene):
    content, style = scene
    report = leak(content, content, style)
    assert report.score == 0 and report.excess.max() <= 1e-5


def test_the_style_picture_leaks_nearly_everything(leak, scene):
    content, style = scene
    assert leak(resize(style, SIZE), content, style).score > 0.6


@pytest.mark.parametrize(("share", "most"), [(0.3, 0), (0.6, 0.04), (1.0, 0.1)])
def test_texture_without_figures_leaks_little(leak, scene, share, most):
    content, style = scene
    assert leak(textured(content, style, share), content, style).score <= most


def test_a_pasted_face_is_found_where_it_is_and_a_larger_one_counts_more(leak, scene):
    content, style = scene
    painted = textured(content, style)
    scores = [leak(painted, content, style).score]
    scores += [leak(pasted(painted, style, side), content, style).score for side in (64, 96)]
    assert scores[0] < 0.03 < scores[1] < scores[2]
    excess = leak(pasted(painted, style, 96), content, style).excess
    height, width = excess.shape
    inside = excess[int(56 / 160 * height) : int(104 / 160 * height), int(64 / 176 * width) : int(112 / 176 * width)]
    outside = excess[:, int(150 / 176 * width) :]
    assert np.median(inside) > 0.2 > 2 * outside.max()


@pytest.mark.parametrize("scale", [0.72, 1.35])
def test_a_face_of_another_size_is_found(leak, scene, scale):
    content, style = scene
    other = np.clip(resize(style, (round(168 * scale), round(168 * scale))), 0, 1)
    taken = round(10 * scale), round(60 * scale)
    painted = pasted(textured(content, style), other, 88 if scale > 1 else 60, taken=taken)
    assert leak(painted, content, style).score > 0.03


def test_a_style_of_one_texture_cannot_leak(leak, natural):
    content, style = natural("coffee.png", SIZE), natural("brick.png", (168, 168))
    quilted = blocks(style, SIZE, 48)
    assert leak(quilted, content, style).score < 0.06


def test_what_the_content_shows_there_is_no_leak(leak, scene):
    """The same face in content and style: that it stays is no leak."""
    content, style = scene
    shared = pasted(content, style, 96)
    assert leak(textured(shared, style, 0.2), shared, style).score < 0.03


def test_it_is_computed_in_strips_without_a_trace(leak, scene, monkeypatch):
    content, style = scene
    painted = pasted(textured(content, style), style, 96)
    whole = leak(painted, content, style)
    monkeypatch.setattr("impasto.metrics.leak.LARGEST", 1)
    strips = leak(painted, content, style)
    assert strips.score == whole.score
    np.testing.assert_allclose(strips.excess, whole.excess, atol=1e-5)


def test_constant_and_small_pictures_have_values(leak, scene):
    content, style = scene
    flat = np.full_like(content, 0.5)
    for result, photo, painting in (
        (flat, flat, flat),
        (content, flat, style),
        (flat, content, style),
        (content, content, flat),
    ):
        report = leak(result, photo, painting)
        assert 0 <= report.score <= 1 and np.isfinite(report.excess).all()
    small = content[:40, :40]
    assert 0 <= leak(small, small, style[:36, :30]).score <= 1


def test_other_sizes_are_refused(leak, scene):
    content, style = scene
    with pytest.raises(UsageError, match="one size"):
        leak(content, content[:-32], style)
