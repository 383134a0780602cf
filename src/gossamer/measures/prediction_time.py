"""How long a network takes to predict; `studies.joint_measures` times it beside the unpruned."""

from functools import partial

from gossamer.measures.measure import Measure, Measurement

_latency = partial(
    Measure,
    better="lower",
    empty="the arm and level are not among those that the study times",
    condition="latency",
)
PREDICTION_TIME = Measurement(
    "prediction time",
    measures=(
        _latency(
            "latency",
            "Latency",
            "Time to predict one batch, in seconds, with the network as gossamer.compress makes "
            "it: measured alone, warm, the median over repeats. That of an unpruned network is the "
            "time of its fastest way.",
            "seconds a batch",
        ),
        _latency(
            "latency_masked",
            "Latency with zeros kept",
            "The same with the network as it is, in PyTorch, which computes its zeros too.",
            "seconds a batch",
        ),
        _latency(
            "latency_dense",
            "Latency of the unpruned network",
            "That of the unpruned network of the same seed, timed in turn, in its fastest way: in "
            "PyTorch, or by gossamer's engine on all weights.",
            "seconds a batch",
        ),
        _latency(
            "latency_ratio",
            "Relative latency",
            "Latency over that of the unpruned network; 100% if nothing is gained. A time is "
            "compared with one that was taken in turn with it, so that no drift of the machine "
            "enters.",
            "ratio",
        ),
        _latency(
            "latency_ratio_masked",
            "Relative latency with zeros kept",
            "Time with the zeros kept over that of the unpruned network, both in PyTorch.",
            "ratio",
        ),
    ),
)
