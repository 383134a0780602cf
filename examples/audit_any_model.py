"""Audit models that gossamer did not train: scikit-learn perceptrons on the digits.

Trains 16 networks in pairs on complementary halves, writes what they say of every example to
`predictions.npz`, and audits that file, as `gossamer audit predictions.npz` does.

    python examples/audit_any_model.py [FOLDER]     # half a minute on one core
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import gossamer.leakage
from gossamer.leakage.archive import read_archive

PAIRS = 8
Images = NDArray[np.float64]


def main(folder: Path) -> None:
    """Train, write, audit, and say what was found."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    members = np.concatenate([complementary_halves(labels, seed) for seed in range(PAIRS)])
    networks = [trained(images[m], labels[m], seed) for seed, m in enumerate(members)]
    path = folder / "predictions.npz"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        logits=np.stack([logits(network, images) for network in networks]),
        labels=labels,
        members=members,
        pairs=np.repeat(np.arange(PAIRS), 2),
    )
    given = read_archive(path)
    found = gossamer.leakage.audit(given.logits, given.labels, given.members, pairs=given.pairs)
    print(found.sentence)
    for attack in found.attacks:
        print(f"{attack.label:40} AUC {attack.auc.value:.3f}")
    print(f"self-tests passed: {found.passed}")
    print(f"for the table and the page: gossamer audit {path}")


def complementary_halves(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Return who is in either half, ``[2, examples]``; each half has half of every class."""
    everyone = np.arange(len(labels))
    first, _ = train_test_split(everyone, train_size=0.5, stratify=labels, random_state=seed)
    inside = np.isin(everyone, first)
    return np.stack([inside, ~inside])


def trained(images: Images, labels: NDArray[np.int64], seed: int) -> MLPClassifier:
    """Train one network until its loss no longer falls: it then knows its half by heart."""
    network = MLPClassifier((128,), alpha=0, max_iter=1000, random_state=seed)
    return network.fit(images, labels)


def logits(network: MLPClassifier, images: Images) -> NDArray[np.float32]:
    """Return the output before the softmax, which keeps more digits than probabilities."""
    (weights, last_weights), (bias, last_bias) = network.coefs_, network.intercepts_
    hidden = np.maximum(images @ weights + bias, 0)
    found: NDArray[np.float32] = (hidden @ last_weights + last_bias).astype(np.float32)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/audit-any-model"))
