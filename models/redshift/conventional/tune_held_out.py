"""Tunes constants that have not seen some galaxies, to judge what is in force on these.

For each fold the constants are tuned on the other ones, and for each field on the other fields.
Takes some ten minutes.

MMBROKER_DATA=folder/of/tables python -m mmbroker.models.redshift.conventional.tune_held_out
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from rich.progress import track

from mmbroker.models.packaged.networks import WEIGHTS
from mmbroker.models.real_data.catalogues import COSMOS, GOODS_NORTH, SPT
from mmbroker.models.real_data.folder import add_data_option
from mmbroker.models.redshift.conventional.tune import fold_of, samples, tune
from mmbroker.processors.redshift import ConventionalRedshift
from mmbroker.processors.redshift.tuned import Tuned

PATH = WEIGHTS / "redshift_constants_held_out.json"
FOLDS = 5
FIELDS = {"GOODS-N": "COSMOS and SPT", "COSMOS": "GOODS-N", "SPT": "GOODS-N"}
"""From where the constants are with which a field is judged."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Estimators with constants that have not seen some galaxies.

    Attributes:
        folds: for each fold, with constants of the other ones.
        fields: by name of a field, with constants of the others.
    """

    folds: tuple[ConventionalRedshift, ...]
    fields: dict[str, ConventionalRedshift]

    def without(self, name: str) -> ConventionalRedshift:
        """The estimator whose constants have not seen a galaxy, by its name."""
        return self.folds[int(fold_of([name], len(self.folds))[0])]


@cache
def load_held_out(path: Path = PATH) -> HeldOut:
    """Read the constants that this module wrote."""
    content = json.loads(path.read_text())
    fields = {name: ConventionalRedshift(Tuned(**each)) for name, each in content["fields"].items()}
    return HeldOut(
        tuple(ConventionalRedshift(Tuned(**each)) for each in content["folds"]),
        {field: fields[of] for field, of in FIELDS.items()},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mmbroker.models.redshift.conventional.tune_held_out",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_option(parser)
    parser.add_argument("--path", type=Path, default=PATH, help="the file to write")
    options = parser.parse_args(arguments)
    many = samples([options.data / name for name in (GOODS_NORTH, COSMOS, SPT[0])], FOLDS)
    folds = [
        asdict(tune([one.select(one.fold != fold) for one in many]))
        for fold in track(range(FOLDS), "folds")
    ]
    in_goods = [one.name.startswith(GOODS_NORTH) for one in many]
    fields = {
        name: asdict(tune([one for one, here in zip(many, in_goods, strict=True) if here == goods]))
        for name, goods in track((("GOODS-N", True), ("COSMOS and SPT", False)), "fields")
    }
    options.path.write_text(json.dumps({"folds": folds, "fields": fields}, indent=1) + "\n")


if __name__ == "__main__":
    main()
