"""The rectangular picture that a region of a style becomes."""

import numpy as np
import pytest

from impasto.config import StylizeConfig
from impasto.errors import FieldError, UsageError
from impasto.regions import RegionConfig, region_texture
from impasto.regions.polygons import circle_points, polygon_mask


def textures(artworks):
    first, second = (np.asarray(one[:120, :140], np.float32) / 255 for one in artworks)
    return first, second


def test_all_of_it_comes_from_the_region():
    chance = np.random.default_rng(0)
    pixels = np.zeros((80, 100, 3), np.float32)
    mask = polygon_mask(circle_points(50, 40, 30), (80, 100))
    pixels[..., 0] = np.where(mask >= 0.5, 0.5 + 0.5 * chance.random((80, 100)), 0)
    pixels[..., 2] = mask < 0.5  # blue lies outside only
    found = region_texture(pixels, mask)
    assert found.shape == (60, 60, 3)
    assert found[..., 2].max() == 0 and found[..., 0].min() >= 0.5
    inside = mask[10:70, 20:80] >= 0.5
    np.testing.assert_array_equal(found[inside], pixels[10:70, 20:80][inside])
    np.testing.assert_array_equal(found, region_texture(pixels, mask))


def test_a_rectangle_is_only_cut_out():
    pixels = np.random.default_rng(1).random((40, 50, 3), np.float32)
    mask = np.zeros((40, 50), np.float32)
    mask[5:25, 10:40] = 1
    np.testing.assert_array_equal(region_texture(pixels, mask), pixels[5:25, 10:40])


def test_thin_and_empty_regions():
    pixels = np.zeros((40, 50, 3), np.float32)
    mask = np.zeros((40, 50), np.float32)
    with pytest.raises(FieldError, match="'sky' of the style is empty"):
        region_texture(pixels, mask, about="sky")
    mask[np.arange(40), np.arange(40)] = 1
    with pytest.raises(FieldError, match="'sky' of the style is too thin"):
        region_texture(pixels, mask, about="sky")


def test_its_code_is_that_of_the_region(stylizer, artworks):
    """Two pictures pasted together: the code of a part is nearer to its picture's than that of the box around it."""
    wanted, other = textures(artworks)
    mask = polygon_mask([(70, 5), (135, 110), (5, 110)], wanted.shape[:2])
    pasted = np.where(mask[..., None] >= 0.5, wanted, other)
    code = {
        name: stylizer.engine.encode(np.ascontiguousarray(picture), name=name, config=StylizeConfig()).vector
        for name, picture in (("wanted", wanted), ("pasted", pasted), ("part", region_texture(pasted, mask)))
    }
    away = {name: np.linalg.norm(vector - code["wanted"]) for name, vector in code.items()}
    assert away["part"] < 0.7 * away["pasted"]


def test_the_facade_encodes_parts(stylizer, artworks, tmp_path):
    from PIL import Image

    Image.fromarray(artworks[0]).save(tmp_path / "art.png")
    code = stylizer.encode_part(tmp_path / "art.png", "rectangle:10,10,90,90")
    assert code.name == "art.png@rectangle:10,10,90,90"
    whole = stylizer.encode(artworks[0][10:90, 10:90])
    np.testing.assert_allclose(code.vector, whole.vector, atol=1e-5)
    with pytest.raises(FieldError, match="lies outside"):
        stylizer.encode_part(tmp_path / "art.png", "rectangle:10,10,900,90", region_config=RegionConfig())
    with pytest.raises(UsageError, match="is no picture"):
        stylizer.encode_part("ukiyo-e", "rectangle:10,10,90,90")
