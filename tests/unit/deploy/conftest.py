"""The chart, loaded once, and rendered by Helm's own SDK; what is rendered is read as a cluster would read it."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate.utils
import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy/helm/halfdrop"
EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))

# It reads the OpenAPI's megabytes anew for each object.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)

Object = dict[str, Any]
Render = Callable[..., list[Object]]


@pytest.fixture(scope="session")
def chart() -> Iterator[helm_python.Chart]:
    with helm_python.Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def render(chart: helm_python.Chart) -> Render:
    """`render(values)`: the objects of a release called halfdrop in the namespace halfdrop."""

    def rendered(values: Object, *, release: str = "halfdrop") -> list[Object]:
        files = chart.render(values, name=release, namespace="halfdrop")
        texts = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
        return [one for text in texts for one in yaml.load_all(text, yaml.CSafeLoader) if one]

    return rendered


@pytest.fixture(scope="session")
def examples(render: Render) -> dict[str, list[Object]]:
    """What each of the chart's examples is rendered to, and the least that can be given."""
    given = {name: yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text()) for name in EXAMPLES}
    given["least"] = {"objects": {"url": "s3://patterns"}}
    return {name: render(values) for name, values in given.items()}
