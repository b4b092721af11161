"""A training objective of a user's own, whose mistakes are said under its name."""

from collections.abc import Mapping
from typing import Any

import torch

from distill.config.sections.training import UserObjective
from distill.errors import InputError
from distill.plugins import told


class UserLoss:
    """See :class:`distill.training.objectives.base.Objective`."""

    def __init__(self, config: UserObjective) -> None:
        """Load and make it.

        Raises:
            InputError: that fails, or it is no objective.
        """
        made = config.make("train.objective", "loss")
        self._name, self._loss = f"The objective {config.use} (train.objective)", made.loss
        self.columns: list[str] = getattr(made, "columns", [])
        if not isinstance(self.columns, list | tuple) or not all(isinstance(name, str) for name in self.columns):
            raise InputError(f"{self._name} has columns = {self.columns!r}, but it must be a list of names of columns "
                             "of the training rows, or be left out.")

    def loss(self, model: torch.nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return what the user's code returns.

        Raises:
            InputError: it fails, or returns something else than a number with a gradient.
        """
        try:
            found = self._loss(model, batch)
        except (InputError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise InputError(f"{self._name} fails ({told(error)}). Mend it and run the same command again.") from error
        if not isinstance(found, torch.Tensor) or found.dim() or (torch.is_grad_enabled() and not found.requires_grad):
            shown = f"a tensor of the shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else repr(found)
            raise InputError(f"{self._name} returned {shown:.200}, but must return one number that depends on the "
                             "model: a tensor without dimensions, with a gradient. Mend it and run the same command "
                             "again.")
        return found
