"""What template fitting leaves free, fitted in miniature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmbroker.models.packaged.templates import load_templates, save_templates
from mmbroker.models.real_data.catalogues import cosmos, zcosmos
from mmbroker.models.redshift.templates.library import BANDS, load_library, read_archives
from mmbroker.models.redshift.templates.train import (
    Recipe,
    best_exponent,
    fit_prior,
    frequencies,
    unfitted,
)
from mmbroker.processors.redshift.grids import COARSE


def test_the_library_has_both_sets_through_all_bands() -> None:
    library = load_library()
    assert len(library.names) == 31 + 12
    assert set(library.bands) == set(BANDS)
    assert (np.diff(library.wavelength_um) > 0).all()
    assert np.isfinite(library.flux).all()
    assert (library.flux >= 0).all()


def test_ultraviolet_light_is_absorbed_on_the_way_from_high_redshift() -> None:
    library = load_library()
    blue = library.bands.index("cfht_megacam_us_9301")
    near_infrared = library.bands.index("cfht_wircam_Ks_8302")
    starburst = library.names.index("COSMOS SB11_A_0")
    ratio = library.flux[blue, :, starburst] / library.flux[near_infrared, :, starburst]
    assert ratio[-40] < 1e-4 < ratio[20]


def test_missing_archives_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="pz_rail_base"):
        read_archives(tmp_path)


def test_frequencies_are_those_of_the_galaxies() -> None:
    log_likelihood = np.log(np.array([[1.0, 0.01]] * 7 + [[0.01, 1.0]] * 3))
    assert frequencies(log_likelihood, 200) == pytest.approx([0.7, 0.3], abs=0.02)


def test_the_prior_follows_redshifts_that_grow_with_magnitude() -> None:
    random = np.random.default_rng(0)
    magnitude = random.uniform(18, 24, 500)
    redshift = np.exp(0.25 * (magnitude - 21)) * random.gamma(4, 0.25, 500)
    exponent, log_typical, growth = fit_prior(magnitude, redshift)
    assert growth == pytest.approx(0.25, abs=0.05)
    assert np.exp(log_typical) == pytest.approx(1.0, rel=0.3)
    assert exponent > 1


def test_what_misleads_gets_no_exponent_and_what_helps_gets_one() -> None:
    redshift = np.linspace(0.3, 3.0, 50)
    near = -0.5 * np.square((COARSE - np.log1p(redshift)[:, None]) / 0.1)
    away = -0.5 * np.square((COARSE - np.log1p(redshift[::-1])[:, None]) / 0.02)
    assert best_exponent(near, near, redshift) > 0.5
    assert best_exponent(near, away, redshift) == 0.0


def test_a_saved_fit_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    templates = unfitted(load_library(), Recipe())
    digest = save_templates(templates, tmp_path)
    (tmp_path / "templates.json").write_text(f'{{"sha256": "{digest}"}}')
    loaded = load_templates(tmp_path).templates
    assert loaded.names == templates.names
    assert np.allclose(loaded.flux, templates.flux, rtol=0.02, atol=1e-7)
    (tmp_path / "templates.json").write_text('{"sha256": "0"}')
    with pytest.raises(ValueError, match="its card says 0"):
        load_templates(tmp_path)


def test_zcosmos_shares_no_galaxy_with_the_far_infrared_table(shared_data: Path) -> None:
    galaxies = zcosmos(shared_data)
    assert len(galaxies) > 5000
    assert all((one.spectroscopic_redshift or 0) > 0.01 for one in galaxies)
    places = {
        (one.observations[0].right_ascension_deg, one.observations[0].declination_deg)
        for one in galaxies
    }
    assert len(places) == len(galaxies)
    secure = [one for one in cosmos(shared_data) if one.spectroscopic_redshift]
    assert secure
