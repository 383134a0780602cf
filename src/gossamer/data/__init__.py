"""What is learnt from: datasets by name or file, checked, and parts of them.

Nothing here imports torch; tensors are made by `gossamer.data.resident`, imported by its name.
"""

from gossamer.data.catalog import datasets_folder, load, names
from gossamer.data.cifar import load_cifar10_folder
from gossamer.data.dataset import Dataset
from gossamer.data.digits import load_digits
from gossamer.data.idx import load_idx_folder, read_idx
from gossamer.data.npz import load_npz
from gossamer.data.splits import complementary_halves, stratified_sample, stratified_split

__all__ = [
    "Dataset",
    "complementary_halves",
    "datasets_folder",
    "load",
    "load_cifar10_folder",
    "load_digits",
    "load_idx_folder",
    "load_npz",
    "names",
    "read_idx",
    "stratified_sample",
    "stratified_split",
]
