"""States the recipes by which the critic and its generator are trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How critic and generator are trained.

    Attributes:
        galaxies: the number of simulated galaxies.
        simulated_epochs: passes over the simulated galaxies of the training split.
        real_epochs: passes over the real galaxies, each time with another example of each.
        simulated_share: the share of simulated galaxies in the batches of these passes.
        frozen_epochs: further passes, in which the generator stays as it is and the critic gets as
            near to its optimum as it can.
        further_epochs: more of these, which begin again with the highest learning rate.
        measured_every: the epochs between two measurements on the validation split.
        checkpoint_every: the epochs between two checkpoints.
        seed: the seed of everything random.
        batch: the number of examples in a step.
        critic_steps: the steps of the critic for one of the generator.
        gradient_penalty: the weight of the gradient penalty.
        ranking_weight: the weight of ranking genuine examples above corrupted ones; it is small, so
            that the distance still leads the generator.
        learning_rate: the learning rate of Adam for both networks; it falls to 0.
        averaging: the factor by which the average of the generator's weights decays in a step.
        past_generators: the number of earlier generators that are kept, so that the critic that is
            trained alone learns to recognise them too.
        frozen_learning_rate: the learning rate of AdamW for the critic alone; it falls to 0.
        weight_decay: the weight decay of the critic alone.
        dropout: the dropout of the critic alone.
        adversarial_dropout: the dropout of the critic against its generator.
        hidden: the largest share of a fingerprint's fluxes that are hidden from the critic. The
            share is drawn for each fingerprint, from none to this.
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
        """The number of epochs in which both networks are trained."""
        return self.simulated_epochs + self.real_epochs

    @property
    def epochs(self) -> int:
        """The number of all epochs."""
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
