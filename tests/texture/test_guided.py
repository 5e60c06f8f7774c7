"""PatchMatch, votes and guided synthesis: against brute force, and what must hold for every picture."""

from dataclasses import replace

import numpy as np
import pytest

from impasto.image.color import luminance
from impasto.texture.guidance import photo_guides, style_guides
from impasto.texture.guided import label_map, paint, plan_steps
from impasto.texture.patchmatch import Problem, costs, occupancy, random_field, search, vote
from impasto.texture.settings import GuidedSettings

QUICK = GuidedSettings(iterations=1)


def problem_of(generator, size=(30, 26), source=(40, 34), patch=5, uniformity=0.0):
    half = patch // 2
    framed = (size[0] + 2 * half, size[1] + 2 * half)

    def random(*shape):
        return generator.random(shape, dtype=np.float32)

    corners = (source[0] - patch + 1, source[1] - patch + 1)
    return Problem(
        target=random(*framed, 8),
        target_detail=random(*framed, 1),
        gate=random(*size),
        source=random(*source, 8),
        source_detail=random(*source, 1),
        labels=np.zeros(size, np.uint8),
        regions=np.array([[0, corners[0], 0, corners[1]]], np.int32),
        wanted=np.array([patch * patch * size[0] * size[1] / (corners[0] * corners[1])], np.float32),
        patch=patch,
        uniformity=uniformity,
    )


def all_costs(problem):
    """``[H, W, corners]`` distance of every target patch from every source patch, term by term in float64."""
    patch = problem.patch

    def windows(array):
        return np.lib.stride_tricks.sliding_window_view(array.astype(np.float64), (patch, patch), axis=(0, 1))

    height, width = problem.size
    result = None
    for target, source, weight in (
        (problem.target, problem.source, 1.0),
        (problem.target_detail, problem.source_detail, problem.gate[..., None]),
    ):
        here = windows(target).reshape(height * width, -1)
        there = windows(source).reshape(-1, here.shape[1])
        squares = (here**2).sum(1)[:, None] + (there**2).sum(1)[None] - 2 * here @ there.T
        part = weight * squares.reshape(height, width, -1) / patch**2
        result = part if result is None else result + part
    return result


# --- PatchMatch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patch", [3, 5, 7])
def test_costs_are_those_of_brute_force(patch):
    generator = np.random.default_rng(patch)
    problem = problem_of(generator, patch=patch)
    field = random_field(problem, generator)
    index = field[..., 0] * (34 - patch + 1) + field[..., 1]
    wanted = np.take_along_axis(all_costs(problem), index[..., None], 2)[..., 0]
    assert np.abs(costs(problem, field) - wanted).max() < 1e-4


def test_search_finds_nearly_the_best_matches():
    generator = np.random.default_rng(0)
    problem = problem_of(generator, size=(20, 18))
    best = all_costs(problem).min(2)
    chance = random_field(problem, generator)
    field, found = search(problem, chance, sweeps=12, seed=1)
    before, after = costs(problem, chance).mean(), found.mean()
    assert after - best.mean() < 0.35 * (before - best.mean())  # noise: nothing to propagate, chance alone
    assert np.abs(found - costs(problem, field)).max() < 1e-5
    assert (found >= best - 1e-4).all()


def test_a_copy_is_found_exactly():
    generator = np.random.default_rng(1)
    problem = problem_of(generator, size=(36, 30), source=(60, 50))
    source, detail = problem.source, problem.source_detail
    copied = replace(
        problem, target=source[7 : 7 + 40, 9 : 9 + 34].copy(), target_detail=detail[7 : 7 + 40, 9 : 9 + 34].copy()
    )
    field, found = search(copied, random_field(copied, generator), sweeps=8, seed=0)
    assert found.max() < 1e-6
    rows, columns = np.mgrid[7:43, 9:39]
    assert np.array_equal(field[..., 0], rows) and np.array_equal(field[..., 1], columns)
    picture = source[..., :3]
    assert np.allclose(vote(copied, field, np.ones((36, 30), np.float32), picture), picture[9:45, 11:41], atol=1e-6)


def test_occupancy_counts_what_covers_a_pixel():
    generator = np.random.default_rng(2)
    problem = problem_of(generator)
    field = random_field(problem, generator)
    counted = np.zeros((40, 34))
    for v, u in field.reshape(-1, 2):
        counted[v : v + 5, u : u + 5] += 1
    assert np.array_equal(occupancy(problem, field), counted)


def test_uniformity_spreads_the_matches():
    generator = np.random.default_rng(3)
    problem = problem_of(generator, size=(60, 60))
    flat = replace(problem, target=np.full_like(problem.target, 0.5))
    spreads = []
    for weight in (0.0, 0.5):
        given = replace(flat, uniformity=weight)
        field, _ = search(given, random_field(given, np.random.default_rng(0)), sweeps=10, seed=0)
        spreads.append(occupancy(given, field).std())
    assert spreads[1] < 0.5 * spreads[0]


