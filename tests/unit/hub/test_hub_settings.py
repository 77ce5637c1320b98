from pathlib import Path

import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.hub.settings import PREFIX, HubSettings
from halfdrop.runtime.settings import describe_settings, load_settings

README = Path(__file__).parents[3] / "hub" / "README.md"


def test_the_readme_names_every_setting_and_no_other() -> None:
    documented = {line.split("`")[1] for line in README.read_text().splitlines() if line.startswith(f"| `{PREFIX}")}
    assert documented == {name for name, _, _ in describe_settings(HubSettings, prefix=PREFIX)}


def test_settings_are_read_from_the_environment() -> None:
    environ = {"HALFDROP_HUB_OBJECTS_URL": "memory://", "HALFDROP_HUB_GRACE_S": "5", "HALFDROP_HUB_WARM": "false"}
    settings = load_settings(HubSettings, prefix=PREFIX, environ=environ)
    assert (settings.grace_s, settings.warm, settings.max_deliver) == (5.0, False, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("NAME", "a b"), ("THREADS", "0"), ("GRACE_S", "-1"), ("DEVICE", "tpu"), ("MAX_DELIVER", "many"), ("THREDS", "2")],
)
def test_a_setting_outside_its_limits_is_refused_by_its_name(name: str, value: str) -> None:
    environ = {"HALFDROP_HUB_OBJECTS_URL": "memory://", f"HALFDROP_HUB_{name}": value}
    with pytest.raises(InvalidInput) as caught:
        load_settings(HubSettings, prefix=PREFIX, environ=environ)
    assert caught.value.field == f"HALFDROP_HUB_{name}"
