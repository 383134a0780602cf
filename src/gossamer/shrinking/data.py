"""What a network is trained, chosen and judged on, from whatever form it was given in."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer.core.arrays import entries, opened, read_header, read_numbers
from gossamer.core.errors import InputError
from gossamer.core.formats import likeliest, listed
from gossamer.core.streams import stream
from gossamer.data import Dataset, load_npz, stratified_split
from gossamer.data.catalog import load as load_dataset
from gossamer.data.catalog import names as dataset_names
from gossamer.data.npz import ARRAYS, dataset_of
from gossamer.graph.examples import tensors_in
from gossamer.shrinking.forms import is_random, part_of
from gossamer.shrinking.images import PARTS, of_folder
from gossamer.shrinking.split import Preprocessing, Split

VALIDATION_SHARE = 0.1
"""Of the training examples, where no validation set is given."""
_BESIDE = ("class_names", "preprocessing", "name", "members")
_OVERLAP_THAT_COUNTS = 0.01
_VALIDATION_ARRAYS = ("x_validation", "y_validation")


@dataclass(frozen=True, eq=False)
class Data:
    """Training, validation and test examples, and what is known of them.

    Parameters
    ----------
    train, validation
        What the network is trained on, and what it is chosen by.
    test
        What is looked at once, at the end; None where nothing is to be judged.
    validation_is_held_out
        Whether the validation examples are none that the network was trained on, as far as is
        known: False where they were split off from the training examples.
    name
        What messages and pages call it.
    class_names
        In the order of the outputs, where they are known.
    preprocessing
        What raw inputs go through before the network sees them, where it is known.
    members
        Examples that the network was trained on, where they were given for an audit.
    notes
        What a user should be told, each a sentence.
    """

    train: Split
    validation: Split
    test: Split | None = None
    validation_is_held_out: bool = True
    name: str = "data"
    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    members: Split | None = None
    notes: tuple[str, ...] = ()

    def example(self, count: int = 2) -> Any:
        """Return a few inputs, as the network sees them."""
        return self.train.example(count)


def read_data(given: Any, *, seed: int = 0, root: Path | None = None, test: bool = True) -> Data:
    """Return data from whatever form it was given in.

    Parameters
    ----------
    given
        A mapping or an object with ``train``, ``test`` and, perhaps, ``validation``, each in a form
        that `gossamer.shrinking.forms.part_of` takes, and perhaps ``class_names``,
        ``preprocessing`` (a mapping with ``scale``, ``mean`` and ``deviation``), and ``members``,
        what the network was trained on, as a part or True for all of train. A mapping of the
        arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``. Text: an ``.npz`` file of these, a
        folder of images, a built-in dataset, or ``module:callable`` that gives any of these.
    seed
        Decides which training examples become validation where no validation set is given.
    root
        The folder of built-in datasets on disk; None: as ``GOSSAMER_DATA`` says.
    test
        Whether a test set is needed.

    Raises
    ------
    InputError
        If it is none of these, or holds what cannot be used.

    Examples
    --------
    >>> x, y = torch.randn(40, 3), torch.arange(40) % 2
    >>> data = read_data({"train": (x[:30], y[:30]), "test": (x[30:], y[30:])})
    >>> len(data.train), len(data.validation), len(data.test), data.validation_is_held_out
    (27, 3, 10, False)
    """
    if isinstance(given, Data):
        found = given
    elif isinstance(given, str | Path):
        return _of_text(str(given), seed, root, test=test)
    elif isinstance(given, Dataset):
        found = _of_dataset(given, seed)
    elif isinstance(given, Mapping) and any(name in given for name in ARRAYS):
        found = _of_arrays("data", given, seed)
    else:
        found = _of_parts(_parts(given), seed)
    if test and found.test is None:
        raise InputError(
            "data: there is no test, expected examples that the network was neither trained nor "
            "chosen by: give test beside train."
        )
    return _with_overlaps(found)


def _of_text(text: str, seed: int, root: Path | None, *, test: bool) -> Data:
    path = Path(text).expanduser()
    if ":" in text and not path.exists():
        from gossamer.networks.imported import imported_value

        made = imported_value(text, "data")
        if isinstance(made, str | Path) and str(made) == text:
            raise InputError(f"{text}: gives its own name, expected data.")
        found = read_data(made, seed=seed, root=root, test=test)
        return found if found.name != "data" else replace(found, name=text)
    if path.is_dir():
        parts, names = of_folder(path)
        given = {**parts, "class_names": names, "name": path.name}
        return read_data(_of_parts(given, seed), test=test)
    if text.endswith(".npz"):
        return read_data(_of_npz(path, seed), test=test)
    if text in dataset_names():
        return read_data(_of_dataset(load_dataset(text, root), seed), test=test)
    near = likeliest(text, dataset_names())
    hint = f" (did you mean {near!r}?)" if near else ""
    raise InputError(
        f"{text}: no such data{hint}, expected an .npz file, a folder of images, "
        f"package.module:callable, or one of {', '.join(dataset_names())}."
    )


def _of_npz(path: Path, seed: int) -> Data:
    """Return the data of a file as studies take it, which may hold validation examples, too."""
    dataset = load_npz(path)
    with opened(path) as archive:
        held = entries(archive)
        there = [name for name in _VALIDATION_ARRAYS if name in held]
        if not there:
            return _of_dataset(dataset, seed)
        if len(there) == 1:
            raise InputError(f"{path}: holds {there[0]} alone, expected x_ and y_validation.")
        for name in there:
            read_header(path, archive, name, held[name])
        arrays = {name: read_numbers(archive, held[name]) for name in there}
    return _of_dataset(dataset, seed, _validation_of(str(path), dataset, arrays))


def _of_arrays(where: str, given: Mapping[str, Any], seed: int) -> Data:
    missing = [name for name in ARRAYS if name not in given]
    if missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}, expected {', '.join(ARRAYS)}.")
    dataset = dataset_of(where, where, {name: np.asarray(given[name]) for name in ARRAYS})
    there = [name for name in _VALIDATION_ARRAYS if name in given]
    if len(there) == 1:
        raise InputError(f"{where}: holds {there[0]} alone, expected x_ and y_validation.")
    held = {name: np.asarray(given[name]) for name in there}
    validation = _validation_of(where, dataset, held) if there else None
    beside = {name: given[name] for name in _BESIDE if name in given}
    return _of_dataset(dataset, seed, validation, beside)


def _validation_of(where: str, dataset: Dataset, arrays: Mapping[str, Any]) -> Dataset:
    """Return a dataset whose test examples are the validation examples of another, checked so."""
    x, y = (arrays[name] for name in _VALIDATION_ARRAYS)
    made = {
        "x_train": dataset.x_train,
        "y_train": dataset.y_train,
        "x_test": x,
        "y_test": y,
    }
    try:
        return dataset_of(where, where, made, "channels_first" if x.ndim == 4 else None)
    except InputError as error:
        raise InputError(str(error).replace("_test", "_validation")) from error


def _of_dataset(
    dataset: Dataset,
    seed: int,
    validation: Dataset | None = None,
    beside: Mapping[str, Any] | None = None,
) -> Data:
    told = beside or {}
    pixels = Preprocessing(float(dataset.scale)) if dataset.scale != 1 else None
    chosen = _preprocessing(told.get("preprocessing")) or pixels
    parts: dict[str, Any] = {
        "train": _split(dataset.x_train, dataset.y_train, chosen),
        "test": _split(dataset.x_test, dataset.y_test, chosen),
        "name": told.get("name", dataset.name),
        "class_names": told.get("class_names"),
        "members": told.get("members"),
    }
    if validation is not None:
        parts["validation"] = _split(validation.x_test, validation.y_test, chosen)
    return _of_parts(parts, seed)


def _split(x: Any, y: Any, preprocessing: Preprocessing | None) -> Split:
    return Split(torch.tensor(x), torch.tensor(y), preprocessing)


def _parts(given: Any) -> dict[str, Any]:
    """Return the parts of a mapping or an object by the names that are used here.

    Raises
    ------
    InputError
        If there is no train, or a name is misspelt or given twice.
    """
    if isinstance(given, Mapping):
        held = {str(name): value for name, value in given.items()}
    else:
        spelt = [name for names in PARTS.values() for name in names if not name.endswith("ing")]
        held = {name: getattr(given, name) for name in (*spelt, *_BESIDE) if hasattr(given, name)}
        held = {name: value for name, value in held.items() if value is not None}
    found: dict[str, Any] = {name: held.pop(name) for name in _BESIDE if name in held}
    for part, names in PARTS.items():
        there = [name for name in names if name in held]
        if len(there) > 1:
            raise InputError(f"data: holds {listed(there)}, expected one of them.")
        if there:
            found[part] = held.pop(there[0])
    if "train" not in found or (
        callable(found["train"]) and not hasattr(found["train"], "__len__")
    ):
        raise InputError(
            f"data: a {type(given).__name__} without train was given, expected a mapping or object "
            "with train, test and, perhaps, validation; an .npz file, a folder of images, or "
            "package.module:callable that gives one."
        )
    for name in held:
        if near := likeliest(name, [*PARTS, *_BESIDE]):
            raise InputError(f"data: {name!r} is not known, did you mean {near!r}?")
    if held:
        found["unused"] = list(held)
    return found


def _of_parts(parts: Mapping[str, Any], seed: int) -> Data:
    preprocessing = _preprocessing(parts.get("preprocessing"))
    made = {name: part_of(name, parts[name], preprocessing) for name in PARTS if name in parts}
    train, notes = made["train"].split, []
    members = _members(parts.get("members"), train, preprocessing)
    for name in ("validation", "test"):
        if name in made and is_random(made[name].split):
            raise InputError(
                f"{name}: examples are others whenever they are read, as random augmentation makes "
                "them, but networks are compared on the same: give them without."
            )
    if unused := parts.get("unused"):
        notes.append(f"Not used of the data: {listed(unused)}.")
    validation, held_out = None, True
    if "validation" in made:
        validation = made["validation"].split
    else:
        train, validation = _split_off(train, seed)
        held_out = False
        notes.append(
            f"No validation set was given: {len(validation):,} of the training examples are set "
            "aside for it. Where the network was trained on them they flatter it more than its "
            "sparse copies; a set that it never saw is better."
        )
    named = [one.class_names for one in made.values() if one.class_names]
    return Data(
        train,
        validation,
        made["test"].split if "test" in made else None,
        held_out,
        str(parts.get("name", "data")),
        _names(parts.get("class_names"), named[0] if named else None),
        preprocessing or train.preprocessing,
        members,
        tuple(notes),
    )


def _members(given: Any, train: Split, preprocessing: Preprocessing | None) -> Split | None:
    """Return what the network was trained on, where it was said."""
    if given is None or given is False:
        return None
    return train if given is True else part_of("members", given, preprocessing).split


def _names(given: Any, told: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if given is None:
        return told
    if isinstance(given, str) or not all(isinstance(one, str) for one in given):
        raise InputError("data: class_names must be the names of the classes in order.")
    return tuple(given)


def _preprocessing(given: Any) -> Preprocessing | None:
    if given is None or isinstance(given, Preprocessing):
        return given
    if not isinstance(given, Mapping) or not set(given) <= {"scale", "mean", "deviation"}:
        raise InputError("data: preprocessing must be a mapping with scale, mean and deviation.")
    try:
        mean, deviation = (
            tuple(np.atleast_1d(np.asarray(given.get(name, ()), float)).tolist())
            for name in ("mean", "deviation")
        )
        return Preprocessing(float(given.get("scale", 1.0)), mean, deviation)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("data: preprocessing must hold numbers.") from error


def _split_off(train: Split, seed: int) -> tuple[Split, Split]:
    """Set training examples aside, of each class its share."""
    if is_random(train):
        raise InputError(
            "train: examples are others whenever they are read, as random augmentation makes "
            "them, so no validation set can be split off: give validation beside train."
        )
    if len(train) < 2:
        raise InputError("train: holds one example, expected more, or validation beside it.")
    labels = train.classes
    if labels is not None and min(np.unique_counts(labels).counts) > 1:
        kept, held = stratified_split(labels, max(VALIDATION_SHARE, 1 / len(train)), seed)
    else:
        order = stream(seed, "validation").permutation(len(train))
        count = max(1, round(VALIDATION_SHARE * len(train)))
        kept, held = np.sort(order[count:]), np.sort(order[:count])
    return train.subset(torch.from_numpy(kept)), train.subset(torch.from_numpy(held))


def _with_overlaps(data: Data) -> Data:
    """Tell which examples are in several parts, byte for byte."""
    train = set(_digests(data.train))
    notes, held_out = list(data.notes), data.validation_is_held_out
    for name, split in (("validation", data.validation), ("test", data.test)):
        own = [] if split is None else _digests(split)
        shared = sum(one in train for one in own)
        if not shared:
            continue
        notes.append(
            f"{shared:,} of the {len(own):,} {name} examples are training examples, too, which "
            f"flatters the network: leave them out of one of the two."
        )
        if name == "validation" and shared / len(own) >= _OVERLAP_THAT_COUNTS:
            held_out = False
    return replace(data, notes=tuple(dict.fromkeys(notes)), validation_is_held_out=held_out)


def _digests(split: Split) -> list[bytes]:
    """Return a digest of each example's inputs; none of what is not in memory."""
    if not split.is_resident:
        return []
    rows: list[Tensor] = [one.reshape(len(one), -1) for one in tensors_in(split.inputs)]
    arrays = [np.ascontiguousarray(one.numpy(force=True)) for one in rows]
    return [
        hashlib.blake2b(b"".join(array[i].tobytes() for array in arrays), digest_size=12).digest()
        for i in range(len(split))
    ]
