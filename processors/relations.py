"""Constants of nature and published relations, each with its source.

Published numbers on galaxies and instruments in general are stated only here. Other numbers are
elsewhere:

* numbers on one survey or one table, with their source or marked as assumed: bands, depths,
  noise, beams and tunings, limits of samples and errors of redshifts are in
  ``models.simulation.catalogue_surveys``, ``models.simulation.spectrum_surveys``,
  ``models.simulation.map_surveys``, ``models.simulation.spectral_axes`` and
  ``models.simulation.observations``; columns and their meaning are in
  ``models.real_data.catalogues`` and ``models.real_data.line_tables``;
* numbers that are assumed because no paper gives them, or that were set on training data, are where
  they are used, as constants that say so;
* fitted numbers are in ``processors/redshift/tuned.json`` and ``models/weights``;
* units, the constants of Planck and Boltzmann, and the cosmology (Planck 2018) come from astropy.

Grids, thresholds, tolerances and formulae of this project's own are not published numbers. They are
where they are used.
"""

from __future__ import annotations

import math

SPEED_OF_LIGHT_KM_S = 299_792.458
"""Exact, SI."""

ARCSEC_PER_RADIAN = 180.0 * 3600.0 / math.pi

FWHM_PER_SIGMA = math.sqrt(8.0 * math.log(2.0))
"""Full width at half maximum of a Gaussian over its standard deviation."""

LSRK_SOLAR_SPEED_KM_S = 20.0
"""Speed of the Sun in the kinematic local standard of rest, by convention (Kerr & Lynden-Bell
1986, MNRAS 221 1023; as adopted by the radio observatories and astropy's ``LSRK``)."""

LSRK_APEX_RIGHT_ASCENSION_DEG = 270.96
LSRK_APEX_DECLINATION_DEG = 30.00
"""Direction that the Sun moves in: 18h, +30 deg at epoch 1900, given here in ICRS."""

GALAXY_SURFACE_DENSITY_PER_ARCSEC2 = 20.0 / 3600.0
"""Surface density of galaxies that a source may be confused with: some 20 per square arcminute in
the prior list of the GOODS-N super-deblended catalogue (3306 sources in 134 arcmin2; Liu et al.
2018, ApJ 853 172)."""

ASTROMETRIC_FLOOR_ARCSEC = 0.1
"""Registration of ALMA, VLA and optical frames against each other, of the order of 0.1 arcsec
(Franco et al. 2018, A&A 620 A152, find 0.1 to 0.3 arcsec offsets ALMA to HST)."""

POSITION_ERROR_BEAMS = 0.6
"""Error of a source's position at a signal-to-noise ratio of 1, in full widths at half maximum of
the beam (Ivison et al. 2007, MNRAS 380 199): 22 arcsec for SPIRE at 500 um, whose beam has 36."""

AB_ZERO_JY = 3631.0
"""Flux density of AB magnitude 0 (Oke & Gunn 1983, ApJ 266 713)."""

# --- Scales of the networks' vector view ---

DEEP_SURVEY_DEPTHS = (
    (1.4e9, 2.7e-6),
    (100e9, 50e-6),
    (258.4e9, 0.77e-3),
    (352.7e9, 1.43e-3),
    (599.6e9, 3.15e-3),
    (856.5e9, 3.09e-3),
    (1199.2e9, 1.97e-3),
    (1873.7e9, 0.97e-3),
    (2997.9e9, 0.39e-3),
    (12.491e12, 7.75e-6),
    (18.737e12, 5.24e-6),
    (37.474e12, 0.50e-6),
    (51.688e12, 0.43e-6),
    (66.621e12, 0.07e-6),
    (83.276e12, 0.04e-6),
)
"""Frequency in Hz and median 1 sigma error in Jy: GOODS-N super-deblended catalogue (Liu et al.
2018, ApJ 853 172) from 3.6 um to 1.16 mm and at 20 cm; SPT-SMG at 3 mm (Reuter et al. 2020, ApJ 902
78). The values at 24 and 16 um (12.491 and 18.737 THz) are exchanged, because the columns of 16
and 24 um are exchanged in that table. They stay so: a scale need not be the depth, and all networks
that read vectors are trained with these values."""

