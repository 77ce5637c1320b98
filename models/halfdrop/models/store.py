"""The local model store: a folder of bundles, each in a folder named by its digest, and names for them.

    <store>/<digest>/manifest.json …
    <store>/aliases.json                {"house@stable": "<digest>"}
    <store>/.incoming-…                 being put together, or left by a process that was killed

A bundle becomes visible by one rename, after all its files were written, read again and found right; so a kill at any
time leaves a whole bundle or none. The bundles that came with the package are listed and found beside those of the
store, and cannot be removed from here. Several processes may use one store.
"""

import re
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from halfdrop.contracts.errors import InvalidInput, NotFound, PermanentError
from halfdrop.models.bundle import (
    MANIFEST_NAME,
    Bundle,
    OnProgress,
    bad_bundle,
    open_bundle,
    peek_bundle,
    plain_file,
    shipped_bundle_dirs,
)
from halfdrop.models.staging import copy_files, flush, flush_tree, hidden_place, hold_store, open_room

ALIASES_NAME = "aliases.json"
ALIASES_MAX = 1_000
PREFIX_MIN_CHARS = 8
"""Shortest beginning of a digest that names a bundle: 32 bits, which the bundles of a store do not share by chance."""

ALIAS_FORM = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}@[a-z0-9][a-z0-9._-]{0,31}")
ALIAS_ALLOWED = 'NAME@LABEL in lower case, such as "house@stable"'
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(rf"[0-9a-f]{{{PREFIX_MIN_CHARS},64}}")


