"""Whole evaluations: complete, resumable, with features computed once."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from impasto.errors import CancelledError, OutputError, UnknownNameError, UsageError
from impasto.evaluate.job import EvaluateConfig, EvaluateJob, run_evaluation
from impasto.evaluate.journal import JOURNAL
from impasto.evaluate.measuring import Measurer
from impasto.evaluate.results import cell_of, save_json
from impasto.evaluate.tasks import CONTROLS

METRICS = ("ssim", "gram", "leak", "frechet")


@pytest.fixture
def job(contents, styles, tmp_path):
    def make(engines=("noisy",), metrics=METRICS, **settings):
        fields = {name: settings.pop(name) for name in ("presets", "options", "styles", "output") if name in settings}
        folders = {"styles": styles, "output": tmp_path / "out"} | fields
        return EvaluateJob(engines, contents, metrics=metrics, config=EvaluateConfig(size=64, **settings), **folders)

    return make


def run(job, network, **options):
    return run_evaluation(job, Measurer(job.check(), network=network), **options)[0]


def rows(evaluation):
    return {row.name: row for row in evaluation.rows}


def test_engines_stand_between_the_controls(job, network, noisy):
    evaluation = run(job(engines=("noisy", "brush")), network)
    assert [row.name for row in evaluation.rows] == [*CONTROLS, "noisy", "brush"]
    assert all(row.count == 6 and row.failed == 0 for row in evaluation.rows)
    found = rows(evaluation)
    assert found[CONTROLS[0]].cells["ssim"].median == pytest.approx(1)
    assert found[CONTROLS[1]].cells["ssim"].median < found["brush"].cells["ssim"].median < 1
    assert found[CONTROLS[1]].cells["gram-lens"].median < found["noisy"].cells["gram-lens"].median
    assert found["brush"].seconds.median > 0 and found[CONTROLS[0]].seconds is None
    assert {(one.content, one.style) for one in evaluation.records} == {
        (content, style) for content in ("cat", "cup") for style in ("bricks", "stars", "woman")
    }
    assert (job().output / "pictures" / "brush" / "cat_stars.png").is_file()


def test_a_second_run_paints_and_measures_nothing(job, network, noisy, passes):
    first = run(job(), network)
    painted, looked = len(noisy), len(passes)
    second = run(job(), network)
    assert (len(noisy), len(passes)) == (painted, looked)
    assert second == first
    again = run(job(), network, again=True)
    assert len(noisy) == 2 * painted and len(passes) == 2 * looked
    assert again.rows[0].cells == first.rows[0].cells


@pytest.mark.parametrize("stop", [1, 4, 9, 17])
def test_a_run_that_was_stopped_goes_on(job, network, noisy, tmp_path, stop):
    whole = run(job(output=tmp_path / "whole"), network)
    painted, seen = len(noisy), []

    def until(step):
        seen.append(step)
        if len(seen) > stop:
            raise CancelledError("stopped")

    noisy.clear()
    with pytest.raises(CancelledError):
        run(job(), network, on_step=until)
    with (job().output / JOURNAL).open("a") as journal:
        journal.write('{"kind": "painted", "name": "cut o')  # the power went
    found = run(job(), network)
    assert len(noisy) == painted
    assert found.as_dict() | {"rows": 0, "records": 0} == whole.as_dict() | {"rows": 0, "records": 0}
    assert [record.values for record in found.records] == [record.values for record in whole.records]
    assert [row.cells for row in found.rows] == [row.cells for row in whole.rows]


def test_more_metrics_and_engines_are_added_to_what_is_there(job, network, noisy, passes):
    run(job(metrics=("ssim",)), network)
    painted = len(noisy)
    assert not passes
    more = run(job(engines=("noisy", "brush"), metrics=("ssim", "gram")), network)
    assert len(noisy) == painted and set(rows(more)["noisy"].cells) == {"ssim", "gram-lens"}
    fewer = run(job(metrics=("ssim",)), network)
    assert set(rows(fewer)["noisy"].cells) == {"ssim"}
    count = len(passes)
    run(job(metrics=("gram",)), network)
    assert len(passes) == count


def test_changed_pictures_settings_and_seeds_are_painted_anew(job, network, noisy, contents):
    run(job(), network)
    noisy.clear()
    Image.new("RGB", (96, 72), (200, 10, 10)).save(contents / "cup.png")
    run(job(), network)
    assert len(noisy) == 3
    run(job(seed=5), network)
    assert noisy[3:] == [5] * 6
    run(EvaluateJob(**{**vars(job(seed=5)), "config": EvaluateConfig(size=48, seed=5)}), network)
    assert len(noisy) == 15


def test_a_picture_that_was_deleted_is_painted_again(job, network, noisy):
    run(job(), network)
    (job().output / "pictures" / "noisy" / "cat_woman.png").unlink()
    noisy.clear()
    assert run(job(), network).failures == () and len(noisy) == 1


def test_features_of_each_picture_are_computed_once(job, network, noisy, passes):
    """Results and contents once, styles once and at the three scales of the leak; engines share what they can."""
    run(job(engines=("noisy", "brush"), metrics=("gram", "content", "leak")), network)
    results, contents, styles = 4 * 6, 2, 3 * (1 + 3)
    assert len(passes) == results + contents + styles
    assert Counter(passes)[(48, 64)] == results + contents  # of the contents' size


def test_cost_is_linear_in_pairs(job, network, noisy, passes):
    counts = []
    for pairs in (2, 4, 6):
        passes.clear()
        run(job(metrics=("content",), pairs=pairs, output=job().output.with_name(f"out{pairs}")), network)
        counts.append(len(passes))
    results = [3 * pairs for pairs in (2, 4, 6)]
    assert [count - number for count, number in zip(counts, results, strict=True)] == [2, 2, 2]


def test_a_pair_that_fails_is_listed_and_tried_again(job, network, noisy, contents):
    Image.new("RGB", (96, 72)).save(contents / "dark.png")
    (contents / "broken.png").write_bytes(b"no picture")
    evaluation = run(job(), network)
    assert rows(evaluation)["noisy"].count == 6 and rows(evaluation)["noisy"].failed == 6
    errors = {(one.row, one.content): one.error for one in evaluation.failures}
    assert "black" in errors["noisy", "dark"] and "is not a picture" in errors["noisy", "broken"]
    assert "is not a picture" in errors[CONTROLS[0], "broken"] and (CONTROLS[0], "dark") not in errors
    assert any("failed" in note for note in evaluation.notes)
    Image.new("RGB", (96, 72), (90, 90, 200)).save(contents / "broken.png")
    noisy.clear()
    assert rows(run(job(), network))["noisy"].failed == 3 and len(noisy) == 3


def test_diversity_paints_several_seeds_where_chance_is_used(job, network, noisy):
    evaluation = run(job(engines=("noisy", "brush"), metrics=("ssim", "diversity"), pairs=2, seeds=3, seed=7), network)
    assert sorted(noisy) == [7, 7, 8, 8, 9, 9]
    found = rows(evaluation)
    assert found["noisy"].cells["diversity"].median > 0.05 and found["brush"].cells["diversity"].median == 0
    assert "diversity" not in found[CONTROLS[0]].cells
    assert (
        run(job(engines=("noisy", "brush"), metrics=("ssim", "diversity"), pairs=2, seeds=3, seed=7), network)
        == evaluation
    )
    assert len(noisy) == 6


def test_presets_stand_for_styles_without_a_picture(job, network):
    evaluation = run(job(engines=("brush",), presets=("ukiyo-e",), styles=None), network)
    assert [row.name for row in evaluation.rows] == [CONTROLS[0], "brush"]
    assert set(rows(evaluation)["brush"].cells) == {"ssim"}
    assert any("Presets" in note for note in evaluation.notes)
    assert evaluation.failures == ()
    unknown = run(job(engines=("brush",), presets=("ukiyo",)), network)
    assert {one.style for one in unknown.failures} == {"ukiyo"} and rows(unknown)["brush"].count == 6


def test_settings_are_checked_before_anything_is_painted(job, network, noisy, tmp_path):
    for wrong, error, words in (
        (job(engines=()), UsageError, "at least one engine"),
        (job(engines=("brsh",)), UnknownNameError, "did you mean brush"),
        (job(engines=("brush", "brush")), UsageError, "twice"),
        (job(options={"brush": {"iterations": 3}}), UsageError, "does not take part"),
        (job(options={"noisy": {"iterations": 3}}), UsageError, "no options"),
        (job(metrics=("grm",)), UnknownNameError, "did you mean gram"),
        (job(styles=None), UsageError, "no styles"),
        (job(presets=("woman",)), UsageError, "two styles are called 'woman'"),
    ):
        with pytest.raises(error, match=words):
            run_evaluation(wrong, Measurer(("ssim",)))
    assert not noisy and not job().output.exists()
    with pytest.raises(UsageError, match="size must lie between"):
        EvaluateConfig(size=8)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to the folder"):
        run(job(output=tmp_path / "file" / "out"), network)


def test_names_that_would_give_one_file_are_refused(job, contents, styles):
    for folder, name in ((contents, "a"), (contents, "a_b"), (styles, "b_c"), (styles, "c")):
        Image.new("RGB", (40, 40)).save(folder / f"{name}.png")
    with pytest.raises(UsageError, match=r"would both be 'a_b_c\.png'"):
        job().pairs()


def test_results_go_to_json_without_nan(job, network, noisy, tmp_path):
    evaluation = run(job(), network)
    save_json(evaluation, tmp_path / "results.json")
    read = json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert read["rows"][2]["cells"]["ssim"]["median"] == rows(evaluation)["noisy"].cells["ssim"].median
    assert read["records"][0]["values"] == evaluation.records[0].values and read["encoder"]["name"] == "lens"
    assert str(tmp_path) not in json.dumps(read)


def test_medians_and_spreads_are_those_of_numpy():
    values = list(np.random.default_rng(0).normal(size=17))
    cell = cell_of(values)
    assert [cell.first, cell.median, cell.third] == pytest.approx(list(np.percentile(values, [25, 50, 75])))
    assert cell.spread == pytest.approx(cell.third - cell.first) and cell.count == 17
    assert cell_of([]) is None and cell_of([3.0]).spread == 0
