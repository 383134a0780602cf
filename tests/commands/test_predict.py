import errno
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gossamer
from gossamer.commands import predict as command
from gossamer.commands.predict import predict as main
from gossamer.engine import (
    Activation,
    Convolution,
    Embedding,
    Epilogue,
    Linear,
    Network,
    Pointwise,
    Reshape,
    Signature,
    TensorSpec,
    pack_weights,
)
from gossamer.engine.gsm import write_network
from gossamer.runtime import Predictor

ABSENT = (
    "torch", "scipy", "sklearn", "pydantic", "typer", "rich", "safetensors", "pooch", "altair",
    "vl_convert", "jinja2", "click",
)  # fmt: skip
"""What is not there where NumPy alone is installed beside gossamer."""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Return a network of three classes and twelve examples, of which it tells the largest part."""
    network = Network((3,), (Linear(0, pack_weights(np.eye(3), "csr")),), 1)
    write_network(tmp_path / "n.gsm", network, {"classes": ["cat", "dog", "owl"]})
    examples = np.zeros((12, 3), np.float32)
    examples[:7, 1] = examples[7:, 2] = np.log(2)
    np.save(tmp_path / "x.npy", examples)
    return str(tmp_path / "n.gsm"), str(tmp_path / "x.npy")


def run(*arguments: str, absent: tuple[str, ...] = (), **options: Any) -> Any:
    """Run the command in a process of its own, where some packages are not to be found."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}));"
        "from gossamer.commands.predict import predict; sys.exit(predict(sys.argv[1:]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(gossamer.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, text=True,
        env=environment, **{"capture_output": True, **options},
    )  # fmt: skip