def test_matches_stay_in_the_region_of_their_label():
    generator = np.random.default_rng(4)
    labels = np.zeros((30, 26), np.uint8)
    labels[:, 13:] = 1
    problem = replace(
        problem_of(generator),
        labels=labels,
        regions=np.array([[0, 15, 0, 30], [20, 36, 5, 30]], np.int32),
        wanted=np.ones(2, np.float32),
        uniformity=0.05,
    )
    field, _ = search(problem, random_field(problem, generator), sweeps=6, seed=0)
    for label, (top, bottom, left, right) in enumerate(problem.regions):
        inside = field[labels == label]
        assert (inside >= (top, left)).all() and (inside < (bottom, right)).all()


def test_the_number_of_processors_does_not_matter(monkeypatch):
    generator = np.random.default_rng(5)
    problem = problem_of(generator, size=(97, 40), uniformity=0.1)
    start = random_field(problem, generator)
    results = []
    for number in (1, 4):
        monkeypatch.setattr("impasto.texture.compiled.processors", lambda count=number: count)
        results.append(search(problem, start, sweeps=3, seed=7))
    assert np.array_equal(results[0][0], results[1][0]) and np.array_equal(results[0][1], results[1][1])


def test_votes_are_weighted_means():
    generator = np.random.default_rng(6)
    problem = problem_of(generator, size=(9, 8))
    field, weights = random_field(problem, generator), generator.random((9, 8), dtype=np.float32)
    colors = generator.random((40, 34, 3), dtype=np.float32)
    sums, totals = np.zeros((13, 12, 3)), np.zeros((13, 12, 1))
    for y in range(9):
        for x in range(8):
            v, u = field[y, x]
            sums[y : y + 5, x : x + 5] += weights[y, x] * colors[v : v + 5, u : u + 5]
            totals[y : y + 5, x : x + 5] += weights[y, x]
    wanted = (sums / totals)[2:-2, 2:-2]
    assert np.abs(vote(problem, field, weights, colors) - wanted).max() < 1e-5


# --- guides ----------------------------------------------------------------------------------------------------------


def test_guides_do_not_depend_on_contrast(coffee):
    """A paler copy of a painting has nearly the same guides: every channel is divided by its spread."""
    pale = np.clip(0.5 + 0.6 * (coffee - 0.5), 0, 1)
    settings = GuidedSettings()
    bold, soft = style_guides(coffee, settings).base, style_guides(pale, settings).base
    bold, soft = bold - bold.mean((0, 1)), soft - soft.mean((0, 1))
    assert soft.std((0, 1)) == pytest.approx(bold.std((0, 1)), rel=0.15)


def test_the_photograph_gets_the_paintings_tones(coffee, gravel):
    settings = GuidedSettings(tones=1.0)
    ours, theirs = photo_guides(gravel, coffee, settings), style_guides(coffee, settings)
    quantiles = np.linspace(0.1, 0.9, 9)
    gaps = np.quantile(ours.detail, quantiles) - np.quantile(theirs.detail, quantiles)
    assert np.abs(gaps).max() < 0.25 * theirs.detail.std() + 0.1


def test_directions_turn_with_the_picture(weave):
    stripes = np.broadcast_to((np.sin(np.arange(64) / 2) * 0.3 + 0.5)[:, None, None], (64, 64, 3)).astype(np.float32)
    settings = GuidedSettings()
    down = style_guides(stripes, settings).base[8:-8, 8:-8, 3:]
    right = style_guides(stripes.transpose(1, 0, 2).copy(), settings).base[8:-8, 8:-8, 3:]
    assert down[..., 0].mean() < -0.3 and right[..., 0].mean() > 0.3  # cosine of twice the angle
    assert np.abs(down[..., 1]).max() < 0.01


def test_detail_counts_at_edges_only(coffee):
    photo = np.full((60, 60, 3), 0.2, np.float32)
    photo[:, 30:] = 0.8
    gate = photo_guides(photo, coffee, GuidedSettings()).gate
    assert gate[:, 29:31].min() > 0.8 and gate[:, :20].max() < 0.1 and gate[:, 40:].max() < 0.1


# --- painting --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photo(photograph):
    return np.asarray(photograph, np.float32) / 255


def test_the_plan_goes_from_coarse_to_fine():
    plan = plan_steps((101, 200), [(64, 90)], GuidedSettings(iterations=3))
    assert plan == [((50, 100), 6), ((101, 200), 3)]
    assert plan_steps((10, 500), [(400, 400)], QUICK) == [((10, 500), 1)]


def test_a_painting_of_itself_stays_itself(coffee):
    painted = paint(coffee, [coffee], np.zeros(coffee.shape[:2], np.uint8), GuidedSettings(iterations=2))
    assert np.abs(painted - coffee).mean() < 0.06
    assert np.corrcoef(luminance(painted).ravel(), luminance(coffee).ravel())[0, 1] > 0.93


