"""What two masks have in common; `gossamer.studies.joint_measures` takes it of pairs of arms."""

from gossamer.measures.measure import Measure, Measurement

MASK_OVERLAP = Measurement(
    "mask overlap",
    measures=(
        Measure(
            "mask_overlap",
            "Mask overlap",
            "Of the weights that either of two masks keeps, the share that both keep (Jaccard "
            "index).",
            "fraction",
            condition="overlaps",
        ),
        Measure(
            "mask_overlap_by_chance",
            "Mask overlap by chance",
            "What two masks with as many weights in each layer, at random positions, would share.",
            "fraction",
            condition="overlaps",
        ),
    ),
)
