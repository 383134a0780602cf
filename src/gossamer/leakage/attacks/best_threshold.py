"""The published baseline: one threshold, chosen on the scores that it judges."""

from gossamer.leakage.attacks.attack import Attack
from gossamer.leakage.attacks.loss import ATTACK as LOSS

ATTACK = Attack(
    name="best_threshold",
    label="Best threshold in sample (optimistic)",
    phrase="best threshold in sample (optimistic)",
    source="the published baseline",
    requirement="the target's output, and who its members are",
    meaning="One threshold on the probability of the true class, the best on the very scores that "
    "it judges, which flatters the attacker.",
    unit=LOSS.unit,
    references="none",
    score=LOSS.score,
    in_sample=True,
    usual=False,
)
