"""Write the bases of the overlays from the chart: `make manifests`. One source, the chart; a test sees that they agree.

Rendered by Helm's own SDK, with the example values of the same name, for the namespace `halfdrop`.
"""

import sys
from pathlib import Path

import helm_python
import yaml

HERE = Path(__file__).resolve().parent
CHART = HERE.parent / "helm" / "halfdrop"
BASES = ("one-region", "hub", "edge")
RELEASE = NAMESPACE = "halfdrop"

HEAD = "# Rendered from deploy/helm/halfdrop with examples/{name}.yaml by `make manifests`. Not to be edited.\n"


def render_base(name: str) -> str:
    """Return all objects of a base as one stream of YAML."""
    values = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text())
    with helm_python.Chart.load(CHART) as chart:
        rendered = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    streams = [rendered[path] for path in sorted(rendered) if path.endswith(".yaml")]
    objects = [one for stream in streams for one in yaml.safe_load_all(stream) if one]
    return HEAD.format(name=name) + yaml.safe_dump_all(objects, sort_keys=False, width=120, allow_unicode=True)


def main() -> None:
    """Write every base."""
    for name in BASES:
        (HERE / "base" / name / "manifests.yaml").write_text(render_base(name))
        sys.stdout.write(f"wrote base/{name}\n")


if __name__ == "__main__":
    main()
