"""Shadow models of another version than the target, as an attacker has who does not know of it."""

from gossamer.leakage.attacks.attack import Attack
from gossamer.leakage.attacks.likelihood_ratio import FEWEST_REFERENCES
from gossamer.leakage.attacks.lira_online import lira_online

ATTACK = Attack(
    name="foreign",
    label="Shadows of the other version, LiRA",
    phrase="attacker with shadow networks of the other kind",
    source="Carlini et al. 2022",
    requirement="the target's output, and models of the other kind with and without each example",
    meaning="LiRA with shadow networks of another version, such as unpruned ones, by an attacker "
    "who does not know what was done to the network.",
    unit="nats",
    references="in and out",
    score=lambda case, targets: lira_online(
        case.first_margins.facing(case.statistics.margin), pooled=True, targets=targets
    ),
    learnt_on=lambda case, targets: lira_online(case.first_margins, pooled=True, targets=targets),
    fewest_references=FEWEST_REFERENCES,
    versions=2,
    usual=False,
)
