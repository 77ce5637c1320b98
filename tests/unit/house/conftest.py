"""What the tests of the house model share."""

import pytest

from halfdrop.models.house.data import build_tokenizer
from halfdrop.models.house.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Return the vocabulary of the grammar as it is now; made once, for it takes seconds."""
    return build_tokenizer()
