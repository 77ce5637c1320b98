from pathlib import Path

import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.service.pools import read_pools
from halfdrop.forecaster.service.settings import PREFIX, PlannerSettings
from halfdrop.runtime.settings import describe_settings

PAGE = (Path(__file__).parents[4] / "docs" / "planner.md").read_text()


def test_the_page_names_every_setting_and_no_other() -> None:
    documented = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith(f"| `{PREFIX}")}
    assert documented == {name for name, _, _ in describe_settings(PlannerSettings, prefix=PREFIX)}


def test_the_pools_of_the_page_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pools.toml"
    path.write_text(PAGE.partition("```toml\n")[2].partition("```")[0])
    (terms,) = read_pools(path).values()
    assert (terms.key, terms.policy.replicas_max, terms.mixed_price) == ("eu.h100", 64, pytest.approx(2.49 * 0.82))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[pool]]\nname = 'no region'\n",
        "[[pool]]\nregion = 'eu'\nprice = 3\n",
        "[[pool]]\nregion = 'eu'\nboot_min_s = 500\n",
        "[[pool]]\nregion = 'eu'\nspot_share = 1.5\n",
        "[[pool]]\nregion = 'eu'\n[pool.policy]\nreplicas_min = 9\nreplicas_max = 3\n",
        "[[pool]]\nregion = 'eu'\n[[pool]]\nregion = 'eu'\n",
    ],
)
def test_pools_that_contradict_themselves_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pools.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput):
        read_pools(path)
