import pytest

from engine_networks import with_every_layer
from gossamer.engine import Network


@pytest.fixture
def network() -> Network:
    return with_every_layer()
