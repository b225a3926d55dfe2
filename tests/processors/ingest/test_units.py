"""Units as people write them."""

from __future__ import annotations

import pytest

from mmbroker.processors.ingest.units import unit_from


@pytest.mark.parametrize("text", ["1e-300 mJy", "1e300 mJy", "1e-200 mJy / 1e200"])
def test_a_number_in_a_unit_is_one_that_values_can_be_converted_by(text: str) -> None:
    with pytest.raises(ValueError, match="is no unit"):
        unit_from(text)


def test_a_usual_number_in_a_unit_is_read() -> None:
    assert unit_from("1e-3 Jy").to("mJy") == 1.0
