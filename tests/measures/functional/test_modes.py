import pytest
from torch import nn

from gossamer.measures.functional.modes import evaluation


def test_each_mode_comes_back_after_an_error() -> None:
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3))
    network[1].eval()
    with pytest.raises(ZeroDivisionError), evaluation(network):
        1 / any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == [True, True, False]