def test_a_table_shows_the_first_predictions_and_counts(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Example  Probability  Class", "      0        50.0%  dog"]
    assert lines[11] == "and 2 more examples"
    assert lines[-3:] == ["       7  58.3%  dog", "       5  41.7%  owl", "       0   0.0%  cat"]


def test_true_labels_give_the_accuracy(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.array([1] * 6 + [2] * 5 + [0])  # predicted are seven of class 1, five of class 2
    np.savez(tmp_path / "test.npz", x=np.load(files[1]), y=labels)
    archive = str(tmp_path / "test.npz")
    assert main([files[0], f"{archive}:x", "--true", f"{archive}:y"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Example  Probability  Class", "      0        50.0%  dog"]
    # Six dogs and four owls are right, by Wilson's formula written out for 10 of 12.
    assert lines[-6:] == [
        "Accuracy 83.33%, 95% interval 55.20% to 95.30%: 10 of 12 right.",
        "",
        "Examples  Right  Accuracy  True class",
        "       1      0      0.0%  cat",
        "       5      4     80.0%  owl",
        "       6      6    100.0%  dog",
    ]
    out = str(tmp_path / "out.npy")
    np.save(tmp_path / "y.npy", labels[:, None].astype(np.uint8))
    assert main([*files, "--true", str(tmp_path / "y.npy"), "--out", out, "--labels"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"{out}: labels, 12 int64",
        "Accuracy 83.33%, 95% interval 55.20% to 95.30%: 10 of 12 right.",
    ]


def test_accuracy_needs_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = Network((3,), (Linear(0, pack_weights(np.ones((1, 3)), "dense")),), 1)
    write_network(tmp_path / "n.gsm", network, {})
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
    np.save(tmp_path / "y.npy", np.zeros(2, int))
    files = (str(tmp_path / name) for name in ("n.gsm", "x.npy"))
    assert main([*files, "--true", str(tmp_path / "y.npy")]) == 2
    assert "expected two classes or more for --true; leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("batch", ["1", "5", "12", "1000"])
def test_predictions_are_written_whatever_the_batch(
    files: tuple[str, str], tmp_path: Path, batch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.npy"
    examples = np.load(files[1])
    for option, expected in (
        ([], examples),
        (["--labels"], [1] * 7 + [2] * 5),
        (["--probabilities"], [[0.25, 0.5, 0.25]] * 7 + [[0.25, 0.25, 0.5]] * 5),
    ):
        assert main([*files, "--out", str(out), "--batch", batch, *option]) == 0
        np.testing.assert_allclose(np.load(out), expected, rtol=1e-6)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{out}: logits, 12 x 3 float32",
        f"{out}: labels, 12 int64",
        f"{out}: probabilities, 12 x 3 float32",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.gsm", "out.npy", "x.npy"]


def test_it_works_where_numpy_alone_is_installed(files: tuple[str, str], tmp_path: Path) -> None:
    done = run(*files, absent=ABSENT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "dog" in done.stdout
    done = run(*files, "--out", str(tmp_path / "o.npy"), "--threads", "2", absent=ABSENT)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_kernels_it_says_so_in_a_line(files: tuple[str, str]) -> None:
    done = run(*files, absent=(*ABSENT, "gossamer.kernels._native"))
    assert done.returncode == 0
    assert done.stderr.startswith("gossamer: gossamer was installed without its compiled kernels")
    assert done.stderr.count("\n") == 1
    assert "dog" in done.stdout


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "gossamer predict fashion.gsm images.npy --out labels.npy --labels" in text
    assert "Exit codes: 0 predicted, 1 the reader of the output left, 2\nwrong input" in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: NET.gsm, INPUT.npy"),
        (["{net}", "{x}", "{x}"], "unrecognized arguments"),
        (["{net}", "{x}", "--thread", "1"], "unrecognized arguments: --thread"),
        (["{net}", "{x}", "--threads", "0"], "argument --threads: '0' is no whole number from 1"),
        (["{net}", "{x}", "--threads", "2000"], "from 1 to 1024"),
        (["{net}", "{x}", "--batch", "2.5"], "argument --batch: '2.5' is no whole number from 1"),
        (["{net}", "{x}", "--labels"], "--labels: says what a file is to hold; give --out"),
        (["{net}", "{x}", "--labels", "--probabilities"], "not allowed with argument --labels"),
        (["{x}", "{x}"], "x.npy: is no .gsm file"),
        (
            ["{net}", "{net}"],
            "n.gsm: is no .npy file, expected an .npy file of shape [examples, 3]",
        ),
        (["none.gsm", "{x}"], "none.gsm: is not there"),
        (["{net}", "none.npy"], "none.npy: is not there"),
        (["{net}", "{folder}/none.npz"], "none.npz: is not there, expected an .npy file of shape"),
        (["{net}", "{net}:x"], "n.gsm:x: is not there"),
        (["{net}", "{x}", "--true", "{x}"], "x.npy: labels: the shape is (12, 3), expected"),
        (["{net}", "{x}", "--true", "none.npy"], "none.npy: is not there, expected the true"),
        (["{net}", "{x}", "--out", "{folder}"], "is a folder, expected a file"),
        (["{net}", "{x}", "--out", "{folder}/no/o.npy"], "there is no folder"),
    ],
)
def test_wrong_input_is_said_in_one_sentence(
    files: tuple[str, str],
    tmp_path: Path,
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    net, x = files
    given = [text.format(net=net, x=x, folder=tmp_path) for text in arguments]
    assert main(given) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("gossamer: ")
    assert printed.err.count("\n") == 1
    assert complaint in printed.err
    assert printed.out == ""


def test_an_example_with_nan_is_named_and_nothing_is_written(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = np.load(files[1])
    examples[8, 0] = np.nan
    np.save(files[1], examples)
    assert main([*files, "--out", str(tmp_path / "o.npy"), "--batch", "3"]) == 2
    assert "example 8 holds NaN or infinite numbers" in capsys.readouterr().err
    assert not (tmp_path / "o.npy").exists()


def test_an_example_beyond_float32_is_named(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    examples = np.load(files[1]).astype(np.float64)
    examples[3, 1] = 1e300
    np.save(files[1], examples)
    assert main([*files]) == 2
    assert "example 3 holds NaN or infinite numbers, or some beyond" in capsys.readouterr().err


def test_what_a_reading_system_refuses_is_not_blamed_on_the_output(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "x.npy")

    monkeypatch.setattr(Predictor, "__call__", broken)
    assert main([*files]) == 2
    assert capsys.readouterr().err == "gossamer: x.npy: cannot be used (input/output error).\n"


def test_examples_have_the_shape_that_the_model_took(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = Convolution(0, pack_weights(np.eye(3), "csr"), (1, 1))
    signature = Signature.of_shapes((3, 2), (3, 2))
    write_network(files[0], Network((3, 1, 2), (layer,), 1), signature=signature)
    examples = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    np.save(files[1], examples)
    assert main([*files, "--out", str(tmp_path / "o.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), examples)
    np.save(files[1], examples.reshape(4, 3, 1, 2))
    assert main([*files]) == 2
    assert "expected an .npy file of shape [examples, 3, 2]" in capsys.readouterr().err


def test_a_network_of_one_output_has_no_classes(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network((3,), (Linear(0, pack_weights(np.ones((1, 3)), "dense")),), 1)
    write_network(files[0], network)
    assert main([*files, "--out", str(tmp_path / "o.npy"), "--labels"]) == 2
    assert "gives [1] for each example, expected two classes or more" in capsys.readouterr().err
    assert main([*files]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["0", "0.69315"]


@pytest.mark.parametrize("which", ["network", "input", "link", "labels"])
def test_what_is_read_is_not_written_over(
    which: str, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, examples = files
    np.savez(tmp_path / "y.npz", y=np.ones(12, np.int64))
    (tmp_path / "link.npy").symlink_to(examples)
    out = {
        "network": network,
        "input": f"{tmp_path}/../{tmp_path.name}/x.npy",
        "link": str(tmp_path / "link.npy"),
        "labels": str(tmp_path / "y.npz"),
    }[which]
    before = Path(out).read_bytes()
    assert main([network, examples, "--true", f"{tmp_path}/y.npz:y", "--out", out]) == 2
    assert "which is read; give another name" in capsys.readouterr().err
    assert Path(out).read_bytes() == before


def test_a_full_disk_is_said_and_leaves_the_older_file(
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "o.npy").write_bytes(b"older")
    monkeypatch.setattr(np, "save", full)
    assert main([*files, "--out", str(tmp_path / "o.npy")]) == 2
    assert "cannot be written (no space left on device)" in capsys.readouterr().err
    assert (tmp_path / "o.npy").read_bytes() == b"older"
    assert len(list(tmp_path.iterdir())) == 3


def test_ctrl_c_ends_with_130(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "__call__", interrupted)
    assert main([*files]) == 130
    assert capsys.readouterr().err == "gossamer: interrupted\n"


def test_long_work_tells_how_far_it_is(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_PATIENCE", -1.0)
    assert main([*files, "--batch", "5"]) == 0
    assert capsys.readouterr().err == "5 of 12 examples\n10 of 12 examples\n"


def test_a_reader_who_leaves_ends_it_quietly(files: tuple[str, str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(*files, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_printed_is_said(files: tuple[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(*files, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == (
        "gossamer: there is no room for what was to be printed (no space left on device): "
        "free some space\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_help_that_cannot_be_printed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with Path("/dev/full").open("w") as full:
        done = run("--help", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == (
        "gossamer: there is no room for what was to be printed (no space left on device): "
        "free some space\n"
    )


def test_probabilities_need_no_logits(files: tuple[str, str], tmp_path: Path) -> None:
    relu = Pointwise(0, Epilogue(activation=Activation("relu")))
    write_network(files[0], Network((3,), (relu,), 1))
    np.save(files[1], np.zeros((0, 3)))
    assert main([*files, "--out", str(tmp_path / "o.npy"), "--probabilities"]) == 0
    assert np.load(tmp_path / "o.npy").shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "holds several arrays (y, x, z), expected an .npy file of shape [examples, 3]"),
        (":q", "holds no q (y, x, z), expected an .npy file of shape [examples, 3]"),
        (":y", "has shape [4], expected an .npy file of shape [examples, 3], as"),
    ],
)
def test_the_array_that_fits_the_network_is_proposed(
    name: str, complaint: str, files: tuple[str, str], capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    archive = tmp_path / "test.npz"
    np.savez(archive, y=np.arange(4), x=np.zeros((4, 3), np.float32), z=np.zeros((4, 5)))
    assert main([files[0], f"{archive}{name}"]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert f"{archive}:x" in said
    assert f"{archive}:z" not in said
    assert main([files[0], f"{archive}:x"]) == 0


def test_an_archive_that_is_not_there_is_said(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([files[0], str(tmp_path / "nothere.npz:x")]) == 2
    assert f"{tmp_path / 'nothere.npz'}: is not there" in capsys.readouterr().err


def test_no_examples_are_said_once(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    np.save(tmp_path / "none.npy", np.zeros((0, 3), np.float32))
    np.save(tmp_path / "true.npy", np.zeros(0, np.int64))
    none, true = str(tmp_path / "none.npy"), str(tmp_path / "true.npy")
    assert main([files[0], none, "--true", true]) == 0
    assert capsys.readouterr().out == "No examples.\n"


def test_several_inputs_and_outputs_stand_in_archives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network of tokens and numbers gives what it does to arrays in memory."""
    table = Embedding(0, pack_weights(np.arange(12.0).reshape(4, 3), "csr"))
    network = Network(((2,), (6,)), (table, Reshape(2, (6,)), Pointwise(3, Epilogue(1))), (4, 2))
    inputs = (TensorSpec("tokens", (2,), "int64"), TensorSpec("file", (6,)))
    outputs = (TensorSpec("sum", (6,)), TensorSpec("allow_pickle", (2, 3), "int64"))
    path, net, out = tmp_path / "x.npz", str(tmp_path / "n.gsm"), tmp_path / "o.npz"
    write_network(net, network, signature=Signature(inputs, outputs, "dict"))
    tokens, numbers = np.array([[1, 3], [0, 2], [3, 3]]), np.ones((3, 6), np.float32)
    np.savez(path, tokens=tokens, file_=numbers)
    assert main([net, str(path)]) == 2
    assert "holds no file (tokens, file_)" in capsys.readouterr().err
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in (("tokens", tokens), ("file", numbers)):
            with archive.open(f"{name}.npy", "w") as part:
                np.lib.format.write_array(part, array)
    assert main([net, str(path), "--out", str(out), "--batch", "2"]) == 0
    assert capsys.readouterr().out == f"{out}: sum, 3 x 6 float32; allow_pickle, 3 x 2 x 3 int64\n"
    with np.load(out) as found:
        expected = np.arange(12).reshape(4, 3)[tokens]
        np.testing.assert_array_equal(found["allow_pickle"], expected)
        np.testing.assert_array_equal(found["sum"], 1 + expected.reshape(3, 6))
    assert main([net, str(path)]) == 0
    assert "allow_pickle:\nExample  Output" in capsys.readouterr().out
    for arguments, complaint in (
        ([str(tmp_path / "x.npy")], "x.npy: is no .npz file, expected one of the arrays tokens, "),
        (
            [str(path), "--out", str(tmp_path / "o.npy")],
            "no .npz file, expected one for the",
        ),
        ([str(path), "--true", "y.npy"], "gives [6] and [2, 3] for each example, expected two cl"),
    ):
        assert main([net, *arguments]) == 2
        assert complaint in capsys.readouterr().err
