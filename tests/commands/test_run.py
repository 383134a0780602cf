"""`gossamer run`: what it says before, when it is stopped, and where it keeps what it computes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gossamer.commands.stopping import StoppedAtOnce, _Done, stopped_text, stopping
from running_commands import Gossamer
from running_studies import command, run_all, wait_for

STUDY = """
name = "mine"
title = "Mine"
question = "Does it run?"
[data]
name = "digits"
[network]
name = "mlp"
hidden = [8]
[grid]
sparsity = [0.5, 0.9]
[scales.quick]
seeds = 1
[[arms]]
name = "dense"
label = "Unpruned"
role = "baseline"
recipe = [{ step = "train", epochs = 1 }]
[[arms]]
name = "pruned"
label = "Pruned"
recipe = [{ step = "train", epochs = 1 }, { step = "prune", sparsity = "$sparsity" }]
[[claims]]
name = "a"
text = "Pruning costs nothing."
says = "not-lower"
compare = "pruned"
against = "dense"
"""


@pytest.fixture
def columns() -> int:
    return 300


def write(name: str = "mine.toml", *changes: tuple[str, str]) -> str:
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    return name


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


NOT_BEGUN = "Stopped before anything was computed. To begin: gossamer run "
BEGUN = (
    "Stopped; nothing is lost: {trained} of 1 training and 0 of 3 trials are done and kept in "
    "runs/mine. The same command goes on: gossamer run "
)
DONE = (
    "Stopped; nothing is lost: all 3 trials are done and kept in runs/mine, the report may not be "
    "written. To write it: gossamer report runs/mine"
)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("gossamer.studies.run.prepare", NOT_BEGUN),
        ("gossamer.studies.autotuning.autotuned", NOT_BEGUN),
        ("gossamer.studies.run.preflight_study", BEGUN.format(trained=0)),
        ("gossamer.recipes.resumable_training.train", BEGUN.format(trained=0)),
        ("gossamer.recipes.trial_runner.measure_network", BEGUN.format(trained=1)),
        ("gossamer.reporting.write_report", DONE),
        ("gossamer.reporting.write.report_page", DONE),
        ("gossamer.reporting.write.pictures", DONE),
    ],
)
def test_ctrl_c_at_any_moment_says_what_is_there_and_how_to_go_on(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch, where: str, said: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(where, interrupt)
        seen = gossamer("run", write(), "--jobs", "1", "--threads", "1")
    assert seen.code == 130
    last = seen.err.strip().splitlines()[-1]
    assert last.startswith(said)
    assert last.endswith(("mine.toml --jobs 1 --threads 1", "gossamer report runs/mine"))
    assert "Traceback" not in seen.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--states", "s3://bucket/x"), "--states is for the workers of a cluster: add"),
        (
            ("--states", "memory://x", "--scheduler", "tcp://127.0.0.1:9"),
            "--states memory://x: the workers are other processes",
        ),
    ],
)
def test_an_address_that_no_worker_shares_is_refused(
    gossamer: Gossamer, options: tuple[str, ...], sentence: str
) -> None:
    seen = gossamer("run", write(), *options)
    assert seen.code == 2
    assert sentence in seen.err
    assert not Path("runs").exists()


def test_what_ctrl_c_says_to_do_works(gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("gossamer.reporting.write.pictures", interrupt)
        gossamer("run", write(), "--jobs", "1", "--threads", "1")
    assert gossamer("report", "runs/mine").code == 0
    assert Path("runs/mine/report.html").is_file()


def test_the_first_ctrl_c_asks_and_the_second_ends() -> None:
    said: list[str] = []
    with stopping(said.append) as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert said == ["Stopping at the next safe point; Ctrl-C again to stop at once."]


def test_a_dropped_connection_asks_to_stop_unless_it_is_ignored() -> None:
    def gone(text: str) -> None:
        raise OSError(5, "Input/output error")

    nobody: list[int] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup takes away
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("gossamer.commands.stopping.speak_to_nobody", lambda: nobody.append(1))
            with stopping(gone) as should_stop:
                os.kill(os.getpid(), signal.SIGHUP)
                assert should_stop()
        assert nobody == [1]
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stopping(gone) as should_stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not should_stop()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("jobs", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_a_second_ctrl_c_leaves_no_process_behind(tmp_path: Path, jobs: str) -> None:
    study = tmp_path / "mine.toml"
    endless = STUDY.replace("epochs = 1", "epochs = 1000000")
    study.write_text(endless.replace("seeds = 1", "seeds = 2"))
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(study, out, "--jobs", jobs, "--threads", "1"),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: (out / "threads.json").exists())
    time.sleep(0.5)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert ": 0 of 2 trainings and 0 of 6 trials are done and kept" in stderr
    assert "Stopped; nothing is lost" in stderr or "what was under way is lost" in stderr
    assert "Traceback" not in stderr
    wait_for(lambda: not group_is_alive(process.pid), 5)


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def dry(gossamer: Gossamer, *changes: tuple[str, str], options: tuple[str, ...] = ()) -> list[str]:
    seen = gossamer("run", write("mine.toml", *changes), "--dry-run", *options)
    assert seen.code == 0, seen.err
    return [line[2:] for line in seen.out.splitlines() if line.startswith("- ")]


def test_a_dry_run_says_what_a_run_says(gossamer: Gossamer) -> None:
    foreseen = dry(gossamer, ('role = "baseline"\n', ""))
    assert foreseen == [
        'No arm has role = "baseline", so nothing says what pruning costs.',
        "One seed gives a number, never a verdict: run more seeds for an interval.",
        "One seed cannot judge claim a.",
        "Guessing reaches 10.0% on digits.",
    ]
    said = gossamer("run", "mine.toml")
    assert [line[2:] for line in said.err.splitlines() if line.startswith("- ")] == foreseen
    assert "One seed gives a number, never a verdict" in Path("runs/mine/report.html").read_text()


def test_two_seeds_hardly_decide_a_claim(gossamer: Gossamer) -> None:
    foreseen = dry(gossamer, options=("--seeds", "2"))
    # t of 1 degree of freedom at 1 - 0.05 / 4 on each side, over the root of 2
    assert foreseen[0] == (
        "Two seeds give intervals of ±18 standard deviations of a difference, which hardly decide "
        "claim a: run more."
    )
    assert dry(gossamer, options=("--seeds", "3")) == ["Guessing reaches 10.0% on digits."]


def test_an_arm_that_is_not_run_is_told_with_its_claims(gossamer: Gossamer) -> None:
    paper = ("[[arms]]", "[scales.paper]\nseeds = 3\n[[arms]]")
    foreseen = dry(gossamer, paper, ('role = "baseline"', 'role = "baseline"\nscales = ["paper"]'))
    assert foreseen[0] == (
        "The baseline dense is not run at the quick scale, so nothing says what pruning costs."
    )
    assert "Not judged, as their arms are not run at the quick scale: claims a." in foreseen


def test_a_disk_that_will_not_do_is_told_before(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage())  # noqa: ARG005
    assert "The disk of runs/mine has 1.00 kB free, but about 4.0" in dry(gossamer)[-1]


def trained(seen: Any) -> bool:
    return "Nothing left to do" not in seen.err


def test_a_study_file_that_was_copied_finds_what_was_computed(gossamer: Gossamer) -> None:
    assert trained(gossamer("run", write("one.toml")))
    assert Path("runs/mine/report.html").is_file()
    assert not trained(gossamer("run", write("elsewhere/another.toml")))
    changed = write("more.toml", ('title = "Mine"', 'title = "Ours"'), ("[0.5, 0.9]", "[0.5]"))
    assert not trained(gossamer("run", changed))  # shares its trials
    assert sorted(path.name for path in Path("runs").iterdir()) == ["mine"]


def test_another_study_of_the_name_is_told_apart(gossamer: Gossamer) -> None:
    gossamer("run", write("one.toml"))
    other = write(
        "other.toml",
        ('title = "Mine"', 'title = "Theirs"'),
        ("Does it run?", "Does it fly?"),
        ("hidden = [8]", "hidden = [9]"),
    )
    seen = gossamer("run", other)
    assert seen.code == 2
    assert seen.err.strip() == (
        "gossamer: runs/mine holds another study of the name 'mine', “Mine”: give this one, "
        "“Theirs”, another name, or a folder of its own with --out"
    )
    assert gossamer("run", other, "--out", "runs/theirs").code == 0


def test_a_folder_that_was_named_after_the_file_is_found_again(gossamer: Gossamer) -> None:
    run_all(Path(write("after-the-file.toml")), Path("runs/after-the-file"))
    seen = gossamer("run", "after-the-file.toml")
    assert "Nothing left to do" in seen.err
    assert seen.out.strip().endswith("runs/after-the-file/report.html")


@pytest.mark.slow
def test_arguments_of_a_network_are_shown_and_are_another_network(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("wide.py").write_text(
        "from torch import nn\ndef make(width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 10))\n"
    )
    monkeypatch.delitem(sys.modules, "wide", raising=False)
    own = ('name = "mlp"\nhidden = [8]', 'name = "wide.py:make"\nargs = { width = 3 }')
    plan = gossamer("run", write("mine.toml", own), "--dry-run")
    assert "digits, wide.py:make(width=3), results in runs/mine" in plan.out
    assert gossamer("run", "mine.toml").code == 0
    assert "wide.py:make(width=3)" in Path("runs/mine/report.html").read_text()
    wider = (own[0], own[1].replace("3", "5"))
    assert trained(gossamer("run", write("mine.toml", wider)))
    misspelt = (own[0], own[1].replace("width", "wdth"))
    seen = gossamer("run", write("mine.toml", misspelt))
    assert "line 9: The network 'wide.py:make' has no parameter 'wdth' (did you" in seen.err


def test_a_forced_stop_does_not_say_that_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = _Done(trainings=(2, 3), trials=(1, 6), joints_left=0)
    monkeypatch.setattr("gossamer.commands.stopping._done", lambda _: done)
    said = stopped_text(tmp_path, "gossamer run x", at_once=True)
    assert said == (
        f"Stopped at once; what was under way is lost: 2 of 3 trainings and 1 of 6 trials are done "
        f"and kept in {tmp_path}. The same command goes on: gossamer run x"
    )
    with stopping(lambda _: None) as should_stop:
        signal.raise_signal(signal.SIGINT)
        assert should_stop()
        with pytest.raises(StoppedAtOnce):
            signal.raise_signal(signal.SIGINT)


def test_without_a_trial_there_is_no_page_but_a_sentence(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("gossamer.recipes.resumable_training.train", interrupt)
        gossamer("run", write(), "--jobs", "1", "--threads", "1")
    seen = gossamer("report", "runs/mine")
    assert (seen.code, seen.out) == (2, "")
    assert seen.err.strip() == (
        "gossamer: runs/mine: there is nothing to report, as 0 of 3 trials are done; "
        "`gossamer run mine.toml --jobs 1 --threads 1` goes on"
    )
    assert sorted(path.name for path in Path("runs/mine").iterdir()) == [
        *("lock", "states", "statistics", "store.sqlite", "threads.json")
    ]


def test_the_time_told_counts_the_report(
    gossamer: Gossamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_slowly(*_: object) -> Path:
        time.sleep(2.0)
        return Path("page")

    monkeypatch.setattr("gossamer.reporting.write_report", write_slowly)
    lines = gossamer("run", write(), "--threads", "1").err.splitlines()
    took = next(line for line in lines if line.startswith("Took "))
    assert 2.0 <= float(took.removeprefix("Took ").removesuffix(" s.")) < 30


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_for_tensorboard_that_cannot_be_is_told_before_anything_is_trained(
    gossamer: Gossamer, place: str
) -> None:
    pytest.importorskip("tensorboard")
    Path("file").write_text("here")
    seen = gossamer("run", write(), "--tensorboard", place)
    assert seen.code == 2
    assert f"--tensorboard {place}: " in seen.err
    assert seen.err.strip().endswith("file is no folder, expected a folder for curves.")
    assert not Path("runs").exists()
