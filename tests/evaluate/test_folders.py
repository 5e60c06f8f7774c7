"""Two folders of results side by side."""

import numpy as np
import pytest
from PIL import Image

from impasto.errors import UsageError
from impasto.evaluate.folders import CompareConfig, CompareJob, matched, run_comparison
from impasto.evaluate.measuring import Measurer
from impasto.evaluate.tasks import CONTROLS

METRICS = ("ssim", "gram", "leak", "frechet")


@pytest.fixture
def results(tmp_path, contents, styles, pictures_of):
    """A folder that keeps the content and takes the style's colours, and one of grey results."""
    for folder in ("mine", "theirs"):
        (tmp_path / folder).mkdir()
    for content in ("cat", "cup"):
        for style in ("bricks", "stars", "woman"):
            pixels = pictures_of(contents / f"{content}.png")
            mine = 0.7 * pixels + 0.3 * pictures_of(styles / f"{style}.png").mean((0, 1))
            Image.fromarray((mine * 255).astype(np.uint8)).save(tmp_path / "mine" / f"{content}_{style}.png")
            grey = Image.fromarray(np.full((144, 192, 3), 128, np.uint8))
            grey.save(tmp_path / "theirs" / f"{content}_{style}.jpg")
    return tmp_path / "mine", tmp_path / "theirs"


@pytest.fixture
def job(results, contents, styles):
    def make(**changes):
        config = CompareConfig(**({"size": 64} | changes.pop("config", {})))
        fields = {"contents": contents, "styles": styles, "metrics": METRICS, "config": config} | changes
        return CompareJob(*results, **fields)

    return make


def run(job, network):
    return run_comparison(job, Measurer(job.check(), network=network))[0]


def test_both_folders_stand_beside_the_controls(job, network):
    evaluation = run(job(), network)
    rows = {row.name: row for row in evaluation.rows}
    assert list(rows) == [*CONTROLS, "mine", "theirs"] and all(row.count == 6 for row in rows.values())
    assert rows["mine"].cells["ssim"].median > 0.8 > rows["theirs"].cells["ssim"].median
    assert rows[CONTROLS[0]].cells["ssim"].median == pytest.approx(1)
    assert evaluation.wins["ssim"] == (6, 6)
    assert evaluation.best(evaluation.columns[0]) == "mine"


def test_the_other_way_around_the_other_wins(job, network, results):
    swapped = CompareJob(
        results[1], results[0], **{key: value for key, value in vars(job()).items() if key not in ("first", "second")}
    )
    evaluation = run(swapped, network)
    assert evaluation.wins["ssim"] == (0, 6)


def test_a_second_run_measures_nothing(job, network, passes, tmp_path):
    first = run(job(output=tmp_path / "out"), network)
    count = len(passes)
    assert run(job(output=tmp_path / "out"), network) == first and len(passes) == count
    Image.new("RGB", (96, 72)).save(tmp_path / "mine" / "cat_stars.png")
    assert run(job(output=tmp_path / "out"), network) != first and count < len(passes) <= count + 6


def test_without_contents_and_styles_the_first_is_measured_against_the_second(job, network, results):
    alone = job(contents=None, styles=None)
    assert alone.check() == ("ssim", "gram")
    evaluation = run(alone, network)
    (row,) = evaluation.rows
    assert row.name == "mine against theirs" and row.count == 6 and row.cells["ssim"].median < 0.8
    assert evaluation.wins is None
    with pytest.raises(UsageError, match="same folder"):
        CompareJob(results[0], results[0]).labels  # noqa: B018


@pytest.mark.parametrize(
    ("known", "metrics", "rows"),
    [("contents", ("ssim",), 3), ("styles", ("gram", "frechet"), 3)],
)
def test_one_of_the_two_is_enough_for_its_metrics(job, network, known, metrics, rows):
    other = {"contents": "styles", "styles": "contents"}[known]
    chosen = job(**{other: None})
    assert chosen.check() == metrics
    evaluation = run(chosen, network)
    assert len(evaluation.rows) == rows and not evaluation.failures


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("a_b", ("a", "b")),
        ("a-b", ("a", "b")),
        ("a_stylized_b", ("a", "b")),
        ("a in b", ("a", "b")),
        ("a1_b", ("a1", "b")),
        ("a1_x_b", ("a1", "x_b")),
        ("a__x_b", ("a", "x_b")),
        ("ab", None),
        ("a_7_b", None),
        ("c_b", None),
        ("a_", None),
    ],
)
def test_names_are_taken_apart(tmp_path, name, pair):
    for folder, names in (("c", ("a", "a1")), ("s", ("b", "x_b")), ("one", (name,)), ("two", (name,))):
        (tmp_path / folder).mkdir()
        for one in names:
            Image.new("RGB", (20, 20)).save(tmp_path / folder / f"{one}.png")
    job = CompareJob(tmp_path / "one", tmp_path / "two", tmp_path / "c", tmp_path / "s")
    if pair is None:
        with pytest.raises(UsageError, match="CONTENT_STYLE"):
            matched(job)
    else:
        (match,), notes = matched(job)
        assert (match.content.name, match.style.name) == pair and not notes


def test_what_is_left_out_is_told(job, network, results):
    (results[0] / "cat_bricks.png").rename(results[0] / "alone.png")
    for folder in results:
        Image.new("RGB", (20, 20)).save(folder / "strange.png")
    evaluation = run(job(), network)
    assert evaluation.rows[-1].count == 5
    assert [note for note in evaluation.notes if note.startswith("2 files have no counterpart")]
    assert [note for note in evaluation.notes if "such as strange" in note]


def test_folders_without_a_common_name_are_refused(job, results):
    for path in results[0].iterdir():
        path.rename(path.with_stem(path.stem + "x"))
    with pytest.raises(UsageError, match=r"no file of .* has the name"):
        matched(job())


@pytest.mark.parametrize("pairs", [1, 4, 6, 9])
def test_so_many_are_taken_evenly(job, pairs):
    found = [match.name for match in job(config={"pairs": pairs}).matches()]
    assert len(found) == min(pairs, 6) == len(set(found))
    if pairs == 4:
        assert {name[:3] for name in found} == {"cat", "cup"}


@pytest.mark.parametrize(("crop", "box"), [("corner", (0, 0, 72, 72)), ("centre", (12, 0, 84, 72))])
def test_cropped_results_are_compared_with_the_same_part_of_the_content(job, network, results, contents, crop, box):
    for folder in results:
        for path in folder.iterdir():
            with Image.open(contents / f"{path.stem.partition('_')[0]}.png") as content:
                content.crop(box).resize((144, 144), Image.Resampling.LANCZOS).save(path)
    refused = run(job(), network)
    assert len(refused.failures) == 12 and "not the same shape" in refused.failures[0].error
    right = run(job(config={"crop": crop}), network)
    wrong = run(job(config={"crop": {"corner": "centre", "centre": "corner"}[crop]}), network)
    median = [evaluation.rows[-1].cells["ssim"].median for evaluation in (right, wrong)]
    assert not right.failures and median[0] > 0.85 > median[1]


def test_settings_are_checked(job):
    with pytest.raises(UsageError, match="crop must be one of"):
        CompareConfig(crop="middle")
    with pytest.raises(UsageError, match="can be measured with these folders"):
        job(metrics=("leak",), styles=None).check()


def test_labels_are_as_short_as_tells_them_apart(tmp_path):
    assert CompareJob(tmp_path / "a" / "out", tmp_path / "b" / "out").labels == ("a/out", "b/out")
    assert CompareJob(tmp_path / "a", tmp_path / "b").labels == ("a", "b")
