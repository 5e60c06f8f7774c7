import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from impasto.errors import FieldError, OutputError, UsageError
from impasto.field import StyleCode, StyleField, StyleLayer, blend_codes, slerp


def code(*vector, engine="brush", weights="0123456789abcdef", name="style"):
    return StyleCode(np.array(vector or (1, 0), np.float32), engine, weights, name)


shares = st.floats(0, 1e6, allow_subnormal=False)
vectors = npst.arrays(np.float32, 8, elements=st.floats(-100, 100, width=32))
maps = npst.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32))


# --- fields ----------------------------------------------------------------------------------------------------------


@given(st.lists(shares, min_size=1, max_size=6), st.floats(0, 1))
def test_a_mix_keeps_its_proportions_and_sums_to_the_strength(values, strength):
    assume(sum(values) > 0)
    field = StyleField.mixed([code()] * len(values), values, strength)
    weights = [layer.weight for layer in field.layers]
    assert all(weight >= 0 for weight in weights)
    assert float(field.total) == pytest.approx(strength, abs=1e-6)
    assert weights == pytest.approx([strength * value / sum(values) for value in values], abs=1e-9)


def test_a_mix_without_weights_is_even():
    field = StyleField.mixed([code(name=name) for name in "abcd"])
    assert [layer.weight for layer in field.layers] == [0.25] * 4
    assert [layer.code.name for layer in field.layers] == list("abcd")


@given(maps, maps)
def test_two_masked_fields_sum_within_one(first, second):
    a, b = StyleField.constant(code(), 0.5).times(first), StyleField.constant(code(), 0.5).times(second)
    both = a + b
    assert both.size == (5, 7)
    assert (both.total >= 0).all() and (both.total <= 1).all()
    assert np.allclose(both.total, (first + second) / 2, atol=1e-6)


@given(maps, st.floats(0, 1, width=32))
def test_times_multiplies_every_weight_and_changes_nothing_else(mask, factor):
    field = StyleField.mixed([code(name="a"), code(name="b")], [1, 3])
    scaled = field.times(mask).times(factor)
    for layer, share in zip(scaled.layers, (0.25, 0.75), strict=True):
        assert np.allclose(layer.weight, share * mask * factor, atol=1e-6)
    assert [layer.code for layer in scaled.layers] == [layer.code for layer in field.layers]
    assert field.size is None and [layer.weight for layer in field.layers] == [0.25, 0.75]


def test_times_a_number_keeps_constant_weights_constant():
    assert StyleField.constant(code(), 0.5).times(0.5).size is None


@given(maps, st.integers(0, 4), st.integers(0, 6), st.data())
def test_a_window_is_the_part_of_every_map(mask, top, left, data):
    height, width = data.draw(st.integers(1, 5 - top)), data.draw(st.integers(1, 7 - left))
    field = StyleField.constant(code(), 0.25) + StyleField.constant(code(), 0.5).times(mask)
    window = field.window(top, left, height, width)
    assert window.size == (height, width)
    assert window.layers[0].weight == 0.25
    assert np.array_equal(window.layers[1].weight, 0.5 * mask[top : top + height, left : left + width])


def test_a_field_without_layers_weighs_nothing():
    assert float(StyleField(()).total) == 0
    assert StyleField(()).size is None


def layer(weight):
    return StyleLayer(code(name="waves"), weight)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: layer(-0.1), "'waves' must not be negative"),
        (lambda: layer(float("nan")), "'waves' holds NaN"),
        (lambda: layer(np.array([[0, np.inf]])), "'waves' holds NaN or infinity"),
        (lambda: layer(np.zeros((2, 2, 1))), "'waves' must be a number or a map [H, W], not (2, 2, 1)"),
        (lambda: layer(np.zeros((0, 3))), "negative or empty"),
        (lambda: StyleField((layer(0.75), layer(0.5))), "add up to 1.250"),
        (lambda: StyleField((layer(np.full((2, 2), 0.75)), layer(0.5))), "add up to 1.250"),
        (lambda: StyleField((layer(np.zeros((2, 3))), layer(np.zeros((3, 2))))), "one size, not [(2, 3), (3, 2)]"),
        (lambda: StyleField.constant(code()) + StyleField.constant(code(), 0.5), "add up to 1.500"),
        (lambda: StyleField.constant(code()).times(1.5), "add up to 1.500"),
        (lambda: StyleField.constant(code()).times(-1), "negative"),
        (lambda: StyleField.constant(code()).times(np.ones(3)), "a mask of (3,) does not fit"),
        (lambda: StyleField((layer(np.ones((2, 3))),)).times(np.ones((1, 3))), "a mask of (1, 3) does not fit"),
        (lambda: StyleField((layer(np.ones((2, 3))),)).window(5, 5, 1, 1), "empty"),
        (lambda: StyleField.mixed([]), "at least one style"),
        (lambda: StyleField.mixed([code()], [1, 2]), "1 styles need 1 weights, not 2"),
        (lambda: StyleField.mixed([code(), code()], [0, 0]), "sum to zero"),
        (lambda: StyleField.mixed([code(), code()], [1e308, 1e308]), "sum to infinity"),
        (lambda: StyleField.mixed([code(), code()], [1, -1]), "not negative, not [1.0, -1.0]"),
        (lambda: StyleField.mixed([code(), code()], [1, float("nan")]), "must be finite"),
    ],
)
def test_what_makes_no_field_is_refused(make, words):
    with pytest.raises(FieldError) as caught:
        make()
    assert words in str(caught.value)


# --- codes -----------------------------------------------------------------------------------------------------------