class ModelStore:
    """The bundles in `directory`, which is made when first needed, and those that came with the package."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def bundles(self) -> list[Bundle]:
        """Return all bundles, the shipped ones first; their files were looked at by name and size, not inside."""
        whole = [found for found in self._scan().values() if isinstance(found, Bundle)]
        return sorted(whole, key=lambda bundle: (not bundle.is_shipped, bundle.name, bundle.version, bundle.digest))

    def damaged(self) -> dict[str, PermanentError]:
        """Return what is wrong with each folder that should be a bundle and is none, by the folder's name."""
        return {name: found for name, found in self._scan().items() if isinstance(found, PermanentError)}

    def find(self, reference: str) -> Bundle:
        """Return the one bundle that `reference` means: an alias, name, name-version, name:digest, digest, or at
        least the first eight digits of one. Its files are looked at by name and size; `open_bundle` reads them.

        Raises NotFound, which lists what there is, for a reference that nothing or more than one thing answers to, and
        PermanentError(bad-bundle) for the digest of a damaged bundle.
        """
        wanted, bundles = self.aliases().get(reference, reference), self.bundles()
        found = {bundle.digest: bundle for bundle in reversed(bundles) if bundle.answers_to(wanted)}
        if not found and _PREFIX.fullmatch(wanted):
            found = {bundle.digest: bundle for bundle in reversed(bundles) if bundle.digest.startswith(wanted)}
            damaged = [error for name, error in self.damaged().items() if name.startswith(wanted)]
            if damaged and not found:
                raise damaged[0]
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise NotFound(f"{reference!r} may be {_list(found.values(), ' or ')}; name one by its digest")
        meant = f" (which is {wanted[:12]})" if wanted != reference else ""
        raise NotFound(f"no model {reference[:80]!r}{meant} in {self.directory}; there are: {_list(bundles)}")

    def add(self, directory: Path, *, on_progress: OnProgress | None = None) -> Bundle:
        """Copy the bundle in `directory` into the store, unless it is there already, and return the store's.

        on_progress is told ("copying" and then "checking", bytes, of bytes). See `adopt` for what is there already.
        Raises PermanentError(bad-bundle) for a bundle that is not whole or holds links, and PermanentError(disk-full).
        """
        bundle = peek_bundle(directory)
        manifest = plain_file(directory, MANIFEST_NAME).read_bytes()
        with self.incoming(size_bytes=bundle.size_bytes + len(manifest)) as room:
            room.mkdir()
            (room / MANIFEST_NAME).write_bytes(manifest)
            copy_files(directory, room, bundle.manifest.files, on_progress)
            return self.adopt(room, on_progress=on_progress)

    def incoming(self, *, size_bytes: int = 0) -> AbstractContextManager[Path]:
        """Open a room inside the store, out of sight, to put a bundle together in: its path, not made yet.

        Give it to `adopt` before the block ends; what is left of it then is removed. Raises PermanentError(disk-full)
        unless there is room for `size_bytes`.
        """
        return open_room(self.directory, size_bytes=size_bytes)

    def adopt(self, room: Path, *, on_progress: OnProgress | None = None) -> Bundle:
        """Check every file of the bundle in `room`, make it visible, and return it.

        A bundle of these files that is here already is kept, its manifest included, unless it was damaged: then it is
        replaced. on_progress is told ("checking", bytes, of bytes). Raises PermanentError(bad-bundle).
        """
        bundle = open_bundle(room, on_progress=on_progress)
        for shipped in self.bundles():
            if shipped.is_shipped and shipped.digest == bundle.digest:
                return open_bundle(shipped.directory)
        flush_tree(room)
        home = self.directory / bundle.digest
        with hold_store(self.directory):
            if home.exists():
                try:
                    return open_bundle(home)
                except PermanentError:
                    home.rename(room.with_name("damaged"))
            room.rename(home)
            flush(self.directory)
        return msgspec.structs.replace(bundle, directory=home)

    def remove(self, reference: str, *, is_with_aliases: bool = False) -> Bundle | None:
        """Remove a bundle from the store and return what it was; None for a damaged one, which goes by its digest.

        Raises NotFound as `find` does, PermanentError(shipped) for one that came with the package, and
        PermanentError(has-aliases) for one that has aliases, unless they are to go with it.
        """
        bundle = None if reference in self.damaged() else self.find(reference)
        if bundle.is_shipped if bundle else not _DIGEST.fullmatch(reference):
            detail = f"{reference} came with this installation and is no part of the store; nothing was removed"
            raise PermanentError(detail, code="shipped")
        digest = bundle.digest if bundle else reference
        with hold_store(self.directory):
            aliases = self.aliases()
            names = [alias for alias, named in aliases.items() if named == digest]
            if names and not is_with_aliases:
                detail = f"model {digest[:12]} has aliases: {', '.join(names)}; drop them first, or remove them with it"
                raise PermanentError(detail, code="has-aliases")
            if names:
                self._write_aliases({alias: named for alias, named in aliases.items() if named != digest})
            leaving = hidden_place(self.directory)
            (self.directory / digest).rename(leaving)
        shutil.rmtree(leaving, ignore_errors=True)
        return bundle

    def aliases(self) -> dict[str, str]:
        """Return digests by alias. Raises PermanentError(bad-aliases) if the file is not as it was written."""
        path = self.directory / ALIASES_NAME
        try:
            aliases = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise PermanentError(f"{path}: {error}; mend or remove it", code="bad-aliases") from error
        for alias, digest in aliases.items():
            if not ALIAS_FORM.fullmatch(alias) or not _DIGEST.fullmatch(digest):
                detail = f"{path}: {alias[:80]!r} is no alias for a digest; mend or remove the file"
                raise PermanentError(detail, code="bad-aliases")
        return aliases

    def set_alias(self, alias: str, reference: str) -> Bundle:
        """Let `alias`, NAME@LABEL, mean a bundle from now on, whatever it meant before; return that bundle.

        Raises InvalidInput for an alias in another form or beyond ALIASES_MAX, and NotFound as `find` does.
        """
        if not ALIAS_FORM.fullmatch(alias):
            raise InvalidInput("alias", got=alias, allowed=ALIAS_ALLOWED)
        self.find(reference)
        self.directory.mkdir(parents=True, exist_ok=True)
        with hold_store(self.directory):
            bundle = self.find(reference)
            aliases = self.aliases() | {alias: bundle.digest}
            if len(aliases) > ALIASES_MAX:
                raise InvalidInput("alias", got=alias, allowed=f"{ALIASES_MAX} aliases in all; drop one first")
            self._write_aliases(aliases)
        return bundle

    def drop_alias(self, alias: str) -> None:
        """Forget an alias. Raises NotFound, which lists what there is, if there is none of that name."""
        if alias not in self.aliases():
            there_are = ", ".join(sorted(self.aliases())) or "none"
            raise NotFound(f"no alias {alias[:80]!r} in {self.directory}; there are: {there_are}")
        with hold_store(self.directory):
            self._write_aliases({name: digest for name, digest in self.aliases().items() if name != alias})

    def _scan(self) -> dict[str, Bundle | PermanentError]:
        """Return what is in each folder that should be a bundle, by the folder's name."""
        stored = [folder for folder in self.directory.glob("[0-9a-f]*") if _DIGEST.fullmatch(folder.name)]
        found: dict[str, Bundle | PermanentError] = {}
        for folder in (*shipped_bundle_dirs(), *sorted(stored)):
            try:
                found[folder.name] = _peek(folder)
            except PermanentError as error:
                if folder.exists():  # if not, another process has just removed it
                    found[folder.name] = error
        return found

    def _write_aliases(self, aliases: dict[str, str]) -> None:
        path = self.directory / ALIASES_NAME
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(aliases, order="sorted")) + b"\n")
        flush(fresh)
        fresh.replace(path)


def _peek(folder: Path) -> Bundle:
    """Return the bundle in `folder`, which in a store is named by its digest."""
    try:
        bundle = peek_bundle(folder)
    except OSError as error:
        raise bad_bundle(folder, f"{error.filename}: {error.strerror}") from error
    if not bundle.is_shipped and bundle.digest != folder.name:
        raise bad_bundle(folder, f"its manifest is that of {bundle.digest}; remove it and import the bundle again")
    return bundle


def _list(bundles: Iterable[Bundle], joint: str = ", ") -> str:
    return joint.join(f"{bundle.name}-{bundle.version} ({bundle.digest[:12]})" for bundle in bundles) or "none"
