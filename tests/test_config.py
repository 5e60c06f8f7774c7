from __future__ import annotations

import dataclasses
import math

import pytest

from impasto import errors
from impasto.checks import check_choice, check_range
from impasto.config import StylizeConfig, check_settings, field_info, resolve_options, setting
from impasto.errors import ImpastoError, MissingExtraError, UnknownNameError, UsageError


def ranged_fields():
    found = [info for info in dataclasses.fields(StylizeConfig) if info.metadata]
    return [info for info in found if info.metadata["smallest"] is not None]


@pytest.mark.parametrize("info", ranged_fields(), ids=lambda info: info.name)
def test_a_setting_takes_its_range_and_nothing_beyond(info):
    smallest, largest = info.metadata["smallest"], info.metadata["largest"]
    for value in (smallest, largest):
        assert getattr(StylizeConfig(**{info.name: value}), info.name) == value
    for value in (smallest - 1, largest * 2 + 1, math.nan, math.inf, "1", True):
        with pytest.raises(UsageError, match=info.name):
            StylizeConfig(**{info.name: value})


@pytest.mark.parametrize("name", ["size", "seed", "tile"])
def test_whole_numbers_are_asked_for(name):
    with pytest.raises(UsageError, match=f"{name} must be a whole number, not 300.5"):
        StylizeConfig(**{name: 300.5})


@pytest.mark.parametrize("name", ["preserve_color", "mix_mode"])
def test_a_choice_takes_its_choices(name):
    default, metadata = field_info(StylizeConfig, name)
    assert default in metadata["choices"]
    for choice in metadata["choices"]:
        StylizeConfig(**{name: choice})
    with pytest.raises(UsageError, match=f"{name} must be one of {', '.join(metadata['choices'])}, not 'other'"):
        StylizeConfig(**{name: "other"})


def test_every_setting_has_help():
    assert all(len(info.metadata["help"]) > 10 for info in dataclasses.fields(StylizeConfig) if info.metadata)


def test_an_unknown_setting_is_refused():
    with pytest.raises(UsageError, match="StylizeConfig has no setting called 'strenght'"):
        field_info(StylizeConfig, "strenght")


def test_checks_hand_the_value_back_or_name_it():
    assert check_range("x", 0.5, 0, 1) == 0.5
    assert check_choice("x", "a", ("a", "b")) == "a"
    with pytest.raises(UsageError, match="x must lie between 0 and 1, not nan"):
        check_range("x", math.nan, 0, 1)


def test_an_unknown_name_is_answered_with_near_ones_or_all():
    near = UnknownNameError("engine", "Brsh", ["brush", "quilt"])
    assert near.near == ["brush"] and "did you mean brush?" in str(near)
    assert "known: brush, quilt" in str(UnknownNameError("engine", "xyz", ["quilt", "brush"]))


def test_a_missing_extra_names_the_install():
    assert "pip install 'impasto[torch]'" in str(MissingExtraError("training", "torch"))


def test_the_tree_of_errors_in_the_text_is_the_one_in_the_code():
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, ImpastoError)
        (line,) = (line for line in errors.__doc__.splitlines() if f" {name} " in line.replace("─", " "))
        numbers = [int(word) for word in line.split() if word.isdigit()]
        assert numbers == [kind.exit_code, kind.http_status]


@dataclasses.dataclass(frozen=True)
class _Own:
    steps: int = setting(10, "how many", smallest=1, largest=99)
    rate: float = setting(0.5, "how fast", smallest=0.0, largest=1.0)
    way: str = setting("left", "where to", choices=("left", "right"))
    file: str | None = setting(None, "which")
    loud: bool = setting(False, "whether")

    def __post_init__(self) -> None:
        check_settings(self)


def test_options_are_read_from_texts_and_values():
    assert resolve_options(_Own, {}) == _Own()
    texts = {"steps": "20", "rate": "1", "way": "right", "file": "a.pt", "loud": "yes"}
    assert resolve_options(_Own, texts) == _Own(20, 1.0, "right", "a.pt", True)
    assert resolve_options(_Own, {"file": "none", "loud": "0"}) == _Own()
    assert resolve_options(_Own, {"steps": 3}) == _Own(3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"step": "3"}, "did you mean steps?"),
        ({"steps": "3.5"}, "steps must be a whole number"),
        ({"steps": "0"}, "steps must lie between 1 and 99"),
        ({"steps": True}, "steps must be a number"),
        ({"rate": "fast"}, "rate must be a number"),
        ({"rate": "nan"}, "rate must lie between"),
        ({"way": "up"}, "way must be one of left, right"),
        ({"file": 3}, "file must be a text"),
        ({"loud": "maybe"}, "loud must be true or false"),
        ({"loud": 1}, "loud must be true or false"),
    ],
)
def test_wrong_options_are_refused(given, words):
    with pytest.raises(UsageError, match=words):
        resolve_options(_Own, given)