RECEIVER_BAND_EDGES_HZ = (67e9, 116e9, 163e9, 211e9, 275e9, 373e9, 500e9, 720e9)
"""Edges between ALMA bands 1, 3, 4, 5, 6, 7, 8, 9 and 10, which begin at 35 and end at 950 GHz
(ALMA Technical Handbook, table of receivers). The first is the lower end of band 2, the others are
upper ends of bands."""

# --- Conventional redshift: dust, radio and line emission ---

CMB_TEMPERATURE_K = 2.7255
"""Fixsen 2009, ApJ 707 916."""

DUST_OPACITY_ONE_MICRON = 200.0
"""Rest wavelength in micrometre where dust becomes optically thick (Drew & Casey 2022, ApJ 930 142,
who fix it for the relation between peak wavelength and luminosity below)."""

MID_INFRARED_SLOPE = 2.0
"""Slope of the power law S ~ nu**-slope that replaces the Wien side (Casey 2012, MNRAS 425
3094)."""

PEAK_WAVELENGTH_MICRON = 102.8
PEAK_WAVELENGTH_SLOPE = -0.068
PEAK_WAVELENGTH_LUMINOSITY = 1e12
"""Rest wavelength where S_nu peaks = 102.8 um (L_IR / 1e12 Lsun)**-0.068 for dusty star-forming
galaxies at 0 < z < 5 (Casey et al. 2018, ApJ 862 77). Drew & Casey 2022 (ApJ 930 142)
find 92 um and -0.09 at z < 2. The relation of Casey et al. 2018 describes the far-infrared
photometry of galaxies with spectroscopic redshift better, at every redshift."""

DUST_EMISSIVITY_INDEX = 1.9
DUST_EMISSIVITY_INDEX_SCATTER = 0.4
"""Submillimetre galaxies of ALESS: beta = 1.9 +- 0.4 (da Cunha et al. 2021, ApJ 919 30)."""

SUBMILLIMETRE_EMISSIVITY_INDEX = 2.0
SUBMILLIMETRE_EMISSIVITY_INDEX_SCATTER = 0.2
"""Effective emissivity index of submillimetre galaxies with Herschel photometry (Magnelli et al.
2012, A&A 539 A155, abstract)."""

INFRARED_LUMINOSITY_MICRON = (8.0, 1000.0)
"""Rest wavelengths between which L_IR is defined (Sanders & Mirabel 1996, ARA&A 34 749)."""

LUMINOSITY_FUNCTION_ALPHA = 1.15
LUMINOSITY_FUNCTION_SIGMA = 0.52
LUMINOSITY_FUNCTION_LOG_L = 10.12
LUMINOSITY_FUNCTION_LOG_PHI = -2.29
LUMINOSITY_FUNCTION_REDSHIFT = 0.15
LUMINOSITY_EVOLUTION = (3.55, 1.85, 1.62)
DENSITY_EVOLUTION = (-0.57, 1.1, -3.92)
"""Infrared luminosity function: modified Schechter parameters at 0 < z < 0.3 (log L* in Lsun, log
phi* in Mpc**-3 dex**-1), and evolution as powers of 1 + z, each given as (exponent below the break,
redshift of the break, exponent above) (Gruppioni et al. 2013, MNRAS 432 23)."""

LENSING_F = 0.047
"""Effectiveness F of galaxies as singular isothermal lenses: optical depth F/30 (comoving distance
H0/c)**3 in a flat universe (Turner, Ostriker & Gott 1984, ApJ 284 1; value of Fukugita & Turner
1991, MNRAS 253 99). Magnifications mu above 2 then have a density ~ mu**-3."""

RADIO_Q = 2.646
RADIO_Q_REDSHIFT_EXPONENT = -0.023
RADIO_Q_MASS_SLOPE = -0.148
"""Infrared-radio ratio q = 2.646 (1+z)**-0.023 - 0.148 (log M*/Msun - 10) (Delvecchio et al. 2021,
A&A 647 A123, abstract)."""

RADIO_Q_SCATTER_DEX = 0.26
"""Scatter of q (Bell 2003, ApJ 586 794: 0.26 dex)."""

