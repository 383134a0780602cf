"""The networks of the example that is shrunk from a file of weights are what they are called."""

import runpy
from pathlib import Path

import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "shrink_from_weights.py"


def test_the_example_makes_the_published_network_and_a_smaller_one() -> None:
    made = runpy.run_path(str(EXAMPLE), run_name="example")
    network, small = made["resnet20"](), made["clothes"]()
    # 0.27 million weights in 20 layers (He et al. 2016, table 6), beside two shortcuts of 1x1.
    layers = [
        one for one in network.modules() if isinstance(one, torch.nn.Conv2d | torch.nn.Linear)
    ]
    assert len(layers) == 20 + 2
    assert round(sum(one.numel() for one in network.parameters()) / 1e6, 2) == 0.27
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert small(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_images_are_shifted_and_mirrored_another_way_at_each_reading() -> None:
    made = runpy.run_path(str(EXAMPLE), run_name="example")
    image = torch.arange(1.0, 26.0).reshape(1, 1, 5, 5)
    read = made["Varied"](image, torch.tensor([3]))
    padded = torch.nn.functional.pad(image[0], (4, 4, 4, 4))
    windows = [padded[:, i : i + 5, j : j + 5] for i in range(9) for j in range(9)]
    torch.manual_seed(0)
    seen = [read[0] for _ in range(200)]
    assert all(label == 3 for _, label in seen)
    found = {
        (number, mirrored)
        for one, _ in seen
        for number, window in enumerate(windows)
        for mirrored in (False, True)
        if torch.equal(one, window.flip(2) if mirrored else window)
    }
    assert len(found) > 80  # of 162 ways, in 200 readings
    assert {mirrored for _, mirrored in found} == {False, True}
