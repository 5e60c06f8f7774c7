"""Planning and the journal of a batch, in this process; ``cli/test_batch_command.py`` has the whole."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from impasto import batch
from impasto.batch import JOURNAL, BatchJob, SaveOptions, run_batch
from impasto.config import StylizeConfig
from impasto.errors import OutputError, UnknownNameError, UsageError, WeightsError


@pytest.fixture
def job(tmp_path, photograph):
    """A job of three small photographs, one of them in a folder of its own."""
    for index, name in enumerate(("a.png", "b.jpg", "deep/c.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[index * 8 : index * 8 + 24, :32]).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    styles = (("ukiyo-e", 1.0),)
    return BatchJob(tmp_path / "photos", tmp_path / "painted", "brush", styles, StylizeConfig(), SaveOptions())


def names(job, paths):
    return [path.relative_to(job.folder).as_posix() for path in paths]


def finish(job):
    """Paint what is left; the names that were painted."""
    todo, _ = job.plan()
    outcomes = list(run_batch(job, todo))
    assert [outcome.error for outcome in outcomes] == [""] * len(outcomes)
    return names(job, todo)


def test_every_picture_below_the_folder_is_planned_once(job):
    todo, done = job.plan()
    assert names(job, todo) == ["a.png", "b.jpg", "deep/c.png"] and done == 0
    assert finish(job) == ["a.png", "b.jpg", "deep/c.png"]
    painted = {path.relative_to(job.output).as_posix() for path in job.output.rglob("*") if path.is_file()}
    assert painted == {"a.png", "b.jpg", "deep/c.png", JOURNAL}
    assert job.plan() == ([], 3)


def test_paintings_below_the_folder_are_not_photographs(job):
    job = replace(job, output=job.folder / "painted")
    finish(job)
    assert job.plan() == ([], 3)


def test_a_changed_photograph_and_a_lost_painting_are_painted_again(job, photograph):
    finish(job)
    Image.fromarray(photograph[40:64, :32]).save(job.folder / "a.png")
    (job.output / "b.jpg").unlink()
    assert finish(job) == ["a.png", "b.jpg"]
    assert job.plan(again=True)[1] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"styles": (("irises", 1.0),)},
        {"styles": (("ukiyo-e", 1.0), ("irises", 1.0))},
        {"config": StylizeConfig(strength=0.5)},
        {"save": SaveOptions(quality=50)},
    ],
)
def test_other_settings_paint_again_and_so_do_the_first_ones_afterwards(job, change):
    finish(job)
    before = (job.output / "a.png").read_bytes()
    other = replace(job, **change)
    assert len(finish(other)) == 3
    assert len(finish(job)) == 3  # what lies there is now the other painting
    assert (job.output / "a.png").read_bytes() == before


def test_a_changed_style_picture_paints_again(job, artworks, tmp_path):
    Image.fromarray(artworks[0]).save(tmp_path / "style.png")
    job = replace(job, styles=((str(tmp_path / "style.png"), 1.0),))
    finish(job)
    assert job.plan()[1] == 3
    Image.fromarray(artworks[1]).save(tmp_path / "style.png")
    assert job.plan()[1] == 0


def test_other_weights_paint_again(job, monkeypatch):
    finish(job)
    card = batch.load_card("brush")
    files = card.files | {"net": replace(card.files["net"], sha256="0" * 64)}
    monkeypatch.setattr(batch, "load_card", lambda name: replace(card, files=files))
    assert job.plan()[1] == 0


def test_folders_may_be_moved_or_named_in_another_way(job, monkeypatch):
    finish(job)
    monkeypatch.chdir(job.folder.parent)
    relative = replace(
        job, folder=job.folder.relative_to(job.folder.parent), output=job.output.parent / "." / "painted"
    )
    assert relative.plan()[1] == 3
    moved = shutil.move(job.output, job.output.with_name("moved"))
    assert replace(job, output=moved).plan()[1] == 3


def test_a_journal_that_was_cut_off_costs_one_painting(job):
    finish(job)
    path = job.output / JOURNAL
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:30])
    assert finish(job) == ["deep/c.png"]
    assert job.plan() == ([], 3)  # the line after the torn one counts


@pytest.mark.parametrize("line", ["[]", "3", "null", '{"settings": 1}', "\x00\x01", '"text"'])
def test_strange_lines_in_the_journal_do_not_matter(job, line):
    finish(job)
    with (job.output / JOURNAL).open("a") as journal:
        journal.write(line + "\n")
    assert job.plan() == ([], 3)


def test_the_journal_holds_names_below_the_folders_only(job):
    finish(job)
    entries = [json.loads(line) for line in (job.output / JOURNAL).read_text().splitlines() if line]
    assert [entry["target"] for entry in entries] == ["a.png", "b.jpg", "deep/c.png"]
    assert str(job.folder) not in (job.output / JOURNAL).read_text()


def test_a_broken_photograph_is_told_and_the_others_are_painted(job):
    (job.folder / "b.jpg").write_bytes(b"broken")
    (job.folder / "deep" / "gone.png").symlink_to(job.folder / "a.png")
    todo, _ = job.plan()
    (job.folder / "deep" / "gone.png").unlink()  # between the plan and the work
    outcomes = {outcome.source.name: outcome.error for outcome in run_batch(job, todo)}
    assert outcomes["a.png"] == outcomes["c.png"] == ""
    assert "'" in outcomes["b.jpg"] and "b.jpg' is not a picture" in outcomes["b.jpg"]
    assert "gone.png'" in outcomes["gone.png"]
    assert names(job, job.plan()[0]) == ["b.jpg"]


def test_two_photographs_of_one_name_are_refused_before_any_work(job, photograph):
    Image.fromarray(photograph).save(job.folder / "a.jpg")
    job.plan()  # each keeps its own suffix
    with pytest.raises(OutputError, match=r"a\.jpg' and '.*a\.png' would both become '.*a\.webp'"):
        replace(job, save=SaveOptions(suffix=".webp")).plan()
    assert not job.output.exists()


@pytest.mark.parametrize("suffix", ["png", ".txt", "", ".gif"])
def test_a_suffix_without_a_format_is_refused(suffix):
    with pytest.raises(UsageError, match=r"suffix must be one of .*, .png, .*not"):
        SaveOptions(suffix=suffix)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda job: {"folder": job.folder / "missing"}, UsageError, "is not a folder"),
        (lambda job: {"output": job.folder / "deep" / ".."}, UsageError, "is the folder of photographs"),
        (lambda job: {"engine": "brsh"}, UnknownNameError, "did you mean brush"),
    ],
)
def test_a_plan_without_sense_is_refused(job, change, kind, words):
    with pytest.raises(kind, match=words):
        replace(job, **change(job)).plan()


def test_a_folder_without_pictures_is_refused(job, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"no picture found in .*none"):
        replace(job, folder=tmp_path / "none").plan()


def test_wrong_styles_and_outputs_are_found_out_before_the_first_picture(job, tmp_path):
    todo, _ = job.plan()
    with pytest.raises(UnknownNameError, match="did you mean ukiyo-e"):
        run_batch(replace(job, styles=(("ukiyoe", 1.0),)), todo)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write to the folder '.*file': File exists"):
        run_batch(replace(job, output=tmp_path / "file"), todo)
    (tmp_path / "taken" / JOURNAL).mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot write to the folder '.*taken': Is a directory"):
        run_batch(replace(job, output=tmp_path / "taken"), todo)


def test_missing_weights_are_found_out_by_the_plan(job, monkeypatch):
    def missing(name):
        raise WeightsError("the card is missing")

    monkeypatch.setattr(batch, "load_card", missing)
    with pytest.raises(WeightsError):
        job.plan()


def test_the_painting_is_the_one_that_stylize_makes(job, stylizer, presets):
    from impasto.field import StyleField

    finish(job)
    wanted = stylizer.render(job.folder / "a.png", StyleField.constant(presets["ukiyo-e"])).stored
    with Image.open(job.output / "a.png") as image:
        assert np.array_equal(np.asarray(image), wanted)


def test_a_photograph_that_changes_while_it_is_painted_is_painted_again(job, monkeypatch):
    todo, _ = job.plan()
    for outcome in run_batch(job, todo):
        if outcome.source.name == "a.png":
            os.utime(outcome.source, ns=(1, 1))
    assert names(job, job.plan()[0]) == ["a.png"]
