from typing import Annotated

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.runtime.settings import describe_settings, load_settings


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    is_open: bool = False
    url: str


def test_settings_are_read_from_their_variables_with_their_types() -> None:
    settings = load_settings(
        Sample, prefix="HD_", environ={"HD_PORT": "99", "HD_IS_OPEN": "true", "HD_URL": "x", "PATH": "/bin"}
    )
    assert settings == Sample(port=99, is_open=True, url="x")


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"HD_URL": "x", "HD_PORT": "70000"}, "HD_PORT"),
        ({"HD_URL": "x", "HD_PORT": "http"}, "HD_PORT"),
        ({"HD_URL": "x", "HD_PROT": "80"}, "HD_PROT"),
        ({"HD_PORT": "80"}, "HD_URL"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_its_variable(environ: dict[str, str], variable: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_settings(Sample, prefix="HD_", environ=environ)
    assert caught.value.field == variable


def test_settings_describe_themselves() -> None:
    assert describe_settings(Sample, prefix="HD_") == [
        ("HD_PORT", "int", "8080"),
        ("HD_IS_OPEN", "bool", "False"),
        ("HD_URL", "str", "required"),
    ]
