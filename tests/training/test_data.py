import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from impasto.errors import TrainingError
from impasto.training.data import CropRule, PictureSet, genre_weights, hsv_jitter, random_crop


def rng():
    return np.random.default_rng(5)


def test_a_tar_file_holds_what_the_folder_holds(pictures, tmp_path):
    with tarfile.open(tmp_path / "art.tar", "w") as archive:
        archive.add(pictures / "art", "inner")
        archive.add(__file__, "notes.txt")
    folder, tar = PictureSet([pictures / "art"]), PictureSet([tmp_path / "art.tar"])
    by_name = dict(zip(tar.names, range(len(tar)), strict=True))
    assert sorted(tar.names) == sorted(folder.names) and len(folder) == 3
    for index, name in enumerate(folder.names):
        assert np.array_equal(folder.picture(index), tar.picture(by_name[name]))
    assert len(PictureSet([pictures / "art", tmp_path / "art.tar"])) == 6


def test_grey_and_transparent_pictures_become_rgb_and_hidden_files_stay_out(tmp_path):
    Image.new("L", (20, 10), 7).save(tmp_path / "grey.png")
    Image.new("RGBA", (20, 10), (1, 2, 3, 4)).save(tmp_path / "alpha.PNG")
    (tmp_path / "._grey.png").write_bytes(b"resource fork")
    found = PictureSet([tmp_path])
    assert len(found) == 2
    assert all(found.picture(i).shape == (10, 20, 3) for i in range(2))


def test_sources_without_pictures_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="no picture found"):
        PictureSet([tmp_path])
    with pytest.raises(TrainingError, match="empty list"):
        PictureSet([])
    with pytest.raises(TrainingError, match="neither a folder nor"):
        PictureSet([tmp_path / "none"])
    (tmp_path / "text.tar").write_text("no tar")
    with pytest.raises(TrainingError, match="neither a folder nor"):
        PictureSet([tmp_path / "text.tar"])


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8 torn")
    with pytest.raises(TrainingError, match=r"torn\.jpg.*take it out"):
        PictureSet([tmp_path]).picture(0)


def test_the_cache_keeps_to_its_budget_under_threads(pictures):
    size = 72 * 96 * 3
    found = PictureSet([pictures / "art"], cache_bytes=2 * size + 1)
    with ThreadPoolExecutor(8) as pool:
        shown = list(pool.map(lambda i: found.picture(i % 3), range(60)))
    assert len(found._decoded) == 2 and found._budget == 1
    assert all(np.array_equal(pixels, found.picture(i % 3)) for i, pixels in enumerate(shown))


def test_crops_follow_the_seed(pictures):
    found, rule = PictureSet([pictures / "art"]), CropRule(32, 0.3, 0.9, jitter=0.1, grey=0.5)
    first, second = found.crops(rng(), 4, rule), found.crops(rng(), 4, rule)
    assert first.shape == (4, 3, 32, 32) and first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert not np.array_equal(first, found.crops(np.random.default_rng(6), 4, rule))
    assert found.crops(rng(), 0, rule).shape == (0, 3, 32, 32)


def test_weights_choose_the_pictures(pictures):
    found = PictureSet([pictures / "art"], weights={"art1.png": 2.0})
    assert found.chance.tolist() == [0, 1, 0]
    with pytest.raises(TrainingError, match="none of the pictures"):
        PictureSet([pictures / "art"], weights={"other.png": 1.0})


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (5, 7), (1, 1)])
def test_a_crop_has_its_size_whatever_the_picture(shape):
    pixels = rng().integers(0, 256, (*shape, 3), dtype=np.uint8)
    for seed in range(5):
        assert random_crop(pixels, np.random.default_rng(seed), CropRule(16)).shape == (16, 16, 3)


def test_a_crop_of_the_whole_square_is_the_picture_or_its_mirror():
    pixels = rng().integers(0, 256, (24, 24, 3), dtype=np.uint8)
    seen = {random_crop(pixels, np.random.default_rng(s), CropRule(24, 1.0, 1.0)).tobytes() for s in range(12)}
    assert seen == {pixels.tobytes(), pixels[:, ::-1].tobytes()}


def test_monochrome_crops():
    pixels = rng().integers(0, 256, (24, 24, 3), dtype=np.uint8)
    crop = random_crop(pixels, rng(), CropRule(24, grey=1.0))
    assert np.array_equal(crop[..., 0], crop[..., 1]) and np.array_equal(crop[..., 0], crop[..., 2])


def test_jitter_of_strength_zero_changes_next_to_nothing():
    image = Image.fromarray(rng().integers(0, 256, (24, 24, 3), dtype=np.uint8))
    same = np.asarray(hsv_jitter(image, rng(), 0.0)).astype(int)
    assert np.abs(same - np.asarray(image)).max() <= 8  # HSV in bytes rounds
    other = np.asarray(hsv_jitter(image, rng(), 0.2)).astype(int)
    assert np.abs(other - np.asarray(image)).mean() > 4


def test_genre_weights_raise_the_rare(tmp_path):
    manifest = tmp_path / "art.csv"
    manifest.write_text(
        "file,genre\nsub/a.jpg,portrait\nb.jpg,portrait\nc.jpg,portrait\nd.jpg,portrait\ne.jpg,still life\n"
    )
    assert genre_weights(manifest) == {"a.jpg": 0.5, "b.jpg": 0.5, "c.jpg": 0.5, "d.jpg": 0.5, "e.jpg": 1.0}
    assert set(genre_weights(manifest, power=1.0).values()) == {1.0}
    equal = genre_weights(manifest, power=0.0)
    assert 4 * equal["a.jpg"] == equal["e.jpg"]


def test_a_manifest_without_genres_is_refused(tmp_path):
    (tmp_path / "art.csv").write_text("file\na.jpg\n")
    with pytest.raises(TrainingError, match="columns file and genre"):
        genre_weights(tmp_path / "art.csv")
    with pytest.raises(TrainingError, match="cannot read the manifest"):
        genre_weights(tmp_path / "none.csv")
