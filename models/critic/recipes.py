"""State the recipes by which the critic and its generator are trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Attributes:
        galaxies: simulated galaxies.
        simulated_epochs: passes over the simulated galaxies of the training split.
        real_epochs: passes over the real ones, each time another example of each.
        simulated_share: of each batch in these passes.
        frozen_epochs: further passes in which the generator stays as it is and the critic comes as
            near to its optimum as it can.
        further_epochs: more of these, the rate begun anew.
        measured_every: epochs between two measurements on the validation split.
        checkpoint_every: epochs between two checkpoints.
        seed: the seed of everything random.
        batch: examples a step.
        critic_steps: steps of the critic for one of the generator.
        gradient_penalty: weight of the penalty.
        ranking_weight: weight of ranking genuine ones above corrupted ones; small, so that the
            distance goes on leading the generator.
        learning_rate: of Adam, for both networks; it falls to 0.
        averaging: of the generator's weights over its steps, by which the average decays.
        past_generators: earlier ones kept, by which the critic alone is not fooled either.
        frozen_learning_rate: of Adam for the critic alone; it falls to 0.
        weight_decay: of the critic alone.
        dropout: of the critic alone.
        adversarial_dropout: of the critic against its generator.
        hidden: largest share of a fingerprint's fluxes that the critic is not shown, genuine and
            drawn alike; from none to as many, each time others.
    """

    galaxies: int = 12_000
    simulated_epochs: int = 150
    real_epochs: int = 850
    simulated_share: float = 0.5
    frozen_epochs: int = 200
    further_epochs: int = 800
    measured_every: int = 20
    checkpoint_every: int = 10
    seed: int = 20
    batch: int = 64
    critic_steps: int = 3
    gradient_penalty: float = 10.0
    ranking_weight: float = 0.5
    learning_rate: float = 4e-4
    averaging: float = 0.999
    past_generators: int = 6
    frozen_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.2
    adversarial_dropout: float = 0.0
    hidden: float = 0.0

    @property
    def adversarial_epochs(self) -> int:
        """Epochs of both networks."""
        return self.simulated_epochs + self.real_epochs

    @property
    def epochs(self) -> int:
        """All epochs."""
        return self.adversarial_epochs + self.frozen_epochs + self.further_epochs


RECIPES = {
    "full": Recipe(),
    "short": Recipe(
        simulated_epochs=10,
        real_epochs=40,
        frozen_epochs=20,
        further_epochs=40,
        measured_every=10,
        averaging=0.99,
    ),
}