RADIO_SPECTRAL_INDEX = 0.75
RADIO_SPECTRAL_INDEX_SCATTER = 0.29
"""S ~ nu**-index between 610 MHz and 1.4 GHz for submillimetre galaxies: 0.75 +- 0.29 (Ibar et al.
2010, MNRAS 401 L53)."""

Q_REFERENCE_FREQUENCY_HZ = 3.75e12
"""q = log10(L_IR / 3.75e12 Hz / L_1.4GHz) (Helou, Soifer & Rowan-Robinson 1985, ApJ 298 L7)."""

SOLAR_LUMINOSITY_W = 3.828e26
"""IAU 2015 resolution B3."""

CO_LUMINOSITY_SCATTER_DEX = 0.3
"""Assumed: scatter of log L'_CO at given L_IR about the relation below."""

CO_LUMINOSITY_SLOPE = 1.37
CO_LUMINOSITY_INTERCEPT = -1.74
"""log L_IR/Lsun = 1.37 log L'_CO(1-0)/(K km/s pc2) - 1.74 (Carilli & Walter 2013, ARA&A 51 105)."""

LINE_LUMINOSITY_FACTOR = 3.25e7
"""L' = 3.25e7 S dv nu_obs**-2 D_L**2 (1+z)**-3 in K km/s pc2 with Jy km/s, GHz, Mpc (Solomon &
Vanden Bout 2005, ARA&A 43 677)."""

LINES_HZ = {
    "CO(1-0)": 115.2712018e9,
    "CO(2-1)": 230.5380000e9,
    "CO(3-2)": 345.7959899e9,
    "CO(4-3)": 461.0407682e9,
    "[CI](1-0)": 492.1606510e9,
    "CO(5-4)": 576.2679305e9,
    "CO(6-5)": 691.4730763e9,
    "CO(7-6)": 806.6518060e9,
    "[CI](2-1)": 809.3419700e9,
    "CO(8-7)": 921.7997000e9,
    "CO(9-8)": 1036.9123930e9,
    "[CII]": 1900.5369000e9,
}
"""Rest frequencies in Hz (CDMS, Endres et al. 2016, J. Mol. Spectrosc. 327 95)."""

LINE_RATIOS = {
    "CO(1-0)": 1.0,
    "CO(2-1)": 0.84,
    "CO(3-2)": 0.52,
    "CO(4-3)": 0.41,
    "[CI](1-0)": 0.17,
    "CO(5-4)": 0.32,
    "CO(6-5)": 0.21,
    "CO(7-6)": 0.18,
    "[CI](2-1)": 0.094,
    "CO(8-7)": 0.11,
    "CO(9-8)": 0.08,
    "[CII]": 1.16,
}
"""L' relative to CO(1-0) in submillimetre galaxies: CO to J = 7 from Bothwell et al. 2013 (MNRAS
429 3047); CO(8-7) from the median 0.36 against CO(5-4) of four galaxies, and CO(9-8) from one, of
Yang et al. 2017 (A&A 608 A144); [CI](1-0) from the stack of Reuter et al. 2023 (ApJ 948 44);
[CI](2-1) = 0.55 [CI](1-0) (Walter et al. 2011, ApJ 730 18); [CII] from 5200 in luminosity (Gullberg
et al. 2015, MNRAS 449 2883, abstract)."""

GAS_MASS_PER_CO_LUMINOSITY = 4.36
"""Mass of the molecular gas, helium included, over L' of CO(1-0), in Msun/(K km/s pc2): 2e20
hydrogen molecules per cm2 and K km/s, as recommended for the disc of the Milky Way within 30 %
(Bolatto, Wolfire & Leroy 2013, arXiv:1301.3498, abstract), times 1.36 for helium. Assumed for all
galaxies, although starbursts have less gas for their CO."""

LINE_RATIO_SCATTER_DEX = 0.2
"""Scatter of CO ratios between neighbouring transitions: 0.16 to 0.24 dex (individual galaxies of
the DIGAME compilation, CO(4-3), CO(6-5) and CO(7-6) against CO(5-4))."""

LINE_WIDTH_KM_S = 400.0
LINE_WIDTH_SCATTER_DEX = 0.25
"""Median full width at half maximum and scatter of 365 lines of the DIGAME compilation (T. Greve).
Submillimetre galaxies alone have 510 km/s (Bothwell et al. 2013, MNRAS 429 3047)."""

