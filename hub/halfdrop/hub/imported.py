"""The models that users imported here: read from the model store, told of in the worker's state, found by digest.

The store is looked at anew while the worker runs, by names and sizes alone: what is imported beside it can be ordered
seconds later. Nothing here imports torch; a model is read whole, and checked, when the pool loads it.
"""

import asyncio
from pathlib import Path

import msgspec
import structlog

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.imported import ImportedModel
from halfdrop.contracts.pools import IMPORTED_MAX
from halfdrop.hub.checkpoints.layout import read_json
from halfdrop.hub.checkpoints.lora_importing import LORA_NAME
from halfdrop.models.bundle import Bundle, read_facts
from halfdrop.models.store import ModelStore

log = structlog.get_logger()

LOOK_EVERY_S = 5.0


class ImportedModels:
    """What lies in a store. `models` is replaced whole, so that any thread may read it."""

    def __init__(self, models_dir: Path | None, *, budget_bytes: int) -> None:
        self._store = None if models_dir is None else ModelStore(models_dir)
        self._budget_bytes = budget_bytes
        self._bundles: dict[str, Bundle] = {}
        self._told_of: set[str] = set()
        self.models: tuple[ImportedModel, ...] = ()
        """Those that this worker can draw with, and LoRAs: by name, at most IMPORTED_MAX."""

    def look(self) -> None:
        """See what there is now. Slow disks take their time: in a thread."""
        if self._store is None:
            return
        models, bundles = [], {}
        for bundle in self._store.bundles():
            if bundle.manifest.kind not in ("checkpoint", "lora"):
                continue
            try:
                models.append(self._describe(bundle))
                bundles[bundle.digest] = bundle
            except PermanentError as error:
                self._say_once(bundle, error.detail)
        for bundle in [bundles[model.digest] for model in models[IMPORTED_MAX:]]:
            self._say_once(bundle, f"more than {IMPORTED_MAX} imported models; those last by name are left out")
        self._bundles, self.models = bundles, tuple(models[:IMPORTED_MAX])

    def find(self, digest: str) -> ImportedModel | None:
        """Return the checkpoint of this digest, if it can be drawn with here."""
        return next((model for model in self.models if model.digest == digest and model.kind == "checkpoint"), None)

    def bundle(self, digest: str) -> Bundle:
        """Return the bundle of a checkpoint or a LoRA. Raises PermanentError(unknown-model)."""
        found = self._bundles.get(digest)
        if found is None:
            names = ", ".join(f"{model.name} ({model.digest[:12]})" for model in self.models) or "none"
            detail = f"model: got {digest[:80]}; this worker has imported: {names} (halfdrop models list)"
            raise PermanentError(detail, code="unknown-model")
        return found

    def lora_file(self, digest: str) -> Path:
        """Return the file of a LoRA. Raises PermanentError(unknown-model)."""
        return self.bundle(digest).directory / LORA_NAME

    def _describe(self, bundle: Bundle) -> ImportedModel:
        known = ImportedModel(digest=bundle.digest, name=bundle.name, version=bundle.version)
        if bundle.manifest.kind == "lora":
            return msgspec.structs.replace(known, kind="lora")
        if bundle.size_bytes > self._budget_bytes:
            got, allowed = (f"{size / 2**20:,.0f} MiB" for size in (bundle.size_bytes, self._budget_bytes))
            detail = f"it takes {got}; allowed: {allowed}, which HALFDROP_HUB_MODELS_MIB sets"
            raise PermanentError(detail, code="model-too-large")
        unet, vae = (read_json(bundle.directory / name / "config.json") for name in ("unet", "vae"))
        try:
            levels, scale = len(unet["block_out_channels"]), 2 ** (len(vae["block_out_channels"]) - 1)
            return msgspec.structs.replace(
                known,
                family=str(read_facts(bundle.directory)["family"]),
                grain_px=scale * 2 ** (levels - 1),
                native_px=int(unet["sample_size"]) * scale,
            )
        except (KeyError, TypeError, ValueError) as error:
            detail = f"its manifest or configurations are not those of a checkpoint: {error!r}"
            raise PermanentError(detail, code="bad-checkpoint") from error

    def _say_once(self, bundle: Bundle, reason: str) -> None:
        if bundle.digest not in self._told_of:
            self._told_of.add(bundle.digest)
            log.warning("imported_model_left_out", model=bundle.name, digest=bundle.digest, reason=reason)


async def keep_looking(imported: ImportedModels, every_s: float = LOOK_EVERY_S) -> None:
    """Look at the store again and again, until cancelled; a store that cannot be read now keeps what was seen last."""
    while True:
        try:
            await asyncio.to_thread(imported.look)
        except (OSError, PermanentError) as error:
            log.warning("model_store_unread", error=str(error))
        await asyncio.sleep(every_s)
