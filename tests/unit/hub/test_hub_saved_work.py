import msgspec
import numpy as np
import pytest
from safetensors.numpy import save

from halfdrop.contracts.jobs import Artifact
from halfdrop.hub.saved_work import (
    META_KEY,
    SamplerState,
    SavedFiles,
    decode_saved,
    encode_saved,
    fields_digest,
    why_unfit,
)

LEVELS = (1.0, 0.5, 0.25, 0.0)
SHAPE = (1, 4, 64, 64)


def make_state(**changes: object) -> SamplerState:
    chance = np.random.default_rng(3)
    members: dict[str, object] = {
        "model_digest": "0f",
        "seed": 7,
        "step": 2,
        "levels": LEVELS,
        "device": "cpu",
        "dtype": "float32",
        "tensors": {
            "latents": chance.standard_normal(SHAPE).astype(np.float32),
            "palettes": chance.random((1, 5, 3)).astype(np.float32),
        },
    }
    return SamplerState(**(members | changes))  # type: ignore[arg-type]


FILES = SavedFiles(
    fields_sha256="ab",
    artifacts=(
        Artifact(name="master.png", path="jobs/local/a/master.png", media_type="image/png", size_bytes=3, sha256="c"),
    ),
)


def encode(state: SamplerState | None = None, files: SavedFiles | None = None) -> bytes:
    return encode_saved(release="0.1", pattern_key="k", size_px=256, state=state, files=files)


def fit(state: SamplerState, **changes: object) -> str:
    wanted: dict[str, object] = {
        "model_digest": "0f", "seed": 7, "levels": LEVELS, "device": "cpu", "dtype": "float32", "shape": SHAPE,
    }  # fmt: skip
    return why_unfit(state, **(wanted | changes))  # type: ignore[arg-type]


def test_what_is_read_is_bit_for_bit_what_was_saved() -> None:
    saved = make_state()
    record, state = decode_saved(encode(saved, FILES))
    assert (record.release, record.pattern_key, record.size_px, record.files) == ("0.1", "k", 256, FILES)
    assert state is not None
    assert state.latents.tobytes() == saved.latents.tobytes()
    assert state.tensors["palettes"].tobytes() == saved.tensors["palettes"].tobytes()
    assert (state.step, state.seed, state.levels, state.device) == (2, 7, LEVELS, "cpu")


def test_files_can_be_saved_without_a_state() -> None:
    record, state = decode_saved(encode(files=FILES))
    assert state is None
    assert record.files == FILES


def test_a_state_is_about_as_large_as_its_latents() -> None:
    assert 65_536 < len(encode(make_state())) < 65_536 + 2_048


@pytest.mark.parametrize("place", [0, 9, 40, -1, -30_000])
def test_a_damaged_byte_is_noticed(place: int) -> None:
    data = bytearray(encode(make_state()))
    data[place] ^= 0x20
    with pytest.raises(ValueError, match=r"saved|tensor"):
        decode_saved(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 64,
        encode(make_state())[:-1],
        save({"latents": np.zeros(3, np.float32)}),
        save({}, metadata={META_KEY: "{}"}),
    ],
)
def test_what_is_no_saved_state_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a saved state"):
        decode_saved(data)


def test_a_state_fits_only_what_it_belongs_to() -> None:
    state = make_state()
    assert fit(state) == ""
    others: dict[str, object] = {
        "model_digest": "f0",
        "seed": 8,
        "levels": (1.0, 0.0),
        "device": "cuda",
        "dtype": "bfloat16",
        "shape": (1, 4, 8, 8),
    }
    for name, other in others.items():
        assert "allowed" in fit(state, **{name: other}), name
    for step in (0, 4, -1):
        assert "step" in fit(make_state(step=step))
    assert "finite" in fit(make_state(tensors={"latents": np.full(SHAPE, np.nan, np.float32)}))
    assert "tensors" in fit(state, names=("latents", "generator"))
    assert "kind" in fit(make_state(tensors={"latents": np.zeros(SHAPE, np.int16)}))


def test_the_digest_of_fields_tells_grids_and_palettes_apart() -> None:
    fields = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    digests = {
        fields_digest(fields, ("#000000",)),
        fields_digest(fields, ("#000001",)),
        fields_digest(fields.reshape(2, 4, 2), ("#000000",)),
        fields_digest(-fields, ("#000000",)),
    }
    assert len(digests) == 4


def test_the_record_is_json_that_a_person_can_read() -> None:
    data = encode(make_state(), FILES)
    header = msgspec.json.decode(data[8 : 8 + int.from_bytes(data[:8], "little")])
    record = msgspec.json.decode(header["__metadata__"][META_KEY])
    assert record["sampling"]["step"] == 2
    assert record["sampling"]["tensors"]["latents"]["shape"] == [1, 4, 64, 64]