@given(vectors, st.text(max_size=20).filter(lambda text: "\x00" not in text))
def test_a_saved_code_comes_back_exactly(tmp_path_factory, vector, name):
    path = tmp_path_factory.getbasetemp() / "code.npz"
    StyleCode(vector, "brush", "0123456789abcdef", name).save(path)
    back = StyleCode.load(path)
    assert np.array_equal(back.vector, vector) and back.vector.dtype == np.float32
    assert (back.engine, back.weights, back.name) == ("brush", "0123456789abcdef", name)


def test_a_file_that_holds_no_code_is_refused_by_name(tmp_path):
    path = tmp_path / "code.npz"
    np.savez(path, other=np.zeros(3))
    stored = path.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    contents = {
        "empty": b"",
        "text": b"hello",
        "other": stored,
        "cut": stored[: len(stored) // 2],
        "array": (tmp_path / "array.npy").read_bytes(),
    }
    for kind, content in contents.items():
        path = tmp_path / f"{kind}.npz"
        path.write_bytes(content)
        with pytest.raises(FieldError, match=f"{kind}.npz' holds no style code"):
            StyleCode.load(path)


def test_a_code_with_nan_in_its_file_is_refused(tmp_path):
    np.savez(tmp_path / "nan.npz", vector=np.array([1, np.nan]), about=np.array(["brush", "0", "x"]))
    with pytest.raises(FieldError, match="NaN"):
        StyleCode.load(tmp_path / "nan.npz")


def test_codes_say_where_they_cannot_be_read_or_written(tmp_path):
    with pytest.raises(FieldError, match=r"missing\.npz' cannot be read: No such file"):
        StyleCode.load(tmp_path / "missing.npz")
    with pytest.raises(OutputError, match=r"cannot write the style code .*No such file"):
        code().save(tmp_path / "nowhere" / "code.npz")


@pytest.mark.parametrize("vector", [np.zeros((2, 2)), np.zeros(0), np.float32(3)])
def test_a_code_is_a_vector(vector):
    with pytest.raises(FieldError, match=r"'style' must be a vector \[D\]"):
        StyleCode(vector, "brush", "0")


# --- between codes ---------------------------------------------------------------------------------------------------


@given(vectors, vectors)
def test_slerp_begins_at_the_first_and_ends_at_the_second(first, second):
    assert np.allclose(slerp(first, second, 0), first, atol=1e-3)
    assert np.allclose(slerp(first, second, 1), second, atol=1e-3)


@given(vectors, vectors, st.floats(0, 1))
def test_slerp_interpolates_the_length(first, second, share):
    lengths = np.linalg.norm(first), np.linalg.norm(second)
    assume(min(lengths) > 1e-2)
    assume(np.dot(first, second) / np.prod(lengths) > -0.999)  # opposite vectors have no way between on the sphere
    wanted = (1 - share) * lengths[0] + share * lengths[1]
    assert np.linalg.norm(slerp(first, second, share)) == pytest.approx(wanted, rel=1e-3)


def test_slerp_turns_evenly():
    middle = slerp(np.array([1, 0], np.float32), np.array([0, 1], np.float32), 1 / 3)
    assert np.allclose(middle, [np.cos(np.pi / 6), np.sin(np.pi / 6)], atol=1e-6)


@given(st.lists(vectors, min_size=1, max_size=5), st.data())
def test_a_linear_blend_is_the_weighted_mean(stored, data):
    values = data.draw(st.lists(st.floats(0, 10), min_size=len(stored), max_size=len(stored)))
    assume(sum(values) > 1e-3)
    blended = blend_codes([code(*vector) for vector in stored], values)
    assert np.allclose(blended.vector, np.average(stored, axis=0, weights=values), atol=1e-3)


@pytest.mark.parametrize("mode", ["linear", "slerp"])
def test_a_blend_with_one_full_share_is_that_code(mode):
    codes = [code(3, 0, name="a"), code(0, 5, name="b"), code(1, 1, name="c")]
    blended = blend_codes(codes, [0, 2, 0], mode=mode)
    assert np.allclose(blended.vector, [0, 5], atol=1e-6)
    assert blended.name == "a 0.00 + b 1.00 + c 0.00"


def test_a_spherical_blend_keeps_the_length_that_a_straight_one_loses():
    codes = [code(1, 0), code(0, 1)]
    assert np.linalg.norm(blend_codes(codes, None, mode="slerp").vector) == pytest.approx(1)
    assert np.linalg.norm(blend_codes(codes, None, mode="linear").vector) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("other", [code(engine="gatys"), code(weights="f" * 16)])
def test_codes_of_other_engines_or_weights_are_not_blended(other):
    with pytest.raises(FieldError, match="different engines or weights"):
        blend_codes([code(), other], None)


def test_an_unknown_way_to_blend_is_refused():
    with pytest.raises(UsageError, match="mode must be one of linear, slerp, not 'cubic'"):
        blend_codes([code()], None, mode="cubic")


def test_a_code_keeps_its_parts_when_saved(tmp_path):
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    kept = StyleCode(np.ones(3, np.float32), "quilt", "0" * 16, "waves", {"picture": picture})
    kept.save(tmp_path / "code.npz")
    read = StyleCode.load(tmp_path / "code.npz")
    assert np.array_equal(read.parts["picture"], picture) and read.parts["picture"].dtype == np.uint8
    assert read.digest == kept.digest != StyleCode(kept.vector, "quilt", "0" * 16, "waves").digest
    with pytest.raises(FieldError, match="more than vectors"):
        blend_codes([kept, kept], None)