FLUX_SCALE_ERROR = 0.10
"""Error of the flux scales of different receivers and telescopes against each other, as a fraction:
5 to 10 % at ALMA, depending on the band (ALMA Technical Handbook, chapter on calibration), more
elsewhere."""

# --- Simulated galaxies ---

FIELD_REDSHIFTS = (
    (0.0, 0.025, 0.10, 0.25, 0.50, 0.75, 0.90, 0.975, 1.0),
    (0.08, 0.26, 0.46, 0.70, 1.15, 1.92, 2.60, 3.38, 5.5),
)
"""Cumulative shares of galaxies, and the redshifts below which they lie: percentiles of z_phot in
the GOODS-N super-deblended catalogue (Liu et al. 2018, ApJ 853 172)."""

SUBMILLIMETRE_REDSHIFT = 2.61
SUBMILLIMETRE_REDSHIFT_SCATTER = 0.22
"""Median redshift of submillimetre galaxies, and scatter in ln(1 + z): 68 % lie between 1.8 and 3.4
(Dudzeviciute et al. 2020, MNRAS 494 3828)."""

LENSED_REDSHIFT = 3.80
LENSED_REDSHIFT_SCATTER = 0.20
"""Median redshift of the SPT sample, and scatter in ln(1 + z) (Reuter et al. 2020, ApJ 902 78)."""

LENSED_LOG_LUMINOSITY = 12.88
"""log10 of L_IR in Lsun, corrected for lensing, of the SPT sample: L_FIR is 12.78 (Reuter et al.
2020, ApJ 902 78, table F1), to which the mid-infrared adds 0.1 (assumed)."""

PEAK_WAVELENGTH_SCATTER_DEX = 0.053
"""Scatter of the peak wavelength about its relation with luminosity, measured on the 46 rows of
Reuter et al. 2020 (ApJ 902 78), table F1, with luminosities corrected for lensing."""

MAIN_SEQUENCE_SLOPE = (0.84, -0.026)
MAIN_SEQUENCE_INTERCEPT = (-6.51, 0.11)
"""log SFR = (0.84 - 0.026 t) log M* - (6.51 - 0.11 t), Msun/yr and Msun, t the age of the universe
in Gyr (Speagle et al. 2014, ApJS 214 15, equation 28)."""

STAR_FORMATION_RATE_PER_LUMINOSITY = 1e-10
"""SFR / L_IR in Msun/yr/Lsun (Kennicutt 1998, ARA&A 36 189, for the initial mass function of
Chabrier 2003)."""

AROMATIC_BANDS = (
    (3.3, 0.05, 0.06),
    (6.22, 0.06, 0.55),
    (7.7, 0.126, 1.0),
    (8.61, 0.06, 0.35),
    (11.3, 0.06, 0.50),
    (12.6, 0.06, 0.30),
    (17.0, 0.08, 0.15),
)
"""Complexes of aromatic bands in spectra of star-forming galaxies, roughly after figure 13 and
table 3 of Smith et al. 2007 (ApJ 656 770): centre in micrometre, full width at half maximum over
centre, and strength relative to the complex at 7.7 um."""

INFRARED_TO_8_MICRON = 4.9
INFRARED_TO_8_MICRON_SCATTER_DEX = 0.2
"""L_IR / nu L_nu(8 um) of the infrared main sequence: 4.9 (+2.9, -2.2) (Elbaz et al. 2011, A&A 533
A119)."""

MID_INFRARED_SLOPE_SCATTER = 0.5
"""Scatter of MID_INFRARED_SLOPE between galaxies: 2.0 +- 0.5 (Casey 2012, MNRAS 425 3094)."""

ATTENUATION_RATIO = 4.05
ATTENUATION_FACTOR = 2.659
ATTENUATION_BLUE = (-2.156, 1.509, -0.198, 0.011)
ATTENUATION_RED = (-1.857, 1.040)
ATTENUATION_BREAK_MICRON = 0.63
"""Attenuation of starlight by dust, A/A_V = k/4.05 with k = 2.659 times a polynomial in
1/wavelength[um], blue and red of the break, plus 4.05 (Calzetti et al. 2000, ApJ 533 682, equation
4)."""

