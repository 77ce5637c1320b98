"""Templates at hand: the shipped ones are right, and files beside them are found or refused by name."""

import shutil
from pathlib import Path

import pytest

from halfdrop.contracts.errors import InvalidInput, NotFound
from halfdrop.contracts.template_check import say_sizes
from halfdrop.models.template_shelf import SHIPPED_DIR, open_shelf, read_template


def test_at_least_six_templates_are_shipped_each_under_its_own_name() -> None:
    paths = sorted(SHIPPED_DIR.glob("*.toml"))
    assert len(paths) >= 6
    for path in paths:
        template = read_template(path)
        assert template.name == path.stem
        assert template.gates.seams is not None, f"{path.stem} looks at no seams"
        assert say_sizes(template)


def test_a_name_means_the_newest_version_and_a_version_stays() -> None:
    shelf = open_shelf()
    assert shelf.find("wallpaper") == shelf.find("wallpaper@1")
    for wrong in ("wallpaper@2", "carpet", "Wallpaper", "wallpaper@", "../wallpaper"):
        with pytest.raises(NotFound, match="there are: block-print@1"):
            shelf.find(wrong)


def test_a_folder_adds_templates_and_versions(tmp_path: Path) -> None:
    text = (SHIPPED_DIR / "wallpaper.toml").read_text()
    (tmp_path / "next.toml").write_text(text.replace("version = 1", "version = 2").replace("1060]", "1060, 640]"))
    shelf = open_shelf(tmp_path)
    assert shelf.find("wallpaper").version == 2
    assert shelf.versions("wallpaper") == [2, 1]
    assert shelf.find("wallpaper@1").version == 1


def test_a_wrong_file_and_a_version_that_says_two_things_are_refused_by_name(tmp_path: Path) -> None:
    shutil.copy(SHIPPED_DIR / "wallpaper.toml", tmp_path / "same.toml")
    assert len(open_shelf(tmp_path)) == len(open_shelf())
    (tmp_path / "same.toml").write_text((SHIPPED_DIR / "wallpaper.toml").read_text().replace("1060]", "1060, 640]"))
    with pytest.raises(InvalidInput, match="wallpaper@1 twice"):
        open_shelf(tmp_path)
    (tmp_path / "same.toml").write_text("name = 3")
    with pytest.raises(InvalidInput, match=r"same\.toml: name: got '?3"):
        open_shelf(tmp_path)
    with pytest.raises(InvalidInput, match=r"gone\.toml"):
        read_template(tmp_path / "gone.toml")
    with pytest.raises(InvalidInput, match="templates_dir"):
        open_shelf(tmp_path / "nowhere")
