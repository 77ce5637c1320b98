"""The templates at hand: those that are shipped, and those of a folder beside them.

They live with the models because edges offer and check them, the command line shows them, and neither imports the
other. A hub reads none: what it needs travels with the job."""

import re
from collections.abc import Iterable
from pathlib import Path

from halfdrop.contracts.errors import InvalidInput, NotFound
from halfdrop.contracts.template_check import TEMPLATE_MAX_BYTES, parse_template
from halfdrop.contracts.templates import Template, template_digest

SHIPPED_DIR = Path(__file__).parent / "shipped_templates"
SUFFIX = ".toml"
TEMPLATES_MAX = 1000
"""Of one folder: more is no collection but a mistake."""

_REFERENCE = re.compile(r"([a-z][a-z0-9-]{0,39})(?:@([1-9][0-9]{0,6}))?")


class TemplateShelf:
    """Templates by name and version."""

    def __init__(self, templates: Iterable[Template]) -> None:
        """Raises InvalidInput for two that say different things under one name and version."""
        self._by_name: dict[str, dict[int, Template]] = {}
        for template in templates:
            versions = self._by_name.setdefault(template.name, {})
            known = versions.get(template.version)
            if known is not None and template_digest(known) != template_digest(template):
                allowed = "a higher version for a template that says something else"
                raise InvalidInput("version", got=f"{template.reference} twice", allowed=allowed)
            versions[template.version] = template

    def __len__(self) -> int:
        return len(self.newest())

    def newest(self) -> list[Template]:
        """Return the newest version of each template, by name."""
        return [self._by_name[name][max(self._by_name[name])] for name in sorted(self._by_name)]

    def versions(self, name: str) -> list[int]:
        """Return the versions of a template that there are, the newest first."""
        return sorted(self._by_name.get(name, ()), reverse=True)

    def find(self, reference: str) -> Template:
        """Return the template called "name" (its newest version) or "name@version". Raises NotFound."""
        found = _REFERENCE.fullmatch(reference)
        versions = self._by_name.get(found[1], {}) if found else {}
        version = int(found[2]) if found and found[2] else max(versions, default=0)
        if version not in versions:
            known = ", ".join(template.reference for template in self.newest()) or "none"
            raise NotFound(f"no template is called {reference[:60]!r}; there are: {known}")
        return versions[version]


def open_shelf(folder: Path | None = None) -> TemplateShelf:
    """Return the shipped templates and those in `folder`. Raises InvalidInput, naming the file, for one that is
    wrong."""
    folders = [SHIPPED_DIR] if folder is None else [SHIPPED_DIR, folder]
    return TemplateShelf(template for each in folders for template in _read_folder(each))


def read_template(path: Path) -> Template:
    """Return the template in a file. Raises InvalidInput, naming the file, for one that is wrong or not there."""
    try:
        data = path.read_bytes()[: TEMPLATE_MAX_BYTES + 1]
        return parse_template(data.decode())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InvalidInput(str(path), got=str(reason), allowed="a template: a TOML file in UTF-8") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path.name}: {error.field}", got=error.got, allowed=error.allowed) from error


def _read_folder(folder: Path) -> list[Template]:
    if not folder.is_dir():
        raise InvalidInput("templates_dir", got=str(folder), allowed="a folder of .toml files")
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if len(paths) > TEMPLATES_MAX:
        raise InvalidInput("templates_dir", got=f"{len(paths)} files", allowed=f"up to {TEMPLATES_MAX}")
    return [read_template(path) for path in paths]