LYMAN_SERIES_MICRON = (0.121567, 0.102572, 0.097254, 0.094974)
LYMAN_SERIES_OPACITY = (3.6e-3, 1.7e-3, 1.2e-3, 9.3e-4)
LYMAN_OPACITY_EXPONENT = 3.46
LYMAN_LIMIT_MICRON = 0.091175
"""Mean opacity of the intergalactic medium: the sum over the Lyman series of A (wavelength observed
/ wavelength of the line)**3.46 shortward of each line at the galaxy's redshift (Madau 1995, ApJ 441
18)."""

TORUS_SLOPES = (1.8, 0.2)
TORUS_BREAKS_MICRON = (19.0, 40.0)
"""Dust around active nuclei: a broken power law S ~ wavelength**slope, flatter beyond some 19 um,
that falls steeply beyond 40 um (Mullaney et al. 2011, MNRAS 414 1082)."""

THERMAL_RADIO_RATIO = 10.0
THERMAL_RADIO_INDEX = 0.1
"""Total over thermal radio emission of star formation = 1 + 10 (nu/GHz)**(0.1 - index), where index
is that of the synchrotron emission (Condon 1992, ARA&A 30 575, section 3.2)."""

DISC_CO_RATIO = 0.23
QUASAR_CO_RATIO = 0.69
"""L' of CO(5-4) over CO(1-0) in discs (Daddi et al. 2015, A&A 577 A46) and in quasars (Carilli &
Walter 2013, ARA&A 51 105)."""

RADIO_RADIUS_KPC = {"main sequence": 1.5, "above": 1.0}
RADIO_RADIUS_EXPONENT = {"main sequence": -0.26, "above": 0.12}
"""Median effective radius of the radio emission of star-forming galaxies on the main sequence and
above it, and alpha of its evolution as (1 + z)**alpha over 0.35 < z < 2.25 (Jimenez-Andrade et al.
2019, A&A 625 A114, abstract). The sizes of the far-infrared emission are the same within 15 %
(Bondi et al. 2018, A&A 618 L8, abstract)."""

SUBMILLIMETRE_RADIUS_KPC = 1.2
SUBMILLIMETRE_RADIO_RADIUS_FACTOR = 2.0
"""Half of the median half-light diameter of submillimetre galaxies at 870 um, 2.4 kpc, and the mean
factor by which they are larger at 1.4 GHz (Simpson et al. 2015, ApJ 799 81, abstract)."""

RADIUS_SCATTER_DEX = 0.2
"""Scatter of the radii of galaxies at given mass: less than or about 0.2 dex, of starlight (van der
Wel et al. 2014, ApJ 788 28, abstract). Assumed for dust and radio emission."""

FWHM_PER_RADIUS = 2.43
"""Full width at half maximum of the Gaussian that is fitted to an exponential disc over the radius
that encloses half of its light (Murphy et al. 2017, ApJ 839 35)."""

DOUBLE_EXTENT_KPC = 106.6
"""Median projected length of edge-brightened (FR II) radio sources at 3 GHz in COSMOS (Vardoulaki
et al. 2021, A&A 648 A102, abstract)."""

DOUBLE_PEAKED_SHARE = 0.25
"""Share of the CO lines of submillimetre galaxies that show two peaks, about a quarter (Bothwell et
al. 2013, MNRAS 429 3047)."""

STANDING_WAVE_GAIN = 0.03
"""Modulation of the gain by standing waves, as a fraction of the continuum, at the IRAM 30 m
telescope, where they have periods of 7 and 30 MHz (Lazareff & Hein 1998, IRAM report "Baseline
ripples"). ALMA's total-power array shows 200 to 300 MHz on bright sources (ALMA Science Portal,
Knowledgebase)."""

MAGNIFICATION = 6.3
"""Median magnification of lensed galaxies of the SPT sample at 870 um (Spilker et al. 2016, ApJ 826
112, abstract)."""

# --- Observatories ---

OBSERVATORY_LATITUDES_DEG = (-23.0229, 44.6339)
"""Geographic latitudes of ALMA (Array Operations Site) and NOEMA (Plateau de Bure); ALMA Technical
Handbook and IRAM."""
