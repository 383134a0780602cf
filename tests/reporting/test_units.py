from gossamer.reporting.glossary import Unit, unit_of


def test_digits_are_added_until_a_bound_differs_from_what_it_is_compared_with() -> None:
    points = unit_of("test_accuracy")
    assert points.text(0.00001, apart=0) == "0.001"
    assert points.text(0.0049999, apart=0.005) == "0.49999"
    assert points.text(0.005, apart=0.005) == "0.50"
    assert unit_of("test_loss") == Unit(1, 4, " nats")
    assert unit_of("nonzero_parameters").text(1234.5678) == "1235"
