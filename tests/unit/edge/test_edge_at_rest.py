"""What comes from the object store is what was put there, by its own content: else it is a miss."""

import msgspec
import pytest

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.patterns import PatternSpec, canonical_bytes, pattern_key
from halfdrop.contracts.plates import FIELDS_BYTES, LAYERS, Plates, decode_plates, encode_plates
from halfdrop.contracts.repeats import Repeat
from halfdrop.edge.at_rest import PatternForm
from halfdrop.edge.names import picture_key, plates_key, spec_key, tenant_key

SPEC = PatternSpec(prompt="red dots on white", repeat=Repeat().normalise(), model_digest="0" * 64)
KEY = pattern_key(SPEC)
PLATES = Plates(
    pattern_key=KEY,
    model_digest="0" * 64,
    fields=bytes(n % 251 for n in range(FIELDS_BYTES)),
    palette=("#ffffff",) * (LAYERS + 1),
)
WEBP = b"RIFF\x04\x00\x00\x00WEBP" + bytes(range(200))
VALUES = {plates_key(KEY): encode_plates(PLATES), spec_key(KEY): canonical_bytes(SPEC), picture_key(KEY, 256): WEBP}

FORM = PatternForm()


@pytest.mark.parametrize("prefix", ["", "acme"])
@pytest.mark.parametrize("key", VALUES)
def test_what_was_packed_comes_back_and_any_change_of_it_does_not(key: str, prefix: str) -> None:
    name, data = (tenant_key(prefix, key) if prefix else key), VALUES[key]
    stored = FORM.pack(name, data)
    assert stored.startswith(data)  # other programs read the files as they are
    assert FORM.unpack(name, stored) == data
    for place in range(0, len(stored), max(1, len(stored) // 97)):
        flipped = stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :]
        assert FORM.unpack(name, flipped) in (None, data), place  # a member's name may change without harm
        assert FORM.unpack(name, stored[:place]) is None


@pytest.mark.parametrize("key", VALUES)
def test_another_patterns_value_is_none_of_this_one(key: str) -> None:
    other = key.replace(KEY, "f" * 32)
    assert FORM.unpack(other, FORM.pack(key, VALUES[key])) is None


def test_plates_from_before_there_was_a_checksum_are_read() -> None:
    old = msgspec.msgpack.encode(PLATES)
    assert decode_plates(old) == PLATES
    assert FORM.unpack(plates_key(KEY), old) == encode_plates(PLATES)


def test_plates_whose_samples_changed_are_refused() -> None:
    encoded = bytearray(encode_plates(PLATES))
    encoded[len(encoded) // 2] ^= 0x40
    with pytest.raises(PermanentError, match="checksum"):
        decode_plates(bytes(encoded))