def test_it_has_the_photographs_shapes_and_the_paintings_patches(photo, gravel):
    """Light and dark of the photograph; patches that all lie near one of the painting's."""
    painted = paint(photo, [gravel], np.zeros((96, 96), np.uint8), GuidedSettings(iterations=2))
    from scipy.ndimage import gaussian_filter
    from scipy.spatial import cKDTree

    blurred = [gaussian_filter(luminance(picture), 3).ravel() for picture in (painted, photo)]
    assert np.corrcoef(*blurred)[0, 1] > 0.8

    def patches(picture):
        return np.lib.stride_tricks.sliding_window_view(luminance(picture), (5, 5)).reshape(-1, 25)

    tree = cKDTree(patches(gravel))
    ours, theirs = (np.mean(tree.query(patches(picture)[::7])[0]) for picture in (painted, photo))
    assert ours < 0.55 * theirs


def test_more_structure_is_nearer_to_the_photograph(photo, gravel):
    def alike(structure):
        painted = paint(
            photo, [gravel], np.zeros((96, 96), np.uint8), GuidedSettings(iterations=1, structure=structure)
        )
        return np.corrcoef(luminance(painted).ravel(), luminance(photo).ravel())[0, 1]

    assert alike(4.0) > alike(1.0) > alike(0.0)


def test_painting_follows_its_seed_and_tells_its_steps(photo, coffee):
    labels, steps = np.zeros((96, 96), np.uint8), []
    first = paint(photo, [coffee], labels, QUICK, seed=1, on_step=steps.append)
    again, other = (paint(photo, [coffee], labels, QUICK, seed=seed) for seed in (1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    plan = plan_steps((96, 96), [(96, 96)], QUICK)
    assert [step.size for step in steps] == [size for size, count in plan for _ in range(count)]
    assert [step.number for step in steps] == list(range(1, steps[0].count + 1)) and steps[-1].done == 1
    assert all(step.picture.shape == (*step.size, 3) for step in steps)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 4), (31, 27)])
@pytest.mark.parametrize("style", [(1, 1), (2, 40), (33, 29)])
def test_any_sizes_go_together(photo, coffee, size, style):
    painted = paint(photo[: size[0], : size[1]], [coffee[: style[0], : style[1]]], np.zeros(size, np.uint8), QUICK)
    assert painted.shape == (*size, 3) and np.isfinite(painted).all()
    assert painted.min() >= 0 and painted.max() <= 1


def test_pictures_of_one_colour(photo, coffee):
    grey = np.full((40, 40, 3), 0.5, np.float32)
    labels = np.zeros((40, 40), np.uint8)
    assert np.isfinite(paint(grey, [coffee], labels, QUICK)).all()
    assert np.allclose(paint(photo[:40, :40], [grey], labels, QUICK), 0.5, atol=1e-6)


# --- several paintings -----------------------------------------------------------------------------------------------


def test_shares_of_0_and_1_are_exact_and_areas_grow_with_shares(photo, gravel, coffee):
    mask = np.zeros((96, 96), np.float32)
    mask[:, 40:] = 1
    labels = label_map(photo, [gravel, coffee], [1 - mask, mask], QUICK)
    assert np.array_equal(labels, mask.astype(np.uint8))
    before = np.zeros((96, 96), bool)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        maps = [np.full((96, 96), weight, np.float32) for weight in (1 - share, share)]
        taken = label_map(photo, [gravel, coffee], maps, QUICK) == 1
        assert taken.mean() == pytest.approx(share, abs=1e-3) and not (before & ~taken).any()
        before = taken


def test_three_styles_get_their_shares(photo, gravel, coffee):
    maps = [np.full((96, 96), weight, np.float32) for weight in (0.1, 0.2, 0.3)]  # ratios count
    labels = label_map(photo, [gravel, coffee, photo], maps, QUICK)
    assert np.bincount(labels.ravel()) / labels.size == pytest.approx([1 / 6, 1 / 3, 1 / 2], abs=0.01)


def test_each_region_takes_its_own_paintings_colours(photo):
    red, blue = (np.broadcast_to(np.array(color, np.float32), (40, 50, 3)).copy() for color in ([1, 0, 0], [0, 0, 1]))
    labels = np.zeros((96, 96), np.uint8)
    labels[50:] = 1
    painted = paint(photo, [red, blue[:30]], labels, QUICK)
    assert np.allclose(painted[:46], [1, 0, 0], atol=1e-6) and np.allclose(painted[54:], [0, 0, 1], atol=1e-6)


def test_what_a_grey_painting_cannot_show_as_colour_becomes_tone(gravel, coffee):
    """Two colours of one luma."""
    photo = np.full((60, 60, 3), 0.5, np.float32)
    photo[:, 30:] = [0.9, 0.5 - 0.4 * 0.2126 / 0.7152, 0.5]
    assert np.ptp(luminance(photo)) < 1e-6
    tone = photo_guides(photo, gravel, GuidedSettings()).detail[30, :, 0]
    assert tone[10] - tone[50] > 0.5
    assert photo_guides(photo, gravel, GuidedSettings()).gate[30, 29:31].min() > 0.8
    vivid = np.random.default_rng(0).random((40, 40, 3)).astype(np.float32)
    assert np.ptp(photo_guides(photo, vivid, GuidedSettings()).detail[30, :, 0]) < 0.5
